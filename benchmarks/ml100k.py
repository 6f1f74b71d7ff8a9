"""ml-100k, every item ranked, seen ones left out: our graph and sequential models beside RecBole's and RecTools'.

The data is in RecBole's wheel, `recbole/dataset_example/ml-100k`. A peer trains on our split, with as many threads, and
its lists are judged by our code; a peer whose Python is not given has no figures. Settings of ours were tuned on the
validation of the first seed; test items were looked at for the figures only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.machine import machine
from synthrec import console
from synthrec.evaluation.baselines import EASE, ItemKNN, Popularity
from synthrec.evaluation.metrics import Values
from synthrec.evaluation.recommendation import Scorer, by_case, judge
from synthrec.evaluation.significance import paired_bootstrap
from synthrec.evaluation.splits import Cases, Items, leave_one_out, random_split
from synthrec.recommenders.graph import LightGCN
from synthrec.recommenders.sequential import Sequential, Shape
from synthrec.training import loop

GRAPH = {"width": 64, "layers": 3, "draws": 8}
GRAPH_PLAN = {"batch_size": 8192, "epochs": 12, "warmup": 0.05}
GRAPH_RATE = 0.03
SHAPE = Shape(width=128, blocks=2, heads=2, longest=200, dropout=0.3, negatives=0)
SEQUENTIAL_PLAN = {"batch_size": 64, "epochs": 50, "warmup": 0.05}
SEQUENTIAL_RATE, WEIGHT_DECAY = 2e-3, 0.01
PEER_EPOCHS = 50  # of RecTools' SASRec
Metrics = dict[str, Values]


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    sequences, items = read(Path(given.data))
    facts = {"users": len(sequences), "items": items, "interactions": sum(map(len, sequences))}
    result: dict[str, Any] = {"benchmark": "ml100k", "machine": machine(), "data": facts, "threads": given.threads}
    result |= {"seeds": given.seeds, "seen_items": "filtered"}
    folder = Path(given.run_dir)
    result["graph"] = graph(sequences, items, given, folder / "graph")
    result["sequential"] = sequential(sequences, items, given, folder / "sequential")
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of ml-100k.inter")
    parser.add_argument("--recbole", help="the Python of an environment with recbole, as `make peers-recbole` makes it")
    parser.add_argument("--rectools", help="the Python of an environment with rectools[torch]")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each; the random split differs by seed too")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each training, ours and the peers'")
    parser.add_argument("--run-dir", default="runs/benchmark-ml100k", help="where the peers work")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def read(folder: Path) -> tuple[list[Items], int]:
    """Each user's items by time (of equal times in the file's order), and how many items there are."""
    rows = np.loadtxt(folder / "ml-100k.inter", skiprows=1, delimiter="\t", dtype=np.int64)
    rows = rows[np.argsort(rows[:, 3], kind="stable")]
    users, items = rows[:, 0] - 1, rows[:, 1] - 1
    return [items[users == user] for user in range(users.max() + 1)], int(items.max()) + 1


# LightGCN: each user's items dealt at random, 8:1:1.


def graph(sequences: list[Items], items: int, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    runs: dict[str, list[tuple[float, Metrics]]] = {"synthrec": [], "recbole": []}
    others: dict[str, list[tuple[float, Metrics]]] = {}
    lost = []
    for seed in range(given.seeds):
        split = random_split(sequences, (0.1, 0.1), seed)
        model, seconds = train_graph(split.train, items, seed)
        runs["synthrec"].append((seconds, _judged(model, split.test, split.train)))
        lost.append(np.isin(np.concatenate(list(split.test.targets)), model.unscorable).mean())
        where = folder / str(seed)
        _write_recbole(where / "ml", split.train, split.validation, split.test)
        found = _peer(given.recbole, "recbole", where, seed, given.threads)
        if found:
            runs["recbole"].append((found["seconds"], _of_peer(found, split.test)))
        for name, make in {"popularity": Popularity, "ItemKNN": ItemKNN, "EASE": EASE}.items():
            start = time.monotonic()
            baseline = make(split.train, items)
            judged = _judged(baseline, split.test, split.train)
            others.setdefault(name, []).append((time.monotonic() - start, judged))
    names = ("recall@10", "ndcg@10")
    return {
        "protocol": "each user's items at random 8:1:1; the test's history is training and validation",
        "settings": GRAPH | GRAPH_PLAN | {"learning_rate": GRAPH_RATE},
        "test_items_without_a_score": float(np.mean(lost)),
        "baselines": {name: _summary(some, names) for name, some in others.items()},
    } | _side_by_side(runs, names)


def train_graph(train: Sequence[Items], items: int, seed: int) -> tuple[LightGCN, float]:
    """The model, and the seconds from interactions to vectors."""
    torch.manual_seed(seed)
    start = time.monotonic()
    model = LightGCN.of(train, items, **GRAPH)
    plan = loop.Plan(rows=len(model.pairs), seed=seed, **GRAPH_PLAN)

    def loss(rows: list[int]) -> torch.Tensor:
        user, item = model.pairs[rows].T
        return model.loss({"user": user, "item": item})

    _train(loss, model, model.parameter_groups(GRAPH_RATE), plan, f"LightGCN {seed}")
    return model, time.monotonic() - start


def _write_recbole(folder: Path, train: Sequence[Items], validation: Cases, test: Cases) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": enumerate(train), "valid": zip(validation.users, validation.targets, strict=True)}
    for name, rows in (parts | {"test": zip(test.users, test.targets, strict=True)}).items():
        lines = [f"{user}\t{item}\n" for user, items in rows for item in items]
        (folder / f"ml.{name}.inter").write_text("user_id:token\titem_id:token\n" + "".join(lines))


# The sequential model: each user's last item is to be found; fitted on all the others.


def sequential(sequences: list[Items], items: int, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    test = leave_one_out(sequences).test
    train = [one[:-1] for one in sequences]
    runs: dict[str, list[tuple[float, Metrics]]] = {"synthrec": [], "rectools": []}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sequences.json").write_text(json.dumps([one.tolist() for one in train]))
    for seed in range(given.seeds):
        model, seconds = train_sequential(train, items, seed)
        runs["synthrec"].append((seconds, _judged(model, test, train)))
        found = _peer(given.rectools, "rectools", folder, seed, given.threads, str(PEER_EPOCHS))
        if found:
            runs["rectools"].append((found["seconds"], _of_peer(found, test)))
    names = ("hr@10", "ndcg@10")
    return {
        "protocol": "leave one out: fitted on all but each user's last item, which is to be found",
        "settings": asdict(SHAPE) | SEQUENTIAL_PLAN | {"learning_rate": SEQUENTIAL_RATE, "weight_decay": WEIGHT_DECAY},
        "peer_epochs": PEER_EPOCHS,
    } | _side_by_side(runs, names)


def train_sequential(train: Sequence[Items], items: int, seed: int) -> tuple[Sequential, float]:
    torch.manual_seed(seed)
    start = time.monotonic()
    model = Sequential(np.bincount(np.concatenate(list(train)), minlength=items) > 0, SHAPE)
    rows = windows(train, SHAPE.longest)
    plan = loop.Plan(rows=len(rows), seed=seed, **SEQUENTIAL_PLAN)
    groups = model.parameter_groups(SEQUENTIAL_RATE, WEIGHT_DECAY)
    _train(lambda some: model.loss([rows[i] for i in some]), model, groups, plan, f"sequential {seed}")
    return model, time.monotonic() - start


def windows(train: Sequence[Items], longest: int) -> list[Items]:
    """Sequences cut from their end into runs of `longest` targets, so that every item after a first one is learnt."""
    return [one[max(0, stop - longest - 1) : stop] for one in train for stop in range(len(one), 1, -longest)]


# Both.


def _train(
    loss: Callable[[list[int]], torch.Tensor], model: torch.nn.Module, groups: Any, plan: loop.Plan, name: str
) -> None:
    with console.meter(name, plan.steps(1) * plan.epochs, "steps") as meter:

        def tick(step: int, value: float) -> None:
            meter.advance(step - meter.done, f"loss {value:.3f}")

        loop.train(loss, model, groups, plan, Accelerator(cpu=True), lambda metrics, save: None, tick)


def _peer(python: str | None, name: str, folder: Path, seed: int, threads: int, *more: str) -> dict[str, Any] | None:
    """What the peer wrote; None, and said so, where its Python was not given."""
    if python is None:
        console.warn(f"no --{name}: its figures are null")
        return None
    console.say(f"{name}, seed {seed}")
    script = Path(__file__).parent.resolve() / f"peer_{name}.py"
    command = [str(Path(python).absolute()), str(script), ".", str(seed), *more]
    log = (folder / f"{name}.log").resolve()
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed; see {log}")
    return json.loads((folder / f"{name}.json").read_text())  # type: ignore[no-any-return]


def _judged(scorer: Scorer, cases: Cases, train: Sequence[Items]) -> Metrics:
    return judge(scorer, cases, train, filter_viewed=True).by_case


def _of_peer(found: dict[str, Any], cases: Cases) -> Metrics:
    assert found["users"] == cases.users.tolist()
    return by_case(np.array(found["ranking"]), cases.targets)


def _side_by_side(runs: dict[str, list[tuple[float, Metrics]]], names: Sequence[str]) -> dict[str, Any]:
    """Figures of ours and of the peer, and what ours has more: over users, each the mean of the seeds."""
    ours, theirs = runs.values()
    out: dict[str, Any] = {name: _summary(some, names) for name, some in runs.items()}
    if not theirs:
        return out | {"ours_more": None, "times_faster": None}
    more = {
        n: asdict(paired_bootstrap(*(np.mean([m[n] for _, m in some], 0) for some in (ours, theirs)))) for n in names
    }
    faster = np.median([s for s, _ in theirs]) / np.median([s for s, _ in ours])
    return out | {"ours_more": more, "times_faster": float(faster)}


def _summary(runs: list[tuple[float, Metrics]], names: Sequence[str]) -> dict[str, Any] | None:
    if not runs:
        return None
    each = {name: [float(metrics[name].mean()) for _, metrics in runs] for name in names}
    means = {name: float(np.mean(values)) for name, values in each.items()}
    return means | {"by_seed": each, "seconds": [seconds for seconds, _ in runs]}


if __name__ == "__main__":
    main()
