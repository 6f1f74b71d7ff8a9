"""Next-item recommendation on the 5-core Beauty set: leave-one-out, every item ranked, several seeds, both policies.

The last item of each shopper is the test, the one before it the validation (which stops the training and picks the
epoch), the rest is learnt from. A killed run goes on from its checkpoints when called again with the same --run-dir.
The headline leaves out what the shopper has taken before, as the published figure's own code does when it validates;
figures that keep it stand beside.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kept import same_settings
from benchmarks.machine import machine
from benchmarks.sequence.pace import pace
from benchmarks.sequence.training import Recipe, fit, ndcg, some
from synthrec import console
from synthrec.evaluation.baselines import EASE, ItemKNN, Popularity
from synthrec.evaluation.metrics import Values
from synthrec.evaluation.recommendation import Judged, judge
from synthrec.evaluation.significance import paired_bootstrap
from synthrec.evaluation.splits import Items, Split, leave_one_out
from synthrec.recommenders.base import Scorer
from synthrec.recommenders.sequential import Shape
from synthrec.training.checkpoints import Checkpoints

POLICIES = {"viewed_left_out": True, "viewed_kept": False}
RECIPE = Recipe(
    Shape(width=128, dropout=0.5, negatives=1024, logq=False, temperature=0.07),
    batch_size=256,
    learning_rate=2e-3,
    warmup=0.02,
    decay=True,
    patience=10,
)
BASELINES: dict[str, Callable[[Sequence[Items], int], Scorer]]
BASELINES = {"popularity": Popularity, "ItemKNN": ItemKNN, "EASE": EASE}
PUBLISHED = {"recall@10": 0.0921, "ndcg@10": 0.0531, "of": "SASRec with sampled softmax (arXiv:2508.06450)"}


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    sequences = _read(Path(given.data) / "sequences.txt")
    items = int(max(one.max() for one in sequences)) + 1
    split = leave_one_out(sequences)
    recipe = _recipe(given.recipe)
    runs = [_trained(split, items, recipe, seed, given) for seed in given.seeds]
    if given.tune:
        print(json.dumps({"recipe": asdict(recipe), "epochs": [run["epochs"] for run in runs]}))
        return
    runs = [run | _judged(run["model"], split) for run in runs]
    baselines = {}
    for name in given.baselines:
        console.say(name)
        baselines[name] = _judged(BASELINES[name](split.train, items), split)
    means = {policy: _mean([run[policy] for run in runs]) for policy in POLICIES}
    headline = means["viewed_left_out"]
    result = {
        "benchmark": "sequence",
        "machine": machine(),
        "protocol": "leave-one-out, all items ranked, items of the shopper's history left out",
        "shoppers": len(split.test),
        "items": items,
        "recall_10": headline["recall@10"],
        "hr_10": headline["hr@10"],
        "ndcg_10": headline["ndcg@10"],
        "published": PUBLISHED,
        "seeds": given.seeds,
        "each": {policy: [_figures(run[policy]) for run in runs] for policy in POLICIES},
        "means": means,
        "baselines": {name: {policy: _figures(one[policy]) for policy in POLICIES} for name, one in baselines.items()},
        "ndcg_10_over_best_baseline": _lift(runs, baselines) if baselines else None,
        "recipe": asdict(recipe) | {"epochs": given.epochs, "threads": given.threads},
        "epochs": [run["epochs"] for run in runs],
        "seconds_per_epoch": _pace(split, items, given),
    }
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon_beauty", help="folder of sequences.txt")
    parser.add_argument("--run-dir", default="runs/benchmark-sequence", help="where checkpoints are, to go on from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40, help="at most so many")
    parser.add_argument("--recipe", nargs="*", default=[], metavar="NAME=VALUE", help="other settings than RECIPE's")
    parser.add_argument("--tune", action="store_true", help="tell the validation only, and leave the test unseen")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for ours and for RecTools")
    parser.add_argument(
        "--rectools", default=".venv-rectools/bin/python", help="Python of an environment with RecTools"
    )
    parser.add_argument("--baselines", nargs="*", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--turns", type=int, default=3, help="epochs timed of ours and of RecTools'; 0 for none")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def _read(path: Path) -> list[Items]:
    """A shopper a line: its number, then those of its items from 1, oldest first."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [np.array(line.split()[1:], np.int64) - 1 for line in lines]


def _recipe(changes: Sequence[str]) -> Recipe:
    """RECIPE with some of its settings, or of its shape's, changed: `dropout=0.3`."""
    new = {name: json.loads(value) for name, _, value in (one.partition("=") for one in changes)}
    shape = {name: new.pop(name) for name in list(new) if name in asdict(RECIPE.shape)}
    return replace(RECIPE, shape=replace(RECIPE.shape, **shape), **new)


def _trained(split: Split, items: int, recipe: Recipe, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    folder = Path(given.run_dir) / f"seed-{seed}"
    same_settings(folder, asdict(recipe) | {"epochs": given.epochs})
    keep = Checkpoints(folder)
    console.say(f"seed {seed}")
    validation = some(split.validation, 2000)
    model = fit(
        split.train, items, recipe, seed, given.epochs, keep, lambda model: ndcg(model, validation, split.train)
    )
    values = keep.progress().values
    epochs = {"trained": len(values), "best": int(np.argmax(values)) + 1, "validation_ndcg@10": max(values)}
    return {"model": model, "epochs": epochs}


def _judged(scorer: Scorer, split: Split) -> dict[str, Any]:
    return {policy: judge(scorer, split.test, split.train, hide) for policy, hide in POLICIES.items()}


def _figures(judged: Judged) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in judged.by_case.items()} | {
        name: one for name, one in judged.beyond.items() if one is not None
    }


def _mean(runs: Sequence[Judged]) -> dict[str, float]:
    each = [_figures(one) for one in runs]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def _lift(runs: list[dict[str, Any]], baselines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """NDCG@10 over the best baseline's, over shoppers; ours is each shopper's mean over the seeds."""

    def of(one: dict[str, Any]) -> Values:
        return one["viewed_left_out"].by_case["ndcg@10"]  # type: ignore[no-any-return]

    best = max(baselines, key=lambda name: of(baselines[name]).mean())
    return {"baseline": best} | asdict(paired_bootstrap(np.mean([of(run) for run in runs], 0), of(baselines[best])))


def _pace(split: Split, items: int, given: argparse.Namespace) -> dict[str, Any] | None:
    if not given.turns:
        return None
    if not Path(given.rectools).is_file():
        console.warn(f"no {given.rectools} (`make peers` makes it): no epoch is timed")
        return None
    return pace(split.train, items, given.rectools, given.turns)


if __name__ == "__main__":
    main()
