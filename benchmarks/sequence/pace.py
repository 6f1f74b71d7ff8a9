"""Seconds per epoch of ours and of RecTools' SASRec at the same settings, in turns, so that both meet the same load."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.sequence.training import Recipe, fit
from synthrec import console
from synthrec.evaluation.splits import Items
from synthrec.recommenders.sequential import Shape

COMMON = Recipe(Shape(width=64, blocks=1, heads=1, longest=50, dropout=0.2, negatives=256, logq=False), batch_size=128)


def pace(train: Sequence[Items], items: int, python: str, epochs: int) -> dict[str, Any]:
    """Wall-clock and processor seconds of each epoch, and ours as a share of theirs: of the medians."""
    threads = torch.get_num_threads()
    shape = COMMON.shape
    model = {
        "n_factors": shape.width,
        "n_blocks": shape.blocks,
        "n_heads": shape.heads,
        "session_max_len": shape.longest,
        "dropout_rate": shape.dropout,
        "loss": "sampled_softmax",
        "n_negatives": shape.negatives,
        "lr": COMMON.learning_rate,
        "batch_size": COMMON.batch_size,
    }
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sequences.txt").write_text("\n".join(" ".join(map(str, one)) for one in train))
        settings = {"model": model, "epochs": epochs, "threads": threads}
        (folder / "settings.json").write_text(json.dumps(settings))
        script = Path(__file__).with_name("rectools_epochs.py")
        command = [python, str(script), str(folder / "sequences.txt"), str(folder / "settings.json")]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as peer:
            assert peer.stdin is not None and peer.stdout is not None
            for turn in range(epochs):
                peer.stdin.write("\n")
                peer.stdin.flush()
                theirs.append(_answer(peer.stdout))
                ours.append(_epoch(train, items, turn))
                console.say(f"    an epoch: ours {ours[-1][0]:.1f} s, RecTools {theirs[-1][0]:.1f} s")
    wall, processor = ([[one[i] for one in side] for side in (ours, theirs)] for i in (0, 1))
    return {
        "threads": threads,
        "settings": model,
        "ours": statistics.median(wall[0]),
        "rectools": statistics.median(wall[1]),
        "ours_over_rectools": statistics.median(wall[0]) / statistics.median(wall[1]),
        "ours_over_rectools_processor": statistics.median(processor[0]) / statistics.median(processor[1]),
        "each": {"ours": wall[0], "rectools": wall[1]},
    }


def _answer(lines: Any) -> tuple[float, float]:
    for line in lines:
        if line.startswith("["):  # the frameworks print what they like beside it
            wall, processor = json.loads(line)
            return wall, processor
    raise RuntimeError("RecTools' process ended without an answer; its error stands above")


def _epoch(train: Sequence[Items], items: int, seed: int) -> tuple[float, float]:
    """Through the very loop that trains, without a checkpoint or a validation, as theirs is without."""
    start = time.monotonic(), time.process_time()
    fit(train, items, COMMON, seed, epochs=1)
    return time.monotonic() - start[0], time.process_time() - start[1]
