"""Where a training is watched while it runs: TensorBoard's files, or MLflow. On the driver: no worker needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from synthrec.errors import UserError

Track = Callable[[int, dict[str, float]], None]  # the number of a step or an epoch, and what was measured there


@contextmanager
def tracked(kind: str, folder: Path, name: str) -> Iterator[Track]:
    """What tells the values on.

    Args:
        kind: none, tensorboard or mlflow. MLflow finds its server as it always does, by MLFLOW_TRACKING_URI.
        folder: on this machine's disk, for TensorBoard.
        name: of the run, for MLflow.

    Raises:
        UserError: where the package is missing.
    """
    match kind:
        case "tensorboard":
            with _package("torch.utils.tensorboard", kind).SummaryWriter(str(folder)) as writer:

                def write(step: int, values: dict[str, float]) -> None:
                    for key, value in values.items():
                        writer.add_scalar(key, value, step)

                yield write
        case "mlflow":
            mlflow = _package("mlflow", kind)
            mlflow.set_experiment("synthrec")
            with mlflow.start_run(run_name=name):
                # MLflow takes no "@" in a name.
                yield lambda step, values: mlflow.log_metrics(
                    {name.replace("@", "_at_"): value for name, value in values.items()}, step=step
                )
        case _:
            yield lambda step, values: None


def _package(module: str, kind: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise UserError(f"train.track: {kind} is not installed", "pip install 'synthrec[tracking]'") from None
