"""Brands, ready to be asked: by what the bundle says of them, or by the mean of what they sell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.live.index import LiveIndex
from synthrec.recommenders.brands import Brands
from synthrec.retrieval.index import best

Floats = NDArray[np.float32]
Sums = NDArray[np.float64]
Sold = tuple[str, Floats]  # a brand, and the vector of one of its products


def brands(bundle: Bundle) -> BrandIndex | BrandMeans:
    return BrandMeans.of(bundle) if bundle.brands is None else BrandIndex.of(bundle, bundle.brands)


class BrandIndex:
    """Brands by what is said of them and what they sold when the bundle was made.

    A brand whose last product has gone is passed over; one that came since is not known. As `BrandMeans` to threads.
    """

    def __init__(self, known: Brands, selling: Counter[str]) -> None:
        self._index, self._selling = known.index, selling
        self._without: frozenset[str] = frozenset()
        self._look()

    @classmethod
    def of(cls, bundle: Bundle, known: Brands) -> BrandIndex:
        return cls(known, Counter(brand for brand in bundle.catalogue["brand"].to_pylist() if brand))

    def change(self, gone: Iterable[Sold], come: Iterable[Sold]) -> None:
        """Count what is sold no more, and what is now."""
        self._selling.subtract(brand for brand, _ in gone)
        self._selling.update(brand for brand, _ in come)
        self._look()

    def _look(self) -> None:
        self._without = frozenset(name for name in self._index.ids if not self._selling[name] > 0)

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        """Names and scores; the query may be empty where only the vector counts."""
        without = self._without
        found = best(self._index.ids, self._index.scores(query, vector), k + len(without))
        return [one for one in found if one[0] not in without][:k]

    def about(self, name: str) -> str | None:
        return self._index.texts[self._index.ids.index(name)] or None


class BrandMeans:
    """Brands as the direction of the sum of what they sell, live products with it.

    May be read by any number of threads while one changes it: they see all of a change or nothing.
    """

    def __init__(self, width: int) -> None:
        self._sums: dict[str, tuple[int, Sums]] = {}
        self._seen: tuple[list[str], Floats] = [], np.zeros((0, width), np.float32)

    @classmethod
    def of(cls, bundle: Bundle) -> BrandMeans:
        vectors = bundle.hybrid.vectors
        made = cls(vectors.shape[1])
        rows = zip(bundle.catalogue["brand"].to_pylist(), vectors, strict=True)
        made.change((), ((brand, vector) for brand, vector in rows if brand))
        return made

    def change(self, gone: Iterable[Sold], come: Iterable[Sold]) -> None:
        """Take away what is sold no more, and add what is. A brand that sells nothing is none."""
        sums = dict(self._sums)
        for sign, some in ((1, come), (-1, gone)):
            for brand, vector in some:
                count, total = sums.get(brand, (0, np.zeros(len(vector))))
                sums[brand] = count + sign, total + sign * vector.astype(np.float64)
        self._sums = {brand: one for brand, one in sums.items() if one[0]}
        whole = np.zeros((len(self._sums), self._seen[1].shape[1]))
        for place, (_, total) in enumerate(self._sums.values()):
            whole[place] = total / max(float(np.linalg.norm(total)), 1e-12)
        self._seen = list(self._sums), whole.astype(np.float32)

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        names, vectors = self._seen
        return best(names, vectors @ vector, k)

    def about(self, name: str) -> str | None:
        return None


def sold(index: LiveIndex, product_ids: Iterable[str]) -> list[Sold]:
    """Of products, each once, that can be found and have a brand: that, and their vectors."""
    ids = list(dict.fromkeys(product_ids))
    known, vectors = index.vectors(ids)
    there = (one for one, found in zip(ids, known, strict=True) if found)
    pairs = ((index.product(one, ("brand",))["brand"], vector) for one, vector in zip(there, vectors, strict=True))
    return [(brand, vector) for brand, vector in pairs if brand]
