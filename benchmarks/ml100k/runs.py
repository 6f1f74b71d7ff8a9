"""A training and what it came to, kept; a peer's, in an environment of its own; the two side by side."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import once
from synthrec import console
from synthrec.evaluation.metrics import Values
from synthrec.evaluation.recommendation import by_case, judge
from synthrec.evaluation.significance import paired_bootstrap
from synthrec.evaluation.splits import Cases, Items
from synthrec.recommenders.base import Scorer
from synthrec.storage import Folder


@dataclass(frozen=True)
class Run:
    """`cpu_seconds` are the processor's, of all threads: what a busy machine does not lengthen much."""

    seconds: float
    cpu_seconds: float
    metrics: dict[str, Values]

    def plain(self) -> dict[str, Any]:
        """As JSON can tell it."""
        return asdict(replace(self, metrics={name: one.tolist() for name, one in self.metrics.items()}))


@dataclass(frozen=True)
class Kept:
    """Runs in a folder, a file each, written as the run ends.

    Attributes:
        about: whatever all of them depend on: the data, the threads. A run of other settings has another file; a change
            of the code is not seen.
    """

    folder: Folder
    about: tuple[Any, ...]

    def __call__(self, name: str, settings: Any, make: Callable[[], Run]) -> Run:
        """What `make` gives, or gave."""
        told = json.dumps([self.about, settings], sort_keys=True)
        file = f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
        console.say(f"    {name}" + (": kept" if self.folder.exists(file) else ""))
        kept = once(self.folder, file, lambda: make().plain())
        return Run(kept["seconds"], kept["cpu_seconds"], {m: np.array(one) for m, one in kept["metrics"].items()})


def run(make: Callable[[], Scorer], cases: Cases, train: Sequence[Items]) -> Run:
    """Time the making of a recommender, and judge it."""
    wall, cpu = time.monotonic(), time.process_time()
    scorer = make()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return Run(wall, cpu, judge(scorer, cases, train, filter_viewed=True).by_case)


def here(python: str, script: Path) -> bool:
    """Whether there is such a Python; says so where there is none."""
    if not Path(python).is_file():
        console.warn(f"no {python}: {script.name} has no figures")
        return False
    return True


def peer(python: str, script: Path, folder: Path, cases: Cases, seed: int, threads: int) -> Run:
    """Run a script in `folder`, and judge the `ranking` of `users` that it leaves in `found.json`."""
    command = [str(Path(python).absolute()), str(script), ".", str(seed)]
    log = folder / "log"
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{script.name} failed; see {log}")
    found = json.loads((folder / "found.json").read_text())
    if found["users"] != cases.users.tolist():
        raise SystemExit(f"{script.name} ranked for other users than it was given")
    return Run(found["seconds"], found["cpu_seconds"], by_case(np.array(found["ranking"]), cases.targets))


def side_by_side(runs: dict[str, list[Run]], ours: str, theirs: str, names: Sequence[str]) -> dict[str, Any]:
    """Means over the seeds of each; what `ours` has more than `theirs`, over users, each user's mean over the seeds."""
    out: dict[str, Any] = {name: _summary(some, names) for name, some in runs.items()}
    if not (runs[ours] and runs[theirs]):
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
