"""Metrics of full rankings: every product ranked for every query, never a sample (Krichene & Rendle 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthrec.retrieval.ranking import Ranking, rank

Values = NDArray[np.float64]
Gains = Sequence[dict[int, float]]
__all__ = ["Gains", "Ranking", "Values", "gains_at", "mean", "mrr", "ndcg", "rank", "recall"]


def gains_at(ranking: Ranking, gains: Gains) -> Values:
    """The gain of each ranked item, shape of `ranking`."""
    return np.array([[g.get(int(i), 0.0) for i in row] for row, g in zip(ranking, gains, strict=True)]).reshape(
        ranking.shape
    )


def ndcg(ranking: Ranking, gains: Gains, k: int) -> Values:
    """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002), linear gain, log2 discount; (queries,).

    The ideal is taken from all judged items. NaN for a query with no positive gain.
    """
    found = gains_at(ranking[:, :k], gains)
    discount = 1 / np.log2(np.arange(2, found.shape[1] + 2))
    ideal = [sorted(g.values(), reverse=True)[:k] for g in gains]
    best = np.array([sum(v / np.log2(i + 2) for i, v in enumerate(values)) for values in ideal])
    return _ratio((found * discount).sum(1), best)


def recall(ranking: Ranking, gains: Gains, k: int, relevant_from: float = 1.0) -> Values:
    """Share of the relevant items among the first k; (queries,). NaN for a query without any."""
    hits = (gains_at(ranking[:, :k], gains) >= relevant_from).sum(1)
    return _ratio(hits, np.array([sum(v >= relevant_from for v in g.values()) for g in gains]))


def mrr(ranking: Ranking, gains: Gains, k: int, relevant_from: float = 1.0) -> Values:
    """One over the place of the first relevant item, 0 beyond k; (queries,). NaN for a query without any."""
    hits = gains_at(ranking[:, :k], gains) >= relevant_from
    first = np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0.0)
    return _ratio(first, np.array([float(any(v >= relevant_from for v in g.values())) for g in gains]))


def mean(values: Values) -> tuple[float, int]:
    """Mean over the queries that have a value, and how many they are; (nan, 0) when none has."""
    known = values[~np.isnan(values)]
    return (float(known.mean()), len(known)) if len(known) else (float("nan"), 0)


def mean_or_none(values: Values) -> float | None:
    """The same mean alone; None where no query has a value, for JSON knows no NaN."""
    found, known = mean(values)
    return found if known else None


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Values:
    out = np.full(len(below), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
