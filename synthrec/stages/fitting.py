"""What the stages that train share: a start and rows where all nodes see them, Ray Train, the model published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthrec import cluster, recommenders
from synthrec.config import Config
from synthrec.pipeline import Context
from synthrec.storage import Folder
from synthrec.training.tracking import tracked

if TYPE_CHECKING:
    from synthrec.training.loop import Plan


def layout(config: Config) -> list[Any]:
    """What of the workers changes a model."""
    return [config.train.workers, config.train.use_gpu, config.train.precision, config.seed]


def workers(context: Context) -> int:
    """Join or start Ray, and see that it has what the fewest workers need. Returns how many there will be at most."""
    own = context.config.train
    fewest, most = own.ranks
    cluster.start()
    cluster.need(fewest, fewest if own.use_gpu else 0, context.stage.name, "train.workers or train.use_gpu")
    return most


def batch(wanted: int, rows: int, workers: int) -> int:
    """Rows of a rank's batch: one that is larger than a rank's share of the rows would never be filled."""
    return min(wanted, max(1, rows // workers))


def fitted(
    context: Context,
    recommender: str,
    settings: dict[str, Any],
    plan: Plan,
    rows: pa.Table,
    start: Callable[[Path], object],
    validation: pa.Table | None = None,
) -> dict[str, Any]:
    """Train a recommender and publish it as the folder `model`; returns the metrics of its last epoch.

    Args:
        settings: of its objective.
        start: saves into a folder what the objective starts from.
        validation: cases by which the best epoch is taken, and not the last.
    """
    from train_app.fit import Job, fit

    own = context.config.train
    work = context.keep("work") / context.out.path.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        start(Path(folder))
        (work / "start").write_files(Path(folder))
    (work / "rows").write_table("rows.parquet", rows)
    if validation is not None:
        (work / "validation").write_table("cases.parquet", validation)
    job = Job(
        recommender=recommender,
        settings=settings,
        plan=plan,
        start=(work.fs, f"{work.path}/start"),
        rows=(work.fs, f"{work.path}/rows"),
        schema=rows.schema,
        use_gpu=own.use_gpu,
        precision=own.precision,
        validation=None if validation is None else (work.fs, f"{work.path}/validation"),
        filter_viewed=context.config.recommend.filter_viewed,
    )
    with tracked(own.track, _log(context, recommender), f"{context.config.name} {recommender}") as track:
        result = fit(job, own.ranks, own.max_failures, (work.fs, work.path), track)
    checkpoint, metrics = result.checkpoint, dict(result.metrics or {})
    if validation is not None:  # of epochs as good as each other Ray keeps the last ones
        checkpoint, best = max(result.best_checkpoints or [], key=lambda one: (one[1]["value"], -one[1]["epoch"]))
        metrics["best_epoch"] = best["epoch"]
    _publish(checkpoint, work / "start", recommender, settings, context.out)
    work.delete()
    return metrics


def _log(context: Context, recommender: str) -> Path:
    """Where TensorBoard looks: `tensorboard --logdir RUN/logs`; of a run elsewhere than on a disk, a folder here."""
    here = context.root.local if context.root.is_local else Path(tempfile.gettempdir(), context.config.name)
    return here / "logs" / "tensorboard" / f"{recommender}-{context.out.path.rpartition('/')[2]}"


def _publish(checkpoint: Any, start: Folder, recommender: str, settings: dict[str, Any], out: Folder) -> None:
    """The trained weights as the folder `model` that the recommender's own `load` reads."""
    from synthrec.training import loop

    with start.fetched() as folder:
        objective: Any = recommenders.objective(recommender).start(folder, settings, lambda mine: mine)
    with checkpoint.as_directory() as folder:
        objective.load_state_dict(loop.read(Path(folder))["model"])
    with tempfile.TemporaryDirectory() as folder:
        objective.save(Path(folder))
        (out / "model").write_files(Path(folder))
