"""The index that the endpoint searches: an immutable snapshot, and what has changed since."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.config import Index
from synthrec.live.fusion import fused
from synthrec.live.snapshot import Row
from synthrec.live.state import State
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.ranking import diverse
from synthrec.retrieval.tokens import words
from synthrec.retrieval.vectors import Floats, Here, Maker, top
from synthrec.sources.cleaning import clean
from synthrec.stores.base import Change

MORE = 4  # so many nearest for each product asked are looked at, where they are to differ

log = logging.getLogger(__name__)


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
    """Safe to read from any number of threads while others apply changes.

    A search sees the catalogue before a change or after it, never half of one. When `settings.delta` products have
    changed, a thread folds them into a new snapshot; searches go on meanwhile, and find the same.
    """

    def __init__(self, bundle: Bundle, settings: Index) -> None:
        self._settings = settings
        self._hybrid = bundle.hybrid
        self._maker = _maker(settings)
        self._state = State.of(bundle, self._maker)
        self._lock = threading.Lock()  # of writers; a reader takes the state once, and keeps it
        self._since: list[tuple[Sequence[Change], Floats]] | None = None  # applied while folding
        self._folder: threading.Thread | None = None

    @property
    def size(self) -> int:
        """Products that can be found."""
        return int(np.count_nonzero(self._state.alive))

    @property
    def revision(self) -> int:
        """Of the last change applied: what to give `Store.changes`."""
        return self._state.revision

    def pass_over(self, revision: int) -> None:
        """Begin after a revision: what changed up to it stands in the bundle. Before the first change is applied."""
        self._state = replace(self._state, revision=revision)

    def apply(self, changes: Sequence[Change], vectors: Floats) -> None:
        """Make changes searchable.

        Args:
            changes: ascending by revision; a product is a row of the catalogue (`schema.CATALOGUE`), as
                `sources.documents.product_row` makes it.
            vectors: unit vectors of the `text` of those not deleted, in their order, shape (upserts, width).
        """
        with self._lock:
            self._state = self._state.after(changes, vectors)
            if self._since is not None:
                self._since.append((changes, vectors))
            elif self._state.changed > self._settings.delta:
                self._since = []
                self._folder = threading.Thread(target=self._fold, name="fold", daemon=True)
                self._folder.start()

    def settle(self) -> None:
        """Wait until no snapshot is being made."""
        if (folder := self._folder) is not None:
            folder.join()

    def search(
        self,
        query: str,
        vector: Floats | None,
        k: int,
        filters: Filters | None = None,
        weight: float | None = None,
        offset: int = 0,
        explain: bool = False,
    ) -> list[Found]:
        """The best products from place `offset` on, at most k, ties by position.

        Scores are those of `Hybrid.scores`, among what the filters let through.

        Args:
            vector: of the query, shape (width,); None: BM25 alone, which finds only what shares a word with it.
            weight: the semantic share; None: as tuned for the query's language.
        """
        state, count = self._state, offset + k
        weight = self._hybrid.weight(query) if weight is None else weight
        terms, allowed = words(clean(query)), state.allowed(filters)
        lexical = state.lexical(terms)
        if allowed is not None:
            lexical *= allowed
        cosines: Floats | None = None
        if vector is None or weight == 0:
            places, scores = top(lexical, count)
            places, scores = places[scores > 0], scores[scores > 0]
        elif weight == 1:
            places, scores = state.nearest(vector, count, allowed)
            cosines = scores
        else:
            places, scores, cosines = fused(state, lexical, vector, weight, count, allowed)
        return [
            Found(
                product_id=state.name(place),
                score=float(scores[rank]),
                lexical=float(lexical[place]),
                semantic=None if cosines is None else float(cosines[rank]),
                matched=_matched(terms, state.row(place)["text"]) if explain else (),
            )
            for rank, place in enumerate(places.tolist())
            if rank >= offset
        ]

    def similar(self, product_id: str, k: int, filters: Filters | None = None, diversity: float = 0.0) -> list[Found]:
        """Products nearest to one by meaning, without itself. KeyError where it is unknown.

        Args:
            diversity: 0: the nearest; towards 1: less like each other (maximal marginal relevance, Carbonell &
                Goldstein 1998).
        """
        state = self._state
        place = _known(state, product_id)
        allowed = state.allowed(filters)
        allowed = np.ones(len(state.alive), bool) if allowed is None else allowed.copy()
        allowed[place] = False
        own = state.vectors(np.array([place]))[0]
        places, cosines = state.nearest(own, k if diversity == 0 else MORE * k, allowed)
        if diversity > 0:
            chosen = diverse(state.vectors(places), cosines, k, diversity)
            places, cosines = places[chosen], cosines[chosen]
        pairs = zip(places.tolist(), cosines.tolist(), strict=True)
        return [Found(state.name(one), cosine, 0.0, cosine) for one, cosine in pairs]

    def product(self, product_id: str, names: Sequence[str] | None = None) -> Row:
        """A product's row of the catalogue, with at least the fields that are named, or all.

        Raises:
            KeyError: it is unknown, or deleted.
        """
        state = self._state
        return state.row(_known(state, product_id), names)

    def vectors(self, product_ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which of the products can be found, shape (products,), and the unit vectors of those, (known, width)."""
        state = self._state
        places = [state.place(one) for one in product_ids]
        known = np.array([place is not None for place in places], bool)
        return known, state.vectors(np.array([place for place in places if place is not None], np.int64))

    def passing(self, product_ids: Iterable[str], k: int, filters: Filters | None = None) -> list[str]:
        """The first k of a ranking made elsewhere that can be found and that the filters let through."""
        state = self._state
        allowed = state.allowed(filters)
        found = (
            one
            for one in product_ids
            if (place := state.place(one)) is not None and (allowed is None or allowed[place])
        )
        return list(islice(found, k))

    def _fold(self) -> None:
        """Runs in a thread of its own. What is applied meanwhile is applied again, to the new snapshot."""
        try:
            made = self._state.folded(self._maker)
            with self._lock:
                for changes, vectors in self._since or ():
                    made = made.after(changes, vectors)
                self._state, self._since = made, None
        except Exception:
            log.exception("no new snapshot could be made; the old one serves on, and the next change tries again")
            with self._lock:
                self._since = None


def _maker(settings: Index) -> Maker:
    if settings.vectors is None:
        return Here(settings.exact)
    from synthrec.retrieval.qdrant import Server

    return Server.at(settings.vectors, settings.exact)


def _known(state: State, product_id: str) -> int:
    place = state.place(product_id)
    if place is None:
        raise KeyError(product_id)
    return place


def _matched(terms: Sequence[str], text: str) -> tuple[str, ...]:
    held = set(words(text))
    return tuple(dict.fromkeys(term for term in terms if term in held))
