"""ml-100k, every item ranked, seen ones left out: our graph and sequential models beside RecBole's and RecTools'.

The data is in RecBole's wheel, `recbole/dataset_example/ml-100k`. A peer trains on our split, with as many threads, and
its lists are judged by our code; one whose Python is not there has no figures. Settings of ours were tuned on the
validation of seed 0; peers keep their own defaults. Each system's run of each seed is kept in `--run-dir` as it ends:
the same command goes on where it was stopped, and one with other seeds, parts or systems runs only what is new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.machine import machine
from benchmarks.ml100k.runs import Kept, Run, here, peer, run, side_by_side
from benchmarks.sequence.training import Recipe, fit
from synthrec import console
from synthrec.evaluation.baselines import EASE, ItemKNN, Popularity
from synthrec.evaluation.splits import Cases, Items, Split, leave_one_out, random_split
from synthrec.recommenders.graph import LightGCN
from synthrec.recommenders.sequential import Shape
from synthrec.storage import Folder
from synthrec.training import loop

GRAPH = {"width": 128, "layers": 3, "draws": 8}
GRAPH_PLAN = {"batch_size": 8192, "epochs": 12, "warmup": 0.05}
GRAPH_RATE = 0.03
SEQUENTIAL = Recipe(
    Shape(width=64, blocks=2, heads=2, longest=200, dropout=0.2, negatives=0, temperature=0.07),
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup=0.05,
    decay=True,
)
SEQUENTIAL_EPOCHS = 20
BASELINES = {"popularity": Popularity, "ItemKNN": ItemKNN, "EASE": EASE}
RECBOLE, RECTOOLS = (
    Path(__file__).resolve().with_name(f"{name}.py") for name in ("recbole_lightgcn", "rectools_sasrec")
)


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    sequences, items = read(Path(given.data))
    facts = {"users": len(sequences), "items": items, "interactions": sum(map(len, sequences))}
    result: dict[str, Any] = {"benchmark": "ml100k", "machine": machine(), "data": facts, "seen_items": "left out"}
    result |= {"seeds": given.seeds, "threads": given.threads}
    digest = hashlib.sha256(json.dumps([one.tolist() for one in sequences]).encode()).hexdigest()
    keep = Kept(Folder.open(given.run_dir) / "kept", (digest, given.threads))
    for name, part in PARTS.items():
        result[name] = part(sequences, items, given, keep) if name in given.parts else None
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of ml-100k.inter")
    parser.add_argument("--recbole", default=".venv-recbole/bin/python", help="Python of an environment with RecBole")
    parser.add_argument(
        "--rectools", default=".venv-rectools/bin/python", help="Python of an environment with RecTools"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of models and of the random split")
    parser.add_argument("--threads", type=int, default=1, help="of each training, ours and the peers'")
    parser.add_argument("--run-dir", default="runs/benchmark-ml100k", help="where runs are kept, and the peers work")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def read(folder: Path) -> tuple[list[Items], int]:
    """Each user's items by time, those of one moment in the file's order; and how many items there are."""
    rows = np.loadtxt(folder / "ml-100k.inter", skiprows=1, delimiter="\t", dtype=np.int64)
    rows = rows[np.argsort(rows[:, 3], kind="stable")]
    users, items = rows[:, 0] - 1, rows[:, 1] - 1
    return [items[users == user] for user in range(users.max() + 1)], int(items.max()) + 1


def graph(sequences: list[Items], items: int, given: argparse.Namespace, keep: Kept) -> dict[str, Any]:
    """Each user's items dealt at random, 8:1:1; learnt from the 8."""
    runs: dict[str, list[Run]] = {name: [] for name in ("LightGCN", "RecBole's", *BASELINES)}
    settings = GRAPH | GRAPH_PLAN | {"learning_rate": GRAPH_RATE}
    with_peer = "peer" in given.systems and here(given.recbole, RECBOLE)
    unscorable = 0
    for seed in given.seeds:
        split = random_split(sequences, (0.1, 0.1), seed)
        unscorable += int((~np.isin(np.concatenate(split.test.targets), np.concatenate(split.train))).sum())
        if "ours" in given.systems:
            ours = partial(run, partial(train_graph, split.train, items, seed), split.test, split.train)
            runs["LightGCN"].append(keep(f"graph/ours-{seed}", settings, ours))
        if with_peer:
            folder = Path(given.run_dir) / f"graph-{seed}"
            write_recbole(folder / "ml", split)
            theirs = partial(peer, given.recbole, RECBOLE, folder, split.test, seed, given.threads)
            runs["RecBole's"].append(keep(f"graph/peer-{seed}", RECBOLE.read_text(), theirs))
        if "baselines" in given.systems:
            _baselines(runs, split.train, split.test, items, keep, f"graph/{{}}-{seed}")
    return {
        "protocol": "each user's items at random 8:1:1; what was validated on counts as seen in the test",
        "settings": settings,
        "targets_without_a_score": unscorable / len(given.seeds),
    } | side_by_side(runs, "LightGCN", "RecBole's", ("recall@10", "ndcg@10"))


def sequential(sequences: list[Items], items: int, given: argparse.Namespace, keep: Kept) -> dict[str, Any]:
    """Each user's last item is to be found; learnt from all the others."""
    test, train = leave_one_out(sequences).test, [one[:-1] for one in sequences]
    runs: dict[str, list[Run]] = {name: [] for name in ("sequential", "RecTools'", *BASELINES)}
    settings = asdict(SEQUENTIAL) | {"epochs": SEQUENTIAL_EPOCHS}
    with_peer = "peer" in given.systems and here(given.rectools, RECTOOLS)
    folder = Path(given.run_dir) / "sequential"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sequences.json").write_text(json.dumps([one.tolist() for one in train]))
    for seed in given.seeds:
        if "ours" in given.systems:
            rows = windows(train, SEQUENTIAL.shape.longest)
            ours = partial(run, partial(fit, rows, items, SEQUENTIAL, seed, SEQUENTIAL_EPOCHS), test, train)
            runs["sequential"].append(keep(f"sequential/ours-{seed}", settings, ours))
        if with_peer:
            theirs = partial(peer, given.rectools, RECTOOLS, folder, test, seed, given.threads)
            runs["RecTools'"].append(keep(f"sequential/peer-{seed}", RECTOOLS.read_text(), theirs))
    if "baselines" in given.systems:
        _baselines(runs, train, test, items, keep, "sequential/{}")
    return {
        "protocol": "leave one out; learnt from all but each user's last item",
        "settings": settings,
    } | side_by_side(runs, "sequential", "RecTools'", ("hr@10", "ndcg@10"))


SYSTEMS = ("ours", "peer", "baselines")
PARTS = {"graph": graph, "sequential": sequential}


def train_graph(train: Sequence[Items], items: int, seed: int) -> LightGCN:
    torch.manual_seed(seed)
    model = LightGCN.of(train, items, **GRAPH)
    plan = loop.Plan(rows=len(model.pairs), seed=seed, **GRAPH_PLAN)  # type: ignore[arg-type]
    groups = model.parameter_groups(GRAPH_RATE)

    def loss(rows: list[int]) -> torch.Tensor:
        user, item = model.pairs[rows].T
        return model.loss({"user": user, "item": item})

    with console.meter("train", plan.steps(1) * plan.epochs, "steps") as meter:

        def tick(step: int, value: float) -> None:
            meter.advance(step - meter.done, f"loss {value:.3f}")

        loop.train(loss, model, groups, plan, Accelerator(cpu=True), lambda metrics, save: None, tick)
    return model


def windows(train: Sequence[Items], longest: int) -> list[Items]:
    """Sequences cut from their end into runs of `longest` targets, so that every item after a first one is learnt."""
    return [one[max(0, stop - longest - 1) : stop] for one in train for stop in range(len(one), 1, -longest)]


def write_recbole(folder: Path, split: Split) -> None:
    """The parts as RecBole's atomic files."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "ml.train.inter", enumerate(split.train))
    for name, cases in {"valid": split.validation, "test": split.test}.items():
        _write(folder / f"ml.{name}.inter", zip(cases.users, cases.targets, strict=True))


def _write(path: Path, rows: Any) -> None:
    lines = "".join(f"{user}\t{item}\n" for user, items in rows for item in items)
    path.write_text("user_id:token\titem_id:token\n" + lines)


def _baselines(
    runs: dict[str, list[Run]], train: Sequence[Items], test: Cases, items: int, keep: Kept, place: str
) -> None:
    for name, make in BASELINES.items():
        runs[name].append(keep(place.format(name), None, partial(run, partial(make, train, items), test, train)))


if __name__ == "__main__":
    main()
