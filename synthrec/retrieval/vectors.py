"""The nearest vectors: compared with all, or found by short codes and then compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from synthrec.errors import UserError

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEW = 1_000  # allowed vectors are compared without looking at codes
LEAST = 32  # vectors that codes can be learned from at all
TRAINED = 8_192  # vectors that codes are learned from: 512 for each of a group's sixteen values
PART = 65_536  # vectors are coded at once
NARROW = 0.3  # of all: fewer are gathered, more are scored with the rest
SAMPLED = 32  # one score in so many is looked at for the guess in `top`


class Away(UserError):
    """The server that holds an index does not answer."""


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


class Maker(Protocol):
    """Makes the index of each snapshot, here or on a server."""

    def first(self, vectors: Floats) -> VectorIndex: ...

    def after(self, before: VectorIndex, kept: Positions, vectors: Floats) -> VectorIndex:
        """Of the snapshot that follows another.

        Args:
            kept: positions in the one before of the vectors that come first here, ascending; the rest are new.
        """
        ...


@dataclass(frozen=True)
class Here:
    """In this process: see `build`."""

    exact: int

    def first(self, vectors: Floats) -> VectorIndex:
        return build(vectors, self.exact)

    def after(self, before: VectorIndex, kept: Positions, vectors: Floats) -> VectorIndex:
        return build(vectors, self.exact, before)


def build(vectors: Floats, exact: int, before: VectorIndex | None = None) -> VectorIndex:
    """Compared with all, up to `exact` of them; beyond that by their codes first.

    Args:
        before: the index of much the same vectors: what it has learned is taken over.
    """
    if len(vectors) <= max(exact, LEAST):
        return Exact(vectors)
    return Coded(vectors, before if isinstance(before, Coded) else None)


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


class Coded:
    """Vectors as codes of two bits a dimension; of the best by code, candidates are rescored exactly.

    Product quantisation with four-bit codes looked up in registers (Jégou, Douze & Schmid 2011; André, Kermarrec & Le
    Scouarnec 2015), by faiss. At width 384 a product takes 96 bytes, and a core looks through some 200,000 in a
    millisecond: the time grows with the catalogue, the share of what is found does not depend on it.

    Args:
        vectors: (size, width); may be mapped from a file, of which a search then reads what it rescores.
    """

    def __init__(self, vectors: Floats, before: Coded | None = None) -> None:
        faiss.omp_set_num_threads(1)  # of this thread: on busy cores more would spin, each waiting for the others
        self._vectors = vectors
        self.size, width = vectors.shape
        self._index: Any
        self.candidates: int
        if before is None:
            self._index = faiss.IndexIVFPQFastScan(
                faiss.IndexFlatIP(width),
                width,
                1,
                width // 2 if width % 2 == 0 else width,
                4,
                faiss.METRIC_INNER_PRODUCT,
            )
            self._index.by_residual = False
            chosen = np.random.default_rng(7).choice(self.size, min(self.size, TRAINED), replace=False)
            self._index.train(np.ascontiguousarray(vectors[np.sort(chosen)]))
        else:
            self._index = faiss.clone_index(before._index)
            self._index.reset()
        for start in range(0, self.size, PART):
            self._index.add(np.ascontiguousarray(vectors[start : start + PART]))
        self.candidates = before.candidates if before else self._enough()

    def search(self, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Positions, Floats]:
        if allowed is not None and np.count_nonzero(allowed) <= FEW:
            found = [np.flatnonzero(allowed)] * len(vectors)
        else:
            found = self._near(vectors, max(self.candidates, 2 * k), allowed)
        return _stacked([nearest(self._vectors, one, v, k) for one, v in zip(found, vectors, strict=True)], k)

    def _near(self, vectors: Floats, count: int, allowed: Mask | None) -> list[Positions]:
        """For each vector the best by code, ascending."""
        faiss.omp_set_num_threads(1)
        how = faiss.SearchParametersIVF()
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            how = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg,arg-type]
        found = self._index.search(np.ascontiguousarray(vectors), min(count, self.size), params=how)[1]
        return [np.sort(row[row >= 0]) for row in found]

    def _enough(self, k: int = 10, recall: float = 0.998, sample: int = 50) -> int:
        """Candidates that hold all but .2% of a sample's true neighbours among the others, and as many again.

        The sample is of the index's own vectors; queries are less like these than they are like each other.
        """
        chosen = np.sort(np.random.default_rng(8).choice(self.size, min(self.size, sample), replace=False))
        vectors = np.asarray(self._vectors[chosen])
        true, _ = Exact(self._vectors).search(vectors, k + 1)
        count = 10 * k
        while count < self.size:
            found = self._near(vectors, count, None)
            if np.mean([np.isin(one, mine).mean() for one, mine in zip(true, found, strict=True)]) >= recall:
                break
            count *= 2
        return 2 * count


def top(scores: Floats, k: int) -> tuple[Positions, Floats]:
    """The k best of many scores, shape (n,), best first, ties by position; -inf is never found.

    Most are put aside by a guess from a sample, so that few are sorted; the result does not depend on it.
    """
    if k == 0:
        return np.zeros(0, np.int64), scores[:0]
    near, found = _better(scores, k)
    if k < len(near):
        cut = np.partition(found, len(near) - k)[len(near) - k]
        kept = found >= cut
        near, found = near[kept], found[kept]
    order = np.argsort(-found, kind="stable")[:k]
    order = order[found[order] > -np.inf]
    return near[order], found[order]


def _better(scores: Floats, k: int) -> tuple[Positions, Floats]:
    """Some that hold the k best, ascending by position, with their scores."""
    if len(scores) > 16 * SAMPLED and k < len(scores) // 4:
        some = scores[::SAMPLED]
        rank = max(0, len(some) - 1 - (2 * k // SAMPLED + 8))
        near = np.flatnonzero(scores >= np.partition(some, rank)[rank])
        if len(near) >= k:
            return near, scores[near]
    return np.arange(len(scores)), scores


def nearest(vectors: Floats, places: Positions, vector: Floats, k: int) -> tuple[Positions, Floats]:
    """The k nearest to one vector among those at `places`, which ascend; ties by position."""
    order, scores = top(vectors[places] @ vector, k)
    return places[order], scores


def _stacked(found: list[tuple[Positions, Floats]], k: int) -> tuple[Positions, Floats]:
    positions, scores = np.full((len(found), k), -1, np.int64), np.full((len(found), k), -np.inf, np.float32)
    for row, (places, values) in enumerate(found):
        positions[row, : len(places)], scores[row, : len(places)] = places, values
    return positions, scores
