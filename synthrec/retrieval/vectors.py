"""The nearest vectors: compared with all, or found by their signs and then compared."""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]

NARROW = 0.3  # of all: fewer are gathered, more are scored with the rest
SAMPLED = 32  # one score in so many is looked at for the guess in `top`


class VectorIndex(Protocol):
    """An immutable index of unit vectors, known by their positions."""

    @property
    def size(self) -> int: ...

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        """The k nearest of each of the vectors (queries, width), best first, ties by position.

        Args:
            allowed: which may be found, shape (size,); None: all.

        Returns:
            Positions and dot products, each (queries, k); -1 and -inf where fewer are allowed.
        """
        ...


def build(vectors: Floats, exact: int) -> VectorIndex:
    """Compared with all, up to `exact` of them; beyond that by their signs first."""
    return Exact(vectors) if len(vectors) <= exact else Signs(vectors)


class Exact:
    """Every vector is compared."""

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors
        self.size = len(vectors)

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        if allowed is not None and np.count_nonzero(allowed) < NARROW * self.size:
            places = np.flatnonzero(allowed)
            return _stacked([nearest(self._vectors, places, vector, k) for vector in vectors], k)
        scores = vectors @ self._vectors.T
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        return _stacked([top(row, k) for row in scores], k)


class Signs:
    """A vector is a bit a dimension, its sign about the mean; those that differ least are rescored exactly.

    Binary quantisation with rescoring, as in BPR (Yamada, Asai & Hajishirzi 2021). At width 384 a product takes 48
    bytes, and a core compares some three hundred thousand in a millisecond.

    Args:
        vectors: (size, width); may be mapped from a file, of which a search then reads what it rescores.
        candidates: how many are rescored; None: as measured on a sample, see `needed`.
    """

    def __init__(self, vectors: Floats, candidates: int | None = None) -> None:
        self._vectors = vectors
        self.size = len(vectors)
        self._mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        parts = np.array_split(vectors, 1 + self.size // 65536)
        self._codes = np.concatenate([self._signs(part) for part in parts])
        self._index = faiss.IndexBinaryFlat(8 * self._codes.shape[1])
        self._index.add(self._codes)
        self.candidates = candidates or self.needed()

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        wanted, codes = max(self.candidates, k), self._signs(vectors)
        if allowed is None:
            found = list(self._index.search(codes, min(wanted, self.size))[1])
        else:
            found = [self._among(code, wanted, allowed) for code in codes]
        return _stacked([nearest(self._vectors, np.sort(one), v, k) for one, v in zip(found, vectors, strict=True)], k)

    def needed(self, k: int = 10, recall: float = 0.998, sample: int = 100) -> int:
        """Candidates that hold the given share of true nearest neighbours, on a sample of the index's own vectors."""
        chosen = np.random.default_rng(7).choice(self.size, min(sample, self.size), replace=False)
        ranks = []
        for place in chosen:
            others = np.arange(self.size) != place
            near, _ = top(np.where(others, self._vectors @ self._vectors[place], -np.inf), k)
            differ = self._differ(self._codes, self._codes[place])
            ranks += [np.count_nonzero(differ[others] <= differ[one]) for one in near]
        return max(10 * k, int(np.quantile(ranks, recall)))

    def _among(self, code: NDArray[np.uint8], wanted: int, allowed: Mask) -> Positions:
        """The closest codes that are allowed; of many faiss finds more than enough, of few each is looked at."""
        count = int(np.count_nonzero(allowed))
        if count > self.size // 2:
            _, found = self._index.search(code[None], min(2 * wanted, self.size))
            kept = found[0][allowed[found[0]]]
            if len(kept) >= min(wanted, count):
                return kept[:wanted]
        places = np.flatnonzero(allowed)
        if count <= wanted:
            return places
        return places[np.argpartition(self._differ(self._codes[places], code), wanted)[:wanted]]

    def _signs(self, vectors: Floats) -> NDArray[np.uint8]:
        """Bits in bytes, padded to whole words of eight, shape (n, bytes)."""
        bits = np.packbits(vectors > self._mean, axis=1)
        return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))

    @staticmethod
    def _differ(codes: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Bits that differ (Hamming distance), shape (n,)."""
        words = np.bitwise_count(codes.view(np.uint64) ^ code.view(np.uint64))
        return words.sum(axis=1, dtype=np.int64)


def top(scores: Floats, k: int) -> tuple[Positions, Floats]:
    """The k best of many scores, shape (n,), best first, ties by position; -inf is never found.

    Most are put aside by a guess from a sample, so that few are sorted; the result does not depend on it.
    """
    near = np.arange(len(scores))
    if len(scores) > 16 * SAMPLED and k < len(scores) // 4:
        some = scores[::SAMPLED]
        rank = max(0, len(some) - 1 - (2 * k // SAMPLED + 8))
        guess = np.partition(some, rank)[rank]
        better = np.flatnonzero(scores >= guess)
        near = better if len(better) >= k else near
    if k < len(near):
        cut = np.partition(scores[near], len(near) - k)[len(near) - k]
        near = near[scores[near] >= cut]
    order = near[np.argsort(-scores[near], kind="stable")][:k]
    order = order[scores[order] > -np.inf]
    return order, scores[order]


def nearest(vectors: Floats, places: Positions, vector: Floats, k: int) -> tuple[Positions, Floats]:
    """The k nearest to one vector among those at `places`, which ascend; ties by position."""
    order, scores = top(vectors[places] @ vector, k)
    return places[order], scores


def _stacked(found: list[tuple[Positions, Floats]], k: int) -> tuple[Positions, Floats]:
    positions, scores = np.full((len(found), k), -1, np.int64), np.full((len(found), k), -np.inf, np.float32)
    for row, (places, values) in enumerate(found):
        positions[row, : len(places)], scores[row, : len(places)] = places, values
    return positions, scores
