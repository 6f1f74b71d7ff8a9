"""Train any recommender with Ray Train: one DDP worker a process, gloo on CPUs, nccl on GPUs, the same code."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray import train as ray_train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from synthrec import cluster, console
from synthrec.recommenders.base import Cases
from synthrec.storage import Folder
from synthrec.training.loop import Plan
from synthrec.training.tracking import Track
from train_app.learn import Lesson, learn

Place = tuple[Any, str]  # a filesystem and a path
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of a run's checkpoints


def _untracked(number: int, values: dict[str, float]) -> None:
    pass


@ray.remote(num_cpus=0)
class Ticker:
    """Carries rank 0's progress to the driver: its screen, and where the training is tracked."""

    def __init__(self) -> None:
        self.step, self.loss = 0, 0.0
        self.epochs: dict[int, dict[str, float]] = {}

    def tell(self, step: int, loss: float) -> None:
        self.step, self.loss = step, loss

    def close(self, epoch: int, values: dict[str, float]) -> None:
        self.epochs[epoch] = values

    def ask(self) -> tuple[int, float, dict[int, dict[str, float]]]:
        """Steps, their loss, and the epochs that were closed since this was asked last."""
        closed, self.epochs = self.epochs, {}
        return self.step, self.loss, closed


@dataclass(frozen=True)
class Job:
    """What each rank is told.

    Attributes:
        recommender: its name in `synthrec.recommenders`, or of a module of your own.
        settings: of its objective.
        start: the folder that it starts from, on a filesystem that every node sees.
        rows: the folder with the training table, of this schema.
        precision: float32, bfloat16, or auto: bfloat16 where it is fast.
        validation: the folder with cases of shoppers (user, history, target) that decide when it is best: NDCG@10 of
            the full ranking, without what the shopper has taken if `filter_viewed`. None: the last epoch is taken.
    """

    recommender: str
    settings: dict[str, Any]
    plan: Plan
    start: Place
    rows: Place
    schema: pa.Schema
    use_gpu: bool
    precision: str
    validation: Place | None = None
    filter_viewed: bool = True


def worker(told: dict[str, Any]) -> None:
    """What each rank runs."""
    from synthrec import recommenders
    from synthrec.training.distributed import gather

    job: Job = told["job"]
    ticker, main = told["ticker"], ray_train.get_context().get_world_rank() == 0
    with Folder(*job.start).fetched() as folder:
        objective = recommenders.objective(job.recommender).start(folder, job.settings, gather)
    rows = Folder(*job.rows).read_table(job.schema)
    cases = None if job.validation is None else _cases(job.validation)
    lesson = Lesson(objective, rows, job.plan, job.use_gpu, job.precision, cases, job.filter_viewed)

    def report(metrics: dict[str, Any], save: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept = None
            if main:
                save(Path(folder))
                kept = Checkpoint.from_directory(folder)
                measured = {"epoch/loss": metrics["loss"], "epoch/ndcg@10": metrics.get("value")}
                values = {name: value for name, value in measured.items() if value is not None}
                ticker.close.remote(metrics["epoch"], values)
            ray_train.report(metrics, checkpoint=kept, checkpoint_dir_name=f"epoch-{metrics['epoch']:04d}")

    def tick(step: int, value: float) -> None:
        if main:
            ticker.tell.remote(step, value)

    checkpoint = ray_train.get_checkpoint()
    with nullcontext() if checkpoint is None else checkpoint.as_directory() as last:
        learn(lesson, report, tick, None if last is None else Path(last))


def _cases(place: Place) -> Cases:
    import pyarrow.dataset as pads

    fs, path = place
    rows = pads.dataset(path, filesystem=fs, format="parquet").to_table()
    lists = {name: [one.values.to_numpy() for one in rows[name]] for name in ("history", "target")}
    return Cases(rows["user"].to_numpy(), lists["history"], lists["target"])


def fit(
    job: Job, workers: tuple[int, int], max_failures: int, work: Place, track: Track = _untracked
) -> ray_train.Result:
    """Train to the end, through failures of workers, and from the last checkpoint of such a run in `work`.

    Args:
        workers: fewest and most. Between the two, as many as the cluster has room for, and another number when that
            changes; the training then goes on from its last checkpoint.
        track: is told `step/loss` about once a second, and after each epoch `epoch/loss` and, with a validation,
            `epoch/ndcg@10`.

    Raises:
        Exception: what made training fail, if it failed more often than `max_failures`.
    """
    storage, path = work
    fewest, most = workers
    run = Folder(storage, f"{path}/{job.recommender}")
    if not resumable(run):
        console.warn("the last run was stopped while it wrote or deleted a checkpoint: training starts anew")
        run.delete()
    ticker = cluster.beside_driver(Ticker)
    count: Any = fewest if fewest == most else workers  # Any: Ray's types know no range, its trainer does
    trainer = TorchTrainer(
        worker,
        train_loop_config={"job": job, "ticker": ticker},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=job.use_gpu),
        run_config=RunConfig(
            name=job.recommender,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=_keep(job),
        ),
    )
    steps = job.plan.steps(most) * job.plan.epochs
    with console.meter("train", steps, "steps") as meter, console.each_second(lambda: _show(ticker, meter, track)):
        result = trainer.fit()
    if result.error:
        raise result.error
    return result


def _keep(job: Job) -> ray_train.CheckpointConfig:
    """The last two; with a validation the best two, and the last, which Ray Train always keeps to go on from."""
    if job.validation is None:
        return ray_train.CheckpointConfig(num_to_keep=2)
    return ray_train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="value")


def resumable(run: Folder) -> bool:
    """Whether Ray Train can begin in this folder: anew where it is empty, or from checkpoints that are all there.

    It refuses for good where its list of them is half-written, or names one that is gone, as a kill may leave them.
    """
    if not run.exists(SNAPSHOT):
        return True
    try:
        listed = [one["checkpoint_dir_name"] for one in run.read_json(SNAPSHOT)["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        return False
    return all(run.exists(f"{name}/state.pt") for name in listed)


def _show(ticker: Any, meter: console.Meter, track: Track) -> None:
    step, loss, closed = ray.get(ticker.ask.remote())
    if step > meter.done:
        track(step, {"step/loss": loss})
    meter.advance(step - meter.done, f"loss {loss:.3f}")
    for epoch, values in closed.items():
        track(epoch, values)
