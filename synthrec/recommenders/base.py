"""What training asks of a recommender. Ranks come in as a function that gathers; files, stages and Ray do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

Batch = dict[str, list[Any]]  # rows of the training table, a list a column
Gather = Callable[[Tensor], Tensor]  # of each rank its tensor, one after another in rank order, gradients kept


class Objective(Protocol):
    """A recommender with its loss: a module, so that DistributedDataParallel can wrap it.

    It is made with `start(folder, settings, gather)` from a folder that its `save` wrote.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """The mean loss of this rank's rows."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimizer, each with its `lr`."""
        ...

    def save(self, folder: Path) -> None:
        """Safetensors and JSON, no pickle."""
        ...


class Startable(Protocol):
    def start(self, folder: Path, settings: dict[str, Any], gather: Gather) -> Any:
        """A module and an `Objective`: Python has no type for both."""
        ...
