"""Training samples a second of the bi-encoder: beside the sentence-transformers trainer, and of two ranks beside one.

Same model, pairs, batch, lengths, loss (InfoNCE over in-batch negatives at the same temperature; there:
MultipleNegativesRankingLoss) and precision, float32; one thread a process. The peer's trainer runs in a Python of its
own. Each side's figure is samples by processor second over steps after the first few, so that other work on the machine
changes it little. The ranks' figure is by the clock, as they wait for each other: each has a core of its own, one rank
and two take turns, and the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.encode import STORE
from benchmarks.machine import machine
from synthrec import console, models

PEER = Path(__file__).with_name("peer_train.py")
QUERY_TOKENS, PRODUCT_TOKENS = 32, 96
TEMPERATURE = 0.05
WARM = 2  # steps before the count


def main() -> None:
    given = _arguments()
    if given.rank is not None:
        _rank(given)
        return
    result: dict[str, Any] = {"benchmark": "train_step", "machine": machine(), "batch": given.batch}
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.json"
        pairs.write_text(json.dumps(_pairs(given.batch * (given.steps + WARM) * 2)), encoding="utf-8")
        result |= _beside(given, pairs)
        result |= _ranks(given, pairs)
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="embedded", help="'embedded' or a folder that both sides can load")
    parser.add_argument("--peer", default=".venv-st/bin/python", help="a Python with sentence-transformers[train]")
    parser.add_argument("--batch", type=int, default=32, help="pairs a rank and step")
    parser.add_argument("--steps", type=int, default=8, help="that count, a turn")
    parser.add_argument("--turns", type=int, default=3, help="of each side; the median is told")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--pairs", help=argparse.SUPPRESS)
    return parser.parse_args()


def _pairs(count: int) -> list[dict[str, str]]:
    """The store's English pairs of a search and the product clicked, and of a title and its text, over and over."""
    from benchmarks.encode import products

    texts = products()
    lines = (STORE / "searches.jsonl").read_text(encoding="utf-8").split("\n")
    searches = [json.loads(line) for line in lines if line]
    found = [(one["query"], texts[clicked], clicked) for one in searches for clicked in one["clicks"][:1]]
    found += [(text.split(". ")[0], text, product) for product, text in texts.items()]
    rows = [dict(zip(("query", "product", "group"), one, strict=True)) for one in dict.fromkeys(found)]
    rows = [row for row in rows if row["query"].isascii()]
    return [rows[(i * 7919) % len(rows)] for i in range(count)]


def _beside(given: argparse.Namespace, pairs: Path) -> dict[str, Any]:
    """Samples by processor second of both sides, turn by turn."""
    if not Path(given.peer).is_file():
        console.warn(f"no {given.peer}: nothing to compare the step with")
        return {"over_sentence_transformers": None}
    own = [sys.executable, "-m", "benchmarks.train_step", "--rank", "0"]
    found: dict[str, list[float]] = {"ours": [], "sentence_transformers": []}
    for _ in range(given.turns):
        for name, command in (("ours", own), ("sentence_transformers", [given.peer, str(PEER)])):
            told = _run([[*command, *_same(given, pairs)]])[0]
            found[name].append(told["samples"] / told["processor_s"])
            console.say(f"    {name}: {found[name][-1]:.2f} samples by processor second")
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "samples_per_processor_s": middle,
        "over_sentence_transformers": middle["ours"] / middle["sentence_transformers"],
        "each_turn": found,
    }


def _ranks(given: argparse.Namespace, pairs: Path) -> dict[str, Any]:
    """Samples by the clock's second of one rank and of two, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        console.warn("two ranks need two cores")
        return {"two_ranks_over_one": None}
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(given.turns):
        for ranks in found:
            own = [sys.executable, "-m", "benchmarks.train_step", "--ranks", str(ranks), *_same(given, pairs)]
            told = _run([[*own, "--rank", str(rank)] for rank in range(ranks)])
            found[ranks].append(sum(one["samples"] for one in told) / max(one["clock_s"] for one in told))
            console.say(f"    {ranks} ranks: {found[ranks][-1]:.2f} samples/s")
    middle = {ranks: statistics.median(values) for ranks, values in found.items()}
    return {"samples_per_s_of_ranks": middle, "two_ranks_over_one": middle[2] / middle[1], "each_turn_of_ranks": found}


def _same(given: argparse.Namespace, pairs: Path) -> list[str]:
    found = {"encoder": models.encoder(given.encoder), "pairs": pairs, "batch": given.batch, "steps": given.steps}
    return [part for name, value in found.items() for part in (f"--{name}", str(value))]


def _run(commands: list[list[str]]) -> list[Any]:
    """What the processes print last, run together, each bound to a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    settings = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port())}
    running = [
        subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=subprocess.PIPE,
            text=True,
            env=settings | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(commands))},
        )
        for rank, (core, command) in enumerate(zip(cores, commands, strict=False))
    ]
    told = [one.communicate()[0] for one in running]
    if any(one.returncode for one in running):
        raise SystemExit("a side of the comparison failed: see above")
    return [json.loads(text.splitlines()[-1]) for text in told]


def _port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rank(given: argparse.Namespace) -> None:
    """One rank of our own training: the objective and the loop that Ray Train's workers run, without Ray."""
    import torch
    from accelerate import Accelerator

    from synthrec.recommenders.bi_encoder import BiEncoder, Contrast, Objective
    from synthrec.training import loop
    from synthrec.training.distributed import gather

    torch.set_num_threads(1)
    rows = json.loads(Path(given.pairs).read_text(encoding="utf-8"))
    accelerator = Accelerator(cpu=True)
    objective = Objective(BiEncoder.load(given.encoder, QUERY_TOKENS, PRODUCT_TOKENS), Contrast(TEMPERATURE), gather)
    groups = objective.parameter_groups()
    model: Any = accelerator.prepare_model(objective)
    used = given.batch * (given.steps + WARM) * given.ranks
    plan = loop.Plan(used, given.batch, 1, 0.1, 13)
    times: list[tuple[float, float]] = []

    def loss(numbers: list[int]) -> torch.Tensor:
        batch = [rows[i] for i in numbers]
        return model({name: [row[name] for row in batch] for name in ("query", "product", "group")})

    def tick(step: int, value: float) -> None:
        times.append((time.perf_counter(), time.process_time()))

    loop.train(loss, model, groups, plan, accelerator, lambda *_: None, tick)
    clock, processor = (times[-1][i] - times[WARM - 1][i] for i in range(2))
    print(json.dumps({"samples": given.batch * given.steps, "clock_s": clock, "processor_s": processor}))


if __name__ == "__main__":
    main()
