"""Recommenders of the next product, ready to serve: what does not depend on the shopper is computed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from synthrec.recommenders.base import Items

Vector = NDArray[np.float32]
GRAPH = "graph.safetensors"


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
    tensors = load_file(folder / GRAPH) if (folder / GRAPH).is_file() else _graph(folder)  # bundles of old: the graph
    items, shares, scorable = (tensors[part].cpu().numpy() for part in ("items", "shares", "scorable"))

    def shopper(history: Items) -> Vector:
        taken = np.unique(history)
        taken = taken[scorable[taken]]
        return shares[taken].sum(0) / np.float32(max(1, len(taken)) ** 0.5)  # type: ignore[no-any-return]

    return Ready(items, scorable, shopper)


def pack(name: str, model: Path, folder: Path) -> None:
    """Put what serving needs of a trained model into a new folder. A graph stays behind: it is who took what."""
    if name == "graph":
        folder.mkdir()
        save_file(_graph(model), folder / GRAPH)
    else:
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(".*"))


def _graph(folder: Path) -> dict[str, Tensor]:
    from synthrec.recommenders.graph import LightGCN

    return LightGCN.load(folder).serving()
