"""Brands, ready to be asked: by what the bundle says of them, or by the mean of what they sell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.recommenders.brands import Brands, mean
from synthrec.retrieval.index import best

Floats = NDArray[np.float32]


def brands(bundle: Bundle) -> BrandIndex | BrandMeans:
    return BrandMeans.of(bundle) if bundle.brands is None else BrandIndex(bundle.brands)


@dataclass(frozen=True)
class BrandIndex:
    """Brands by what is said of them and what they sell."""

    brands: Brands

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        """Names and scores; the query may be empty where only the vector counts."""
        index = self.brands.index
        return best(index.ids, index.scores(query, vector), k)

    def about(self, name: str) -> str | None:
        index = self.brands.index
        return index.texts[index.ids.index(name)] or None


@dataclass(frozen=True)
class BrandMeans:
    """Brands as the mean of their products' vectors, shape (brands, width)."""

    names: list[str]
    vectors: Floats

    @classmethod
    def of(cls, bundle: Bundle) -> BrandMeans:
        rows: dict[str, list[int]] = {}
        for place, brand in enumerate(bundle.catalogue["brand"].to_pylist()):
            if brand:
                rows.setdefault(brand, []).append(place)
        vectors = [mean(bundle.hybrid.vectors[places]) for places in rows.values()]
        width = bundle.hybrid.vectors.shape[1]
        return cls(list(rows), np.stack(vectors) if vectors else np.zeros((0, width), np.float32))

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        return best(self.names, self.vectors @ vector, k)

    def about(self, name: str) -> str | None:
        return None
