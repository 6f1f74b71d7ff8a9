"""Recommenders of the next product, ready to serve: what does not depend on the shopper is computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthrec.recommenders.base import Items

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Ready:
    """Scores are dot products.

    Attributes:
        items: vectors, (items, width).
        scorable: (items,) whether anything is known of the item.
        shopper: a history, oldest first -> their vector, (width,); zeros where nothing can be told from it.
    """

    items: NDArray[np.float32]
    scorable: NDArray[np.bool_]
    shopper: Callable[[Items], Vector]

    def scores(self, history: Items) -> Vector | None:
        """(items,), -inf for what cannot be scored; None where the history tells nothing."""
        vector = self.shopper(history)
        return np.where(self.scorable, self.items @ vector, -np.inf) if vector.any() else None


def load(name: str, folder: Path) -> Ready:
    """The recommender that a bundle holds: `sequential` or `graph`."""
    if name == "sequential":
        from synthrec.recommenders.sequential import Sequential

        model = Sequential.load(folder)
        known = model.catalogue.knowable().cpu().numpy()
        return Ready(model.vectors(), known, lambda history: model.encode([history])[0])
    from synthrec.recommenders.graph import LightGCN

    return LightGCN.load(folder).ready()
