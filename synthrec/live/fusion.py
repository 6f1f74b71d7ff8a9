"""The best of two rankings fused, without the scores of all products.

The threshold algorithm (Fagin, Lotem & Naor 2003): the nearest products and the best by words are scored whole. Of
any other, the cosine is no better than the least of the nearest; so only one whose words score high enough to reach
the place asked for, given that cosine, can still be missing, and those are scored, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthrec.retrieval.hybrid import convex
from synthrec.retrieval.vectors import Floats, Positions, top

if TYPE_CHECKING:
    from synthrec.live.state import State

DEPTH = 100  # of each ranking, at least
MOST = 4000  # that are scored because their words could still reach the place asked for; the best by words, if more


def fused(
    state: State, lexical: Floats, vector: Floats, weight: float, k: int, allowed: NDArray[np.bool_] | None
) -> tuple[Positions, Floats, Floats]:
    """The k best by `convex`, ties by position: positions, scores, cosines.

    Args:
        lexical: BM25 of each position, 0 where it is not allowed.
    """
    depth = max(DEPTH, 2 * k)
    near, cosines = state.nearest(vector, depth, allowed)
    by_words, best = top(lexical, depth)
    places = np.union1d(near, by_words[best > 0])
    known = np.full(len(lexical), np.nan, np.float32)
    known[near] = cosines
    scores = _scored(state, lexical, known, places, vector, weight)
    if len(near) == depth and len(scores):
        reach = np.partition(scores, -min(k, len(scores)))[-min(k, len(scores))]
        share = (1 - weight) / best[0] if best[0] > 0 else 0.0
        rest = weight * (cosines[-1] + 1) / (cosines[0] + 1)
        if best[0] > 0 and share * best[-1] + rest >= reach:
            more = np.flatnonzero(lexical >= max((reach - rest) / share, np.finfo(np.float32).tiny))
            if len(more) > MOST:
                more = top(lexical, MOST)[0]
            places = np.union1d(places, more)
            scores = _scored(state, lexical, known, places, vector, weight)
    order, scores = top(scores, k)
    places = places[order]
    return places, scores, known[places]


def _scored(state: State, lexical: Floats, known: Floats, places: Positions, vector: Floats, weight: float) -> Floats:
    """The fused score of each place; cosines that are not known yet are computed into `known`."""
    missing = places[np.isnan(known[places])]
    known[missing] = state.vectors(missing) @ vector
    return convex(lexical[places], known[places], weight) if len(places) else np.zeros(0, np.float32)
