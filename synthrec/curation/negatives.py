"""Hard negatives with a relative margin, and the false ones among them.

A product that a retriever ranks high for a query and that is not its positive is a hard negative, or a positive that
nobody labelled. The margin tells them apart (NV-Retriever, Moreira et al. 2024, TopK-PercPos): a negative must score
below `margin` times what the positive scores. What scores above the positive is suspected to be a false negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

QUERIES = 1024  # scored at once, against
PRODUCTS = 8192  # so many: 32 MB of scores, and their ranks, however many there are
NONE = -1


@dataclass(frozen=True)
class Suspects:
    """Pairs that are no safe negatives, ordered by query and then by score, highest first.

    Attributes:
        query, product: places, (n,).
        score: similarity, (n,).
        relevant: the relevance score says that the product fits: relabel it a positive. Else only mask it.
    """

    query: Ids
    product: Ids
    score: NDArray[np.float32]
    relevant: NDArray[np.bool_]


@dataclass(frozen=True)
class Mined:
    """`negatives` are places of products, (queries, k), hardest first, filled up with -1 where there are fewer."""

    negatives: Ids
    suspects: Suspects


def mine(
    queries: Vectors,
    products: Vectors,
    positives: Sequence[Sequence[int]],
    k: int = 8,
    margin: float = 0.95,
    bm25: csr_matrix | None = None,
    relevance: csr_matrix | None = None,
    relevant: float = 0.5,
    most_suspects: int = 8,
) -> Mined:
    """Negatives of each query, and the pairs that look like positives.

    Memory holds a block of QUERIES x PRODUCTS scores, and the result; it does not grow with the catalogue.

    Args:
        queries, products: (q, d) and (p, d), of unit length, so that their products are cosines.
        positives: places of each query's products; never negatives. Of several, the lowest score sets the margin, which
            errs on the safe side. A query without any gets no negatives.
        k: negatives of a query.
        margin: share of the positive's score that a negative's must stay below; for a score below 0, as far below it.
        bm25: (q, p), stored entries are BM25's hits: up to half of the negatives are the best of these, under the same
            margin.
        relevance: (q, p), stored entries are an LLM's probabilities that the product fits; absent ones are not known.
        relevant: from this probability on a product is a positive that nobody labelled, whatever its similarity.
        most_suspects: kept of a query, by similarity; those that relevance names are all kept.
    """
    if len(positives) != len(queries):
        raise ValueError(f"{len(queries)} queries and positives of {len(positives)}")
    negatives = np.full((len(queries), k), NONE, np.int64)
    suspects: list[Suspects] = []
    for start in range(0, len(queries), QUERIES):
        chunk = range(start, min(start + QUERIES, len(queries)))
        floor = np.array([_lowest(queries[i], products, positives[i]) for i in chunk], np.float32)
        limit = floor - np.abs(floor) * (1 - margin)
        found: list[tuple[int, int, float, bool]] = []
        fits = [_fitting(relevance, i, relevant) - set(positives[i]) for i in chunk]
        below, above = _Best(len(chunk), k), _Best(len(chunk), most_suspects)
        for first in range(0, len(products), PRODUCTS):
            scores = queries[start : chunk.stop] @ products[first : first + PRODUCTS].T
            for row, i in enumerate(chunk):
                held = [p - first for p in (*positives[i], *fits[row]) if first <= p < first + scores.shape[1]]
                scores[row, held] = -np.inf
            above.add(np.where(scores >= floor[:, None], scores, -np.inf), first)
            below.add(np.where(scores < limit[:, None], scores, -np.inf), first)
        for row, i in enumerate(chunk):
            dense = [int(p) for p in below.ids[row] if p != NONE]
            words = _by_words(bm25, i, queries[i], products, float(limit[row]), {*positives[i], *fits[row]})
            chosen = list(dict.fromkeys([*words[: k // 2], *dense]))[:k]
            chosen = sorted(chosen, key=lambda p: -float(queries[i] @ products[p]))
            negatives[i, : len(chosen)] = chosen
            near = [
                (i, int(p), float(s), False) for p, s in zip(above.ids[row], above.scores[row], strict=True) if p >= 0
            ]
            near += [(i, p, float(queries[i] @ products[p]), True) for p in fits[row]]
            found += sorted(near, key=lambda one: (-one[2], one[1]))
        suspects.append(_suspects(found))
    columns = ("query", "product", "score", "relevant")
    none = _suspects([])
    return Mined(
        negatives, Suspects(*(np.concatenate([getattr(one, name) for one in (none, *suspects)]) for name in columns))
    )


class _Best:
    """The best so many of each row, over chunks of columns."""

    def __init__(self, rows: int, size: int) -> None:
        self.ids = np.full((rows, size), NONE, np.int64)
        self.scores = np.full((rows, size), -np.inf, np.float32)

    def add(self, scores: NDArray[np.float32], first: int) -> None:
        size = self.ids.shape[1]
        if size == 0:
            return
        if scores.shape[1] > size:
            part = np.argpartition(-scores, size - 1, axis=1)[:, :size]
        else:
            part = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        values = np.concatenate([self.scores, np.take_along_axis(scores, part, 1)], axis=1)
        ids = np.concatenate([self.ids, part + first], axis=1)
        order = np.lexsort((ids, -values), axis=1)[:, :size]
        self.scores = np.take_along_axis(values, order, 1)
        self.ids = np.where(np.isneginf(self.scores), NONE, np.take_along_axis(ids, order, 1))


def _lowest(query: Vectors, products: Vectors, positives: Sequence[int]) -> float:
    """The positives' lowest score; NaN without any: nothing is below or above it."""
    return float((products[list(positives)] @ query).min()) if len(positives) else float("nan")


def _row(matrix: csr_matrix, row: int) -> tuple[Ids, NDArray[np.float64]]:
    stored = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[stored], matrix.data[stored]


def _fitting(relevance: csr_matrix | None, row: int, least: float) -> set[int]:
    if relevance is None:
        return set()
    places, values = _row(relevance, row)
    return {int(place) for place in places[values >= least]}


def _by_words(
    bm25: csr_matrix | None, row: int, query: Vectors, products: Vectors, limit: float, held: set[int]
) -> list[int]:
    """BM25's hits under the margin, best first."""
    if bm25 is None:
        return []
    places, values = _row(bm25, row)
    order = places[np.lexsort((places, -values))]
    under = order[products[order] @ query < limit]
    return [int(place) for place in under if int(place) not in held]


def _suspects(found: list[tuple[int, int, float, bool]]) -> Suspects:
    query, product, score, fits = zip(*found, strict=True) if found else ((), (), (), ())
    return Suspects(
        np.array(query, np.int64), np.array(product, np.int64), np.array(score, np.float32), np.array(fits, np.bool_)
    )
