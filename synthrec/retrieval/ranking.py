"""Scores -> the best items, in one stated order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranking = NDArray[np.int64]


def rank(scores: NDArray[np.float32], depth: int, exclude: Sequence[NDArray[np.int64]] | None = None) -> Ranking:
    """Best items first, ties broken by the lower position.

    Args:
        scores: (queries, items).
        depth: how many to rank.
        exclude: for each query the items never ranked.

    Returns:
        (queries, depth) positions, -1 where fewer items are left.

    Raises:
        ValueError: if a score is NaN or depth exceeds the items.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    if depth > scores.shape[1]:
        raise ValueError(f"depth {depth} exceeds {scores.shape[1]} items")
    keys = -scores.astype(np.float32, copy=True)
    for row, items in enumerate(exclude or ()):
        keys[row, items] = np.inf
    if depth < scores.shape[1]:
        cut = np.partition(keys, depth - 1, axis=1)[:, depth - 1 : depth]
    else:
        cut = np.full((len(keys), 1), np.inf, np.float32)
    out = np.full((len(keys), depth), -1, np.int64)
    for row in range(len(keys)):  # items tied at the cut are all looked at, so that the lower position wins
        near = np.flatnonzero(keys[row] <= cut[row])
        best = near[np.argsort(keys[row, near], kind="stable")][:depth]
        best = best[keys[row, best] < np.inf]
        out[row, : len(best)] = best
    return out


def diverse(vectors: NDArray[np.float32], scores: NDArray[np.float32], k: int, diversity: float) -> Ranking:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): which k of some candidates to show, in order.

    Args:
        vectors: unit vectors of the candidates, (candidates, width).
        scores: what each is worth alone, on the scale of a cosine, best first.
        diversity: 0: the best; 1: those least like what is shown before.
    """
    chosen: list[int] = []
    likeness = np.full(len(scores), -1.0, np.float32)
    left = np.ones(len(scores), bool)
    for _ in range(min(k, len(scores))):
        worth = scores if not chosen else (1 - diversity) * scores - diversity * likeness
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return np.array(chosen, np.int64)
