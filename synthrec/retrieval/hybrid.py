"""Lexical and semantic scores as one: the same code ranks in evaluation and behind the endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthrec.retrieval.bm25 import BM25
from synthrec.sources.cleaning import clean, language

Scores = NDArray[np.float32]


def convex(lexical: Scores, semantic: Scores, weight: float | Scores) -> Scores:
    """Convex combination of scores brought to [0, 1] (Bruch, Gai & Ingber 2023): `weight` is the semantic share,
    one for all or one a query.

    BM25's least is 0 by nature, a cosine's -1; each is divided by its best for the query. Works on the last axis.
    """
    top = lexical.max(axis=-1, keepdims=True)
    lifted = semantic + 1
    best = lifted.max(axis=-1, keepdims=True)
    mixed = (1 - weight) * lexical / np.where(top > 0, top, 1) + weight * lifted / np.where(best > 0, best, 1)
    return mixed.astype(np.float32)


@dataclass(frozen=True)
class Hybrid:
    """A catalogue's two indexes. Products are known by their position.

    Attributes:
        vectors: unit vectors, shape (products, width).
        weights: the semantic share by query language; 0 is BM25 alone, 1 the encoder alone.
    """

    bm25: BM25
    vectors: Scores
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, text: str) -> float:
        return self.weights.get(language(text), 0.5)

    def scores(self, query: str, vector: Scores | None) -> Scores:
        """One score a product, shape (products,). `vector` may be None where the language's weight is 0."""
        weight = self.weight(query)
        lexical = self.bm25.scores(clean(query))
        if weight == 0 or vector is None:
            return lexical
        semantic = self.vectors @ vector
        return semantic if weight == 1 else convex(lexical, semantic, weight)
