"""The index that the endpoint searches: an immutable snapshot, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.config import Index
from synthrec.retrieval.filters import Filters
from synthrec.stores.base import Change, Row


@dataclass(frozen=True)
class Found:
    """A product that was found.

    Attributes:
        score: what it is ranked by; `lexical` and `semantic` are BM25's score and the cosine that it is fused from.
        semantic: None where the query had no vector, or its weight is 0.
        matched: the query's terms (stemmed, segmented) that its text holds; empty unless `explain`.
    """

    product_id: str
    score: float
    lexical: float
    semantic: float | None
    matched: tuple[str, ...] = ()


class LiveIndex:
    """Safe to read from any number of threads while one applies changes.

    A search sees the catalogue before a change or after it, never half of one.
    """

    def __init__(self, bundle: Bundle, settings: Index) -> None: ...

    @property
    def size(self) -> int:
        """Products that can be found."""
        raise NotImplementedError

    @property
    def revision(self) -> int:
        """Of the last change applied: what to give `Store.changes`."""
        raise NotImplementedError

    def apply(self, changes: Sequence[Change], vectors: NDArray[np.float32]) -> None:
        """Make changes searchable.

        Args:
            changes: ascending by revision; a product is a row of the catalogue (`schema.CATALOGUE`), as
                `sources.documents.product_row` makes it.
            vectors: unit vectors of the `text` of those not deleted, in their order, shape (upserts, width).
        """
        raise NotImplementedError

    def search(
        self,
        query: str,
        vector: NDArray[np.float32] | None,
        k: int,
        filters: Filters | None = None,
        weight: float | None = None,
        offset: int = 0,
        explain: bool = False,
    ) -> list[Found]:
        """The best products from place `offset` on, at most k, ties by position.

        Args:
            vector: of the query, shape (width,); None: BM25 alone, which finds only what shares a word with it.
            weight: the semantic share; None: as tuned for the query's language.
        """
        raise NotImplementedError

    def similar(self, product_id: str, k: int, filters: Filters | None = None, diversity: float = 0.0) -> list[Found]:
        """Products nearest to one by meaning, without itself. KeyError where it is unknown.

        Args:
            diversity: 0: the nearest; towards 1: less like each other (maximal marginal relevance, Carbonell &
                Goldstein 1998).
        """
        raise NotImplementedError

    def product(self, product_id: str) -> Row:
        """A product's row of the catalogue. KeyError where it is unknown, or deleted."""
        raise NotImplementedError
