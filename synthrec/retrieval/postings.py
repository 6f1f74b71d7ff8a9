"""BM25 over a catalogue that changes: the bundle's statistics, a matrix of scores, and a few documents beside it.

A document that comes later is weighed by the bundle's idf and mean length (Robertson & Zaragoza 2009, as in
`bm25.py`), so that scores of old and new compare, and taking new documents into the matrix changes none of them. The
statistics themselves are renewed with the next bundle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthrec.retrieval.bm25 import BM25

Scores = NDArray[np.float32]
Column = tuple[NDArray[np.int32], Scores]  # positions of documents, what the term adds to each


@dataclass(frozen=True)
class Statistics:
    """What a document's terms weigh.

    Attributes:
        holding: in how many documents of the bundle each term is.
    """

    documents: int
    mean_length: float
    k1: float
    b: float
    holding: Mapping[str, int]

    @classmethod
    def of(cls, bm25: BM25) -> Statistics:
        index = bm25.index
        counts = np.diff(index.scores["indptr"]).tolist()
        holding = {term: counts[column] for term, column in _terms(bm25).items()}
        return cls(bm25.size, bm25.mean_length, index.k1, index.b, holding)

    def weigh(self, terms: Sequence[str]) -> dict[str, float]:
        """What each term of a document adds to its score."""
        norm = self.k1 * (1 - self.b + self.b * len(terms) / self.mean_length)
        return {term: self._idf(term) * count / (count + norm) for term, count in Counter(terms).items()}

    def _idf(self, term: str) -> float:
        held = self.holding.get(term, 0)
        return math.log(1 + (self.documents - held + 0.5) / (held + 0.5))


@dataclass(frozen=True)
class Few:
    """Documents by term, for some thousands of them. Immutable: `plus` shares what it does not change."""

    size: int = 0
    columns: Mapping[str, Column] = field(default_factory=dict)

    def plus(self, documents: Sequence[Mapping[str, float]]) -> Few:
        """With more documents, given as `Statistics.weigh` does, at the positions that follow."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        for place, weights in enumerate(documents, self.size):
            for term, weight in weights.items():
                places, values = found.setdefault(term, ([], []))
                places.append(place)
                values.append(weight)
        columns = dict(self.columns)
        for term, (places, values) in found.items():
            new = np.array(places, np.int32), np.array(values, np.float32)
            old = columns.get(term)
            columns[term] = new if old is None else (np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]]))
        return Few(self.size + len(documents), columns)

    def column(self, term: str) -> Column | None:
        return self.columns.get(term)

    def flat(self, vocabulary: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int32], Scores]:
        """Numbers of terms, ascending, with positions and values, each of shape (entries,)."""
        order = sorted(self.columns, key=vocabulary.__getitem__)
        numbers = [np.full(len(self.columns[term][0]), vocabulary[term]) for term in order]
        places, values = ([self.columns[term][part] for term in order] for part in (0, 1))
        return (
            np.concatenate([np.zeros(0, np.int64), *numbers]),
            np.concatenate([np.zeros(0, np.int32), *places]),
            np.concatenate([np.zeros(0, np.float32), *values]),
        )


@dataclass(frozen=True)
class Matrix:
    """Documents by term, compressed by column: those of term c are `places[starts[c] : starts[c + 1]]`."""

    size: int
    vocabulary: Mapping[str, int]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    values: Scores

    @classmethod
    def of(cls, bm25: BM25) -> Matrix:
        """The bundle's own arrays."""
        held = bm25.index.scores
        starts = np.asarray(held["indptr"], np.int64)
        return cls(bm25.size, _terms(bm25), starts, np.asarray(held["indices"], np.int32), held["data"])

    def column(self, term: str) -> Column | None:
        number = self.vocabulary.get(term)
        if number is None:
            return None
        part = slice(self.starts[number], self.starts[number + 1])
        return self.places[part], self.values[part]

    def merged(self, alive: NDArray[np.bool_], few: Few) -> Matrix:
        """One matrix of this and `few` after it, without the documents that are not alive, shape (size + few.size,)."""
        moved = np.cumsum(alive, dtype=np.int32) - 1
        vocabulary = dict(self.vocabulary)
        for term in few.columns:
            vocabulary.setdefault(term, len(vocabulary))
        numbers, new, values = few.flat(vocabulary)
        stays, comes = alive[self.places], alive[self.size + new]
        numbers, new, values = numbers[comes], new[comes], values[comes]
        starts = np.concatenate([[0], np.cumsum(stays)])[self.starts]
        ends = np.concatenate([starts[1:], np.full(len(vocabulary) - len(self.vocabulary), starts[-1])])
        places = np.insert(moved[self.places[stays]], ends[numbers], moved[self.size + new])
        grown = ends + np.cumsum(np.bincount(numbers, minlength=len(vocabulary)))
        return Matrix(
            int(alive.sum()),
            vocabulary,
            np.concatenate([[0], grown]),
            places,
            np.insert(self.values[stays], ends[numbers], values),
        )


def _terms(bm25: BM25) -> dict[str, int]:
    """Columns by term: bm25s knows an empty term, too, which has none."""
    return {term: column for term, column in bm25.index.vocab_dict.items() if term}


def add(into: Scores, terms: Sequence[str], documents: Matrix | Few) -> None:
    """Add to each document's score, shape (size,), what the terms give it; a term that is asked twice counts twice."""
    for term in terms:
        if (column := documents.column(term)) is not None:
            np.add.at(into, *column)
