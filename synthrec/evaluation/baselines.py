"""Recommenders to beat before anything is trained: what sells, what is taken together, a linear model of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from synthrec.recommenders.base import Cases, Items, Scorer

Scores = NDArray[np.float32]
BLOCK = 256  # items whose pairs with all others are in memory at once


class Popularity:
    """How often each item was taken; the same for everybody."""

    def __init__(self, train: Sequence[Items], items: int) -> None:
        self.items = items
        self.counts = np.bincount(np.concatenate(list(train)), minlength=items).astype(np.float32)

    def scores(self, cases: Cases) -> Scores:
        return np.tile(self.counts, (len(cases), 1))


class ItemKNN:
    """Items taken by the same shoppers, by cosine, each with its nearest only (Deshpande & Karypis 2004).

    Args:
        neighbours: nearest items kept for each.
        shrink: added below the fraction, so that two items taken together once are not alike.
    """

    def __init__(self, train: Sequence[Items], items: int, neighbours: int = 200, shrink: float = 10.0) -> None:
        self.items = items
        taken = matrix(train, items)
        norms = np.sqrt(taken.sum(0))
        parts = []
        for start, together in _together(taken):
            rows = start + np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
            together.data = together.data / (norms[rows] * norms[together.indices] + shrink)
            together.data[rows == together.indices] = 0
            parts.append(_nearest(together, neighbours))
        self.likeness = sparse.csr_array(sparse.vstack(parts))

    def scores(self, cases: Cases) -> Scores:
        return np.asarray((matrix(cases.histories, self.items) @ self.likeness).todense(), np.float32)


class EASE:
    """Item weights in closed form: a linear autoencoder that may not use an item for itself (Steck 2019).

    Holds items x items weights: 600 MB for 12,000 items, and no second such matrix while it learns them.
    """

    def __init__(self, train: Sequence[Items], items: int, regularisation: float = 250.0) -> None:
        self.items = items
        gram = np.empty((items, items), np.float32)
        for start, together in _together(matrix(train, items)):
            gram[start : start + together.shape[0]] = together.toarray()
        gram[np.diag_indices(items)] += regularisation
        # Half the work of a general inverse; LAPACK's triangle is of the Fortran order that the transpose is in.
        factor, wrong = lapack.spotrf(gram.T, lower=True, overwrite_a=True)
        inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)
        if wrong:
            raise ValueError(f"a regularisation of {regularisation} is too little for these sequences")
        _mirror(inverse)
        inverse /= -np.diag(inverse).copy()
        inverse[np.diag_indices(items)] = 0
        self.weights = inverse

    def scores(self, cases: Cases) -> Scores:
        return np.asarray(matrix(cases.histories, self.items) @ self.weights, np.float32)


class Likeness:
    """Nearest to what the shopper took last, by the items' own vectors, as of their text; knows cold items.

    Args:
        vectors: (items, width) unit vectors.
        last: how many items of the history count; each weighs half of the one after it.
    """

    def __init__(self, vectors: NDArray[np.float32], last: int = 1) -> None:
        self.items = len(vectors)
        self.vectors, self.last = vectors, last

    def scores(self, cases: Cases) -> Scores:
        means = np.zeros((len(cases), self.vectors.shape[1]), np.float32)
        for row, history in enumerate(cases.histories):
            recent = history[-self.last :]
            means[row] = (0.5 ** np.arange(len(recent))[::-1]) @ self.vectors[recent] if len(recent) else 0
        return means @ self.vectors.T


class Fusion:
    """Standardised scores of several, added with weights."""

    def __init__(self, parts: Sequence[tuple[Scorer, float]]) -> None:
        self.parts = parts
        self.items = parts[0][0].items

    def scores(self, cases: Cases) -> Scores:
        total = np.zeros((len(cases), self.items), np.float32)
        for one, weight in self.parts:
            total += _standard(one.scores(cases)) * weight
        return total


class Welcoming:
    """A scorer for who has a history, popularity for who has none: the endpoint shows newcomers what is taken most."""

    def __init__(self, scorer: Scorer, popularity: Scorer) -> None:
        self.items = scorer.items
        self.scorer, self.popularity = scorer, popularity

    def scores(self, cases: Cases) -> Scores:
        scores = self.scorer.scores(cases)
        new = np.array([not len(history) for history in cases.histories])
        if new.any():
            scores = np.where(new[:, None], self.popularity.scores(cases), scores)
        return scores


def matrix(sequences: Sequence[Items], items: int) -> sparse.csr_array:
    """Who took what: (sequences, items), ones; an item taken twice counts once."""
    rows = np.repeat(np.arange(len(sequences)), [len(one) for one in sequences])
    columns = np.concatenate([*sequences, np.zeros(0, np.int64)])
    out = sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), (len(sequences), items))
    out.data[:] = 1
    return out


def _together(taken: sparse.csr_array) -> Iterator[tuple[int, sparse.csr_array]]:
    """Blocks of rows of (items, items), how many took both; a number of the first. All at once, somebody who took
    thousands of items would fill the memory with pairs of them."""
    columns = taken.T.tocsr()
    for start in range(0, columns.shape[0], BLOCK):
        yield start, (columns[start : start + BLOCK] @ taken).tocsr()


def _mirror(lower: Scores) -> None:
    """Fill the upper triangle from the lower one, in place."""
    for start in range(0, len(lower), BLOCK):
        end = start + BLOCK
        lower[start:end, end:] = lower[end:, start:end].T
        square = lower[start:end, start:end]
        square[:] = np.tril(square) + np.tril(square, -1).T


def _nearest(likeness: sparse.csr_array, keep: int) -> sparse.csr_array:
    out = likeness.copy()
    for row in range(out.shape[0]):
        values = out.data[out.indptr[row] : out.indptr[row + 1]]
        if len(values) > keep:
            values[np.argpartition(values, -keep)[:-keep]] = 0
    out.eliminate_zeros()
    return out


def _standard(scores: Scores) -> Scores:
    """Mean 0 and variance 1 in each row. What cannot be scored (-inf) counts as much as the lowest that can."""
    if np.isneginf(scores).any():
        lowest = scores.min(1, keepdims=True, where=np.isfinite(scores), initial=np.inf)
        scores = np.where(np.isneginf(scores), np.where(np.isfinite(lowest), lowest, 0), scores)
    spread = scores.std(1, keepdims=True)
    return (scores - scores.mean(1, keepdims=True)) / np.maximum(spread, 1e-9)
