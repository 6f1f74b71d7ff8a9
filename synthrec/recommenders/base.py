"""What training and evaluation ask of a recommender. Ranks come in as a function that gathers; Ray does not come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # evaluation and baselines need no torch
    from torch import Tensor

Batch = dict[str, list[Any]]  # rows of the training table, a list a column
Gather = Callable[["Tensor"], "Tensor"]  # of each rank its tensor, one after another in rank order, gradients kept
Items = NDArray[np.int64]


class Objective(Protocol):
    """A recommender with its loss: a module, so that DistributedDataParallel can wrap it.

    It is made with `start(folder, settings, gather)` from a folder that its `save` wrote. One that is validated while
    it is trained has a `scorer`.
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


@dataclass(frozen=True)
class Cases:
    """Shoppers to recommend to. Items and shoppers are numbers from 0.

    `users` (n,); `histories`: what each had taken before, oldest first; `targets`: what each took then, at least one.
    """

    users: Items
    histories: Sequence[Items]
    targets: Sequence[Items]

    def __len__(self) -> int:
        return len(self.users)

    def unnamed(self) -> Cases:
        """Each shopper by their history alone: the endpoint knows nobody's number."""
        return Cases(np.full(len(self), -1), self.histories, self.targets)

    def part(self, start: int, stop: int) -> Cases:
        return Cases(self.users[start:stop], self.histories[start:stop], self.targets[start:stop])


class Scorer(Protocol):
    """A recommender of the next product, or a baseline, once it has learnt."""

    items: int

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        """(len(cases), items): the higher the better, -inf for what cannot be scored. It must not look at targets."""
        ...
