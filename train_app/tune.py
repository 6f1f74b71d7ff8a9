"""Search for a recommender's settings with Ray Tune: a trial is one training in one process, and ASHA ends bad ones.

Asynchronous successive halving (Li et al. 2020): at epochs that grow threefold only the best third of what got there
goes on.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from synthrec import cluster, console
from synthrec.recommenders.base import Cases
from synthrec.storage import Folder
from synthrec.training.loop import Plan

VALUE = "best"  # the trial's best validation so far: what its best epoch would be published for
FACTOR = 3  # one of so many goes on
NAME = "trials"
# Of a trial's values: save into a folder what it starts from -> settings of its objective, how long, what it learns.
Begin = Callable[[dict[str, Any], Path], tuple[dict[str, Any], Plan, pa.Table]]


@dataclass(frozen=True)
class Study:
    """What is the same for all trials; `cases`, `filter_viewed`, `use_gpu` and `precision` as in `learn.Lesson`."""

    recommender: str
    begin: Begin
    cases: Cases
    filter_viewed: bool
    use_gpu: bool
    precision: str


@dataclass(frozen=True)
class Trial:
    """What came of some values: NDCG@10 of the validation's best epoch, epochs learnt; or the error that ended it."""

    values: dict[str, Any]
    ndcg: float | None
    epochs: int
    error: str | None = None


@ray.remote(num_cpus=0)
class Board:
    """Carries the trials' progress to the driver's screen."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}
        self.best = 0.0

    def tell(self, trial: str, epochs: int, best: float) -> None:
        self.epochs[trial] = epochs
        self.best = max(self.best, best)

    def ask(self) -> tuple[int, int, float]:
        """Epochs, of how many trials, and the best validation of all."""
        return sum(self.epochs.values()), len(self.epochs), self.best


def trial(values: dict[str, Any], study: Study, board: Any) -> None:
    """What Ray Tune runs, and runs again from the last checkpoint where it was interrupted."""
    from ray import tune

    from synthrec import recommenders
    from train_app.learn import Lesson, learn

    with tempfile.TemporaryDirectory() as start:
        settings, plan, rows = study.begin(values, Path(start))
        objective = recommenders.objective(study.recommender).start(Path(start), settings, lambda mine: mine)
    lesson = Lesson(objective, rows, plan, study.use_gpu, study.precision, study.cases, study.filter_viewed)

    def report(metrics: dict[str, Any], save: Callable[[Path], None]) -> None:
        told = {"epochs": metrics["epoch"] + 1, VALUE: max(metrics["values"])}
        board.tell.remote(tune.get_context().get_trial_id(), told["epochs"], told[VALUE])
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            tune.report(told, checkpoint=tune.Checkpoint.from_directory(folder))

    checkpoint = tune.get_checkpoint()
    with nullcontext() if checkpoint is None else checkpoint.as_directory() as last:
        learn(lesson, report, lambda step, loss: None, None if last is None else Path(last))


def search(
    study: Study,
    space: dict[str, Any],
    first: dict[str, Any],
    trials: int,
    epochs: int,
    seed: int,
    max_failures: int,
    work: Folder,
) -> list[Trial]:
    """Try values of the space, or go on from where such a search in `work` was stopped.

    Args:
        space: of each setting a domain of Ray Tune's.
        first: the values of the first trial.
        epochs: of a trial, at most.
        max_failures: how often a trial whose process is lost goes on from its last checkpoint.

    Returns: all trials, the best first, those that failed last.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # files for TensorBoard, which nobody asked for
    from ray import tune

    board = cluster.beside_driver(Board)
    told = tune.with_parameters(trial, study=study, board=board)
    trainable = tune.with_resources(told, {"cpu": 1, "gpu": int(study.use_gpu)})
    run = work / NAME
    if resumable(run):
        tuner = tune.Tuner.restore(run.path, trainable, storage_filesystem=run.fs)
    else:
        run.delete()
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=VALUE,
                mode="max",
                num_samples=trials,
                search_alg=_drawn(first, seed),
                scheduler=_halving(epochs),
            ),
            run_config=tune.RunConfig(
                name=NAME,
                storage_path=work.path,
                storage_filesystem=work.fs,
                failure_config=tune.FailureConfig(max_failures=max_failures),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                verbose=0,
            ),
        )
    with (
        console.meter("tune", None, "epochs") as meter,
        console.each_second(lambda: _show(board, meter)),
        redirect_stdout(io.StringIO()),  # Ray Tune talks on it, whatever its verbosity is
    ):
        found: Any = tuner.fit()  # Any: a sequence, which its type does not say
    return sorted(map(_trial, found), key=lambda one: (one.error is not None, -(one.ndcg or 0.0)))


def _drawn(first: dict[str, Any], seed: int) -> Any:
    """Values drawn at random, but the first trial's."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return BasicVariantGenerator(points_to_evaluate=[first], random_state=seed)


def _halving(epochs: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    grace = max(1, epochs // FACTOR**2)
    return ASHAScheduler(time_attr="epochs", max_t=epochs, grace_period=grace, reduction_factor=FACTOR)


def resumable(run: Folder) -> bool:
    """Whether Ray Tune has begun here and written down its trials: killed before that, it would not start again."""
    names = [name for name in run.files() if "/" not in name]
    return "tuner.pkl" in names and any(name.startswith("experiment_state-") for name in names)


def _trial(result: Any) -> Trial:
    values = {name: one.item() if isinstance(one, np.generic) else one for name, one in (result.config or {}).items()}
    metrics = result.metrics or {}
    error = None if result.error is None else str(result.error).strip().splitlines()[-1]
    return Trial(values, metrics.get(VALUE), metrics.get("epochs", 0), error)


def _show(board: Any, meter: console.Meter) -> None:
    epochs, trials, best = ray.get(board.ask.remote())
    meter.advance(epochs - meter.done, f"{trials} trials, best NDCG@10 {best:.4f}")
