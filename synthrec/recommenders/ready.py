"""Recommenders of the next product, ready to serve: what does not depend on the shopper is computed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as tensors
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor

from synthrec.recommenders.base import Items

Vector = NDArray[np.float32]
GRAPH = "graph.safetensors"
ITEM_KNN, NEIGHBOURS = "ItemKNN", "neighbours.safetensors"


class Ready(Protocol):
    """A recommender in the endpoint."""

    @property
    def products(self) -> int:
        """How many it was made of."""

    def scores(self, history: Items) -> Vector | None:
        """(items,), -inf for what cannot be scored; None where the history, oldest first, tells nothing."""


@dataclass(frozen=True)
class Products:
    """Scores are dot products.

    Attributes:
        items: vectors, (items, width).
        scorable: (items,) whether anything is known of the item.
        shopper: a history, oldest first -> their vector, (width,); zeros where nothing can be told from it.
    """

    items: NDArray[np.float32]
    scorable: NDArray[np.bool_]
    shopper: Callable[[Items], Vector]

    @property
    def products(self) -> int:
        return len(self.items)

    def scores(self, history: Items) -> Vector | None:
        vector = self.shopper(history)
        return np.where(self.scorable, self.items @ vector, -np.inf) if vector.any() else None


@dataclass(frozen=True)
class Neighbours:
    """Scores are sums of what the products taken say of others: ItemKNN.

    Attributes:
        likeness: (items, items), few a row. An item without any was never taken with another: nothing is known of it.
    """

    likeness: sparse.csr_array

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        return np.diff(self.likeness.indptr) > 0

    @property
    def products(self) -> int:
        return len(self.known)

    def scores(self, history: Items) -> Vector | None:
        taken = np.unique(history)
        taken = taken[self.known[taken]]
        return np.where(self.known, self.likeness[taken].sum(0), -np.inf) if len(taken) else None

    def stored(self) -> bytes:
        """As a file of NEIGHBOURS."""
        matrix = self.likeness
        parts = {"starts": matrix.indptr, "items": matrix.indices, "likeness": matrix.data.astype(np.float32)}
        return tensors.save(parts)


def load(name: str, folder: Path) -> Ready:
    """The recommender that a bundle holds: `sequential`, `graph` or ITEM_KNN."""
    if name == ITEM_KNN:
        found = tensors.load_file(folder / NEIGHBOURS)
        size = len(found["starts"]) - 1
        likeness = sparse.csr_array((found["likeness"], found["items"], found["starts"]), (size, size))
        likeness.check_format()
        return Neighbours(likeness)
    if name == "sequential":
        from synthrec.recommenders.sequential import Sequential

        model = Sequential.load(folder)
        known = model.catalogue.knowable().cpu().numpy()
        return Products(model.vectors(), known, lambda history: model.encode([history])[0])
    graph = load_file(folder / GRAPH) if (folder / GRAPH).is_file() else _graph(folder)  # bundles of old: the graph
    items, shares, scorable = (graph[part].cpu().numpy() for part in ("items", "shares", "scorable"))

    def shopper(history: Items) -> Vector:
        taken = np.unique(history)
        taken = taken[scorable[taken]]
        return shares[taken].sum(0) / np.float32(max(1, len(taken)) ** 0.5)  # type: ignore[no-any-return]

    return Products(items, scorable, shopper)


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
