"""One state of the live index, never changed: a change makes the next one. Positions run over snapshot, then delta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.live.snapshot import Delta, Row, Snapshot
from synthrec.retrieval import postings
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.postings import Statistics
from synthrec.retrieval.tokens import words
from synthrec.retrieval.vectors import Floats, Maker, top
from synthrec.stores.base import Change

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class State:
    """The catalogue at a revision.

    Attributes:
        alive: which positions can be found: not those deleted or replaced. Shape (snapshot's + delta's,).
    """

    snapshot: Snapshot
    delta: Delta
    statistics: Statistics
    alive: Mask
    whole: bool  # all are alive
    revision: int

    @classmethod
    def of(cls, bundle: Bundle, maker: Maker) -> State:
        snapshot = Snapshot.of(bundle, maker)
        delta = Delta.empty(snapshot.vectors.shape[1])
        return cls(snapshot, delta, Statistics.of(bundle.hybrid.bm25), np.ones(len(snapshot.ids), bool), True, 0)

    @property
    def changed(self) -> int:
        """Products changed since the snapshot: what each search pays for."""
        return len(self.delta.rows) + int(np.count_nonzero(~self.alive[: len(self.snapshot.ids)]))

    def after(self, changes: Sequence[Change], unit: Floats) -> State:
        """The state that changes lead to; see `LiveIndex.apply`."""
        latest = {change.product_id: change.product for change in changes}
        rows = [change.product for change in changes if change.product is not None]
        if unit.shape != (len(rows), self.snapshot.vectors.shape[1]):
            raise ValueError(f"vectors of shape {unit.shape} for {len(rows)} products")
        delta = self.delta.plus(rows, [self.statistics.weigh(words(row["text"])) for row in rows], unit)
        alive = np.concatenate([self.alive, np.zeros(len(rows), bool)])
        for product, row in latest.items():
            if (old := self.place(product)) is not None:
                alive[old] = False
            if row is not None:
                alive[len(self.snapshot.ids) + delta.places[product]] = True
        revision = max((change.revision for change in changes), default=self.revision)
        return State(self.snapshot, delta, self.statistics, alive, bool(alive.all()), revision)

    def folded(self, maker: Maker) -> State:
        """The same catalogue with nothing in the delta. Takes seconds for a large one."""
        snapshot = self.snapshot.merged(self.alive, self.delta, maker)
        delta = Delta.empty(snapshot.vectors.shape[1])
        return State(snapshot, delta, self.statistics, np.ones(len(snapshot.ids), bool), True, self.revision)

    def place(self, product_id: str) -> int | None:
        """Where a product is, if it can be found."""
        first = len(self.snapshot.ids)
        late = self.delta.places.get(product_id)
        found = self.snapshot.places.get(product_id) if late is None else first + late
        return found if found is not None and self.alive[found] else None

    def name(self, place: int) -> str:
        first = len(self.snapshot.ids)
        return self.snapshot.ids[place] if place < first else str(self.delta.rows[place - first]["product_id"])

    def row(self, place: int, names: Sequence[str] | None = None) -> Row:
        """A product; with at least the fields that are named, or all."""
        first = len(self.snapshot.ids)
        return self.snapshot.row(place, names) if place < first else self.delta.rows[place - first]

    def allowed(self, filters: Filters | None) -> Mask | None:
        """Which positions may be found; None: all. Raises FilterError."""
        if filters is None or filters == Filters():
            return None if self.whole else self.alive
        self.snapshot.facets.check(filters, self.delta.facets.attributes)
        passed = np.concatenate([self.snapshot.facets.mask(filters), self.delta.facets.mask(filters)])
        passed &= self.alive
        for product in filters.exclude:
            if (place := self.place(product)) is not None:
                passed[place] = False
        return passed

    def lexical(self, terms: Sequence[str]) -> Floats:
        """BM25 of each position, alive or not."""
        scores = np.zeros(len(self.alive), np.float32)
        postings.add(scores, terms, self.snapshot.words)
        postings.add(scores[len(self.snapshot.ids) :], terms, self.delta.words)
        return scores

    def nearest(self, vector: Floats, k: int, allowed: Mask | None) -> tuple[Positions, Floats]:
        """The k nearest, best first, with their cosines; fewer where fewer are allowed."""
        first = len(self.snapshot.ids)
        old, new = (None, None) if allowed is None else (allowed[:first], allowed[first:])
        found, scores = self.snapshot.index.search(vector[None], min(k, first), old)
        places, cosines = found[0][found[0] >= 0], scores[0][found[0] >= 0]
        if not len(self.delta.rows):
            return places, cosines
        fresh = self.delta.vectors @ vector
        if new is not None:
            fresh[~new] = -np.inf
        late, their = top(fresh, k)
        places, cosines = np.concatenate([places, first + late]), np.concatenate([cosines, their])
        order = np.argsort(-cosines, kind="stable")[:k]
        return places[order], cosines[order]

    def vectors(self, places: Positions) -> Floats:
        """Of products by position, shape (places, width)."""
        first = len(self.snapshot.ids)
        if not len(self.delta.rows):
            return np.asarray(self.snapshot.vectors[places])
        out = np.empty((len(places), self.snapshot.vectors.shape[1]), np.float32)
        late = places >= first
        out[~late], out[late] = self.snapshot.vectors[places[~late]], self.delta.vectors[places[late] - first]
        return out
