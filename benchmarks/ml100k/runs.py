"""A training and what it came to; a peer's, in an environment of its own; the two side by side."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthrec import console
from synthrec.evaluation.metrics import Values
from synthrec.evaluation.recommendation import by_case, judge
from synthrec.evaluation.significance import paired_bootstrap
from synthrec.evaluation.splits import Cases, Items
from synthrec.recommenders.base import Scorer


@dataclass(frozen=True)
class Run:
    """`cpu_seconds` are the processor's, of all threads: what a busy machine does not lengthen much."""

    seconds: float
    cpu_seconds: float
    metrics: dict[str, Values]


class Clock:
    """Seconds by the wall and by the processor."""

    wall = cpu = 0.0


@contextmanager
def clock() -> Iterator[Clock]:
    """How long a `with` block takes."""
    found, wall, cpu = Clock(), time.monotonic(), time.process_time()
    yield found
    found.wall, found.cpu = time.monotonic() - wall, time.process_time() - cpu


def run(scorer: Scorer, taken: Clock, cases: Cases, train: Sequence[Items]) -> Run:
    return Run(taken.wall, taken.cpu, judge(scorer, cases, train, filter_viewed=True).by_case)


def peer(python: str, script: str, folder: Path, cases: Cases, seed: int, threads: int) -> Run | None:
    """Run a script beside this file in `folder`, and judge the `ranking` of `users` that it leaves in `found.json`.

    None, and said so, where there is no such Python.
    """
    if not Path(python).is_file():
        console.warn(f"no {python}: {script} has no figures")
        return None
    console.say(f"{script}, seed {seed}")
    command = [str(Path(python).absolute()), str(Path(__file__).resolve().with_name(script)), ".", str(seed)]
    log = folder / "log"
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed; see {log}")
    found = json.loads((folder / "found.json").read_text())
    if found["users"] != cases.users.tolist():
        raise SystemExit(f"{script} ranked for other users than it was given")
    return Run(found["seconds"], found["cpu_seconds"], by_case(np.array(found["ranking"]), cases.targets))


def side_by_side(runs: dict[str, list[Run]], ours: str, theirs: str, names: Sequence[str]) -> dict[str, Any]:
    """Means over the seeds of each; what `ours` has more than `theirs`, over users, each user's mean over the seeds."""
    out: dict[str, Any] = {name: _summary(some, names) for name, some in runs.items()}
    if not runs[theirs]:
        return out | {"more": None, "times_faster": None, "times_less_cpu": None}
    both = runs[ours], runs[theirs]
    more = {n: asdict(paired_bootstrap(*(np.mean([r.metrics[n] for r in some], 0) for some in both))) for n in names}
    wall = np.median([r.seconds for r in both[1]]) / np.median([r.seconds for r in both[0]])
    cpu = np.median([r.cpu_seconds for r in both[1]]) / np.median([r.cpu_seconds for r in both[0]])
    return out | {"more": more, "times_faster": float(wall), "times_less_cpu": float(cpu)}


def _summary(runs: list[Run], names: Sequence[str]) -> dict[str, Any] | None:
    if not runs:
        return None
    each = {name: [float(one.metrics[name].mean()) for one in runs] for name in names}
    means = {name: float(np.mean(values)) for name, values in each.items()}
    seconds = {"seconds": [one.seconds for one in runs], "cpu_seconds": [one.cpu_seconds for one in runs]}
    return means | {"by_seed": each} | seconds
