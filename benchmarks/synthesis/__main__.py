"""Synthesis, measured: the pipeline over the bare engine and over what teams write themselves, its overhead beside
distilabel's, more actors, many rows, uneven rows.

Each part runs in a process of its own. vLLM's part runs in the environment that `make vllm` makes, distilabel's in one
of its own (`make peers`); where one is missing its figures are null, and that is said.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.synthesis import engines, logic
from benchmarks.synthesis.calibration import calibration
from synthrec import console, models

PARTS: dict[str, Callable[[Path, str], dict[str, Any] | None]] = {
    "calibration": calibration,
    "noop": logic.noop,
    "skew": logic.skew,
    "scaling": logic.scaling,
    "memory": logic.memory,
    "llamacpp": engines.llamacpp,
    "transformers": engines.transformers,
    "vllm": engines.vllm,
}
# What each part is given beside its folder: the name of an argument.
GIVEN = {"calibration": "data", "noop": "distilabel"}


def main() -> None:
    given = _arguments()
    folder = Path(given.run_dir).absolute()
    if given.part:
        print(json.dumps(PARTS[given.part](folder, getattr(given, GIVEN.get(given.part, "model")))))
        return
    shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = {"benchmark": "synthesis", "machine": machine()}
    model = given.model or str(models.convert(models.cache_dir() / "gemma-3-270m"))
    for name in given.parts.split(","):
        console.say("", name)
        result[name] = _part(name, given, model)
        console.say(f"    {json.dumps(result[name])}")
    result |= _ratios(result)
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas between")
    parser.add_argument("--part", choices=list(PARTS), help="run this one here (what the others are run with)")
    parser.add_argument("--model", default="", help="folder of a causal model; default: the packaged one, converted")
    parser.add_argument("--data", default="../shared/data/zh_reviews", help="folder of judged Chinese reviews")
    parser.add_argument("--run-dir", default="runs/benchmark-synthesis", help="where to work; emptied first")
    parser.add_argument("--vllm", default=".venv-vllm/bin/python", help="a Python with vLLM and synthrec")
    parser.add_argument("--distilabel", default=".venv-peers/bin/python", help="a Python with distilabel")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def _part(name: str, given: argparse.Namespace, model: str) -> dict[str, Any] | None:
    python = given.vllm if name == "vllm" else sys.executable
    if not Path(python).is_file():
        console.warn(f"no {python}: this part is left out")
        return None
    command = [python, "-m", "benchmarks.synthesis", "--part", name, "--run-dir", given.run_dir]
    command += ["--model", model, "--distilabel", given.distilabel, "--data", given.data]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if told.returncode:
        console.warn(f"{name} ended with {told.returncode}")
        return None
    found: dict[str, Any] | None = json.loads(told.stdout.splitlines()[-1])
    return found


def _ratios(result: dict[str, Any]) -> dict[str, Any]:
    """The figures that are promised; null where a part of one is missing."""

    def over(a: tuple[str, str], b: tuple[str, str]) -> float | None:
        one, other = ((result.get(part) or {}).get(key) for part, key in (a, b))
        return one / other if one and other else None

    def over_hugging(own: str, theirs: str) -> float | None:
        part = result.get("transformers") or {}
        return part[own] / max(part[theirs].values()) if own in part else None  # at its best size of batch

    by_engine = {name: (result.get(name) or {}).get("pipeline_over_engine") for name in ("llamacpp", "vllm")}
    shown = [figure for figure in by_engine.values() if figure]
    scaled = (result.get("scaling") or {}).get("efficiency_by_actors", {})
    return {
        "pipeline_over_engine": min(shown, default=None),
        "pipeline_over_engine_by": by_engine,
        "over_naive_loop": over(("transformers", "generate_per_s"), ("transformers", "naive_loop_per_s")),
        "over_hf_pipeline": over_hugging("generate_per_s", "hf_pipeline_per_s"),
        # Generating the label as a team without `choose` would; and with our own engine, which shares prefixes too.
        "choose_over_generate": over_hugging("choose_per_s", "hf_pipeline_label_per_s"),
        "choose_over_own_generate": over(("transformers", "choose_per_s"), ("transformers", "generate_label_per_s")),
        "choose_over_naive": over(("transformers", "pipeline_choose_per_s"), ("transformers", "naive_scores_per_s")),
        "noop_over_distilabel": over(("noop", "noop_per_s"), ("noop", "distilabel_per_s")),
        "scaling_efficiency_16": scaled.get("16"),
        "skew_costs": (result.get("skew") or {}).get("skew_costs"),
    }


if __name__ == "__main__":
    main()
