"""Ranking metrics over a whole catalogue, one value per query.

A query that has nothing to find (no gain above 0, or nothing relevant) has no score: its value is NaN, and `mean`
leaves it out and says how many it kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BLOCK = 2**20  # scores ranked at once: bounds the memory, and fits a processor's cache


def rank(scores: Scores, depth: int, exclude: Sequence[npt.NDArray[np.integer[Any]]] | None = None) -> Ints:
    """The `depth` best items of each query, best first; of equal scores the lower item index comes first.

    The answer depends on the scores alone and each query's on its own row, so chunks of queries can be ranked apart.
    Beyond input and output this takes a few tens of MB, whatever the number of queries.

    Args:
        scores: (Q, N), higher is better, in any scale; infinities are ordinary scores.
        depth: items to keep per query, at least 1.
        exclude: per query, the indices of items never to rank (say, those already bought), in any order.

    Returns:
        (Q, depth) item indices, with -1 where no item is left.

    Raises:
        ValueError: on NaN scores, a wrong shape or type, or an excluded index outside the catalogue.
    """
    if scores.ndim != 2 or scores.dtype.kind != "f":
        raise ValueError(f"scores must be floats of shape (queries, items), not {scores.dtype} of {scores.shape}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    queries, items = scores.shape
    if exclude is not None and len(exclude) != queries:
        raise ValueError(f"exclude lists {len(exclude)} queries, scores {queries}")
    ranking = np.full((queries, depth), -1, dtype=np.int64)
    if not items:
        return ranking
    step = max(1, _BLOCK // items)
    for start in range(0, queries, step):
        block = slice(start, start + step)
        costs = -scores[block]
        if np.isnan(costs).any():
            raise ValueError(f"NaN among the scores of queries {start} to {start + len(costs) - 1}")
        if exclude is not None:
            costs[_cells(exclude[block], items)] = np.nan
        ranking[block, :items] = _cheapest(costs, min(depth, items))
    return ranking


def _cells(exclude: Sequence[npt.NDArray[np.integer[Any]]], items: int) -> tuple[Ints, Ints]:
    """Row and column of every excluded item."""
    lists = [np.asarray(one, dtype=np.int64) if len(one) == 0 else np.asarray(one) for one in exclude]
    if any(one.ndim != 1 or one.dtype.kind not in "iu" for one in lists):
        raise ValueError("exclude must hold one flat array of item indices per query")
    columns = np.concatenate(lists).astype(np.int64)
    if columns.size and not 0 <= columns.min() <= columns.max() < items:
        raise ValueError(f"excluded items must be within 0..{items - 1}, not {columns.min()}..{columns.max()}")
    return np.repeat(np.arange(len(lists)), [len(one) for one in lists]), columns


def _cheapest(costs: Scores, depth: int) -> Ints:
    """The (Q, depth) lowest costs' indices, lowest first, then by index; NaN, which sorts last, comes out as -1."""
    edge = np.partition(costs, depth - 1, axis=1)[:, depth - 1 : depth]
    chosen = costs <= edge
    odd = np.flatnonzero(np.count_nonzero(chosen, axis=1) != depth)  # ties across the edge, or the edge is NaN
    if odd.size:
        some, at = costs[odd], edge[odd]
        gone, short = np.isnan(some), np.isnan(at)
        inside = np.where(short, ~gone, some < at)
        tied = np.where(short, gone, some == at)
        room = depth - np.count_nonzero(inside, axis=1, keepdims=True)
        chosen[odd] = inside | (tied & (np.cumsum(tied, axis=1) <= room))
    found = (np.flatnonzero(chosen) % costs.shape[1]).reshape(-1, depth)
    values = np.take_along_axis(costs, found, axis=1)
    found[np.isnan(values)] = -1
    return np.take_along_axis(found, np.argsort(values, axis=1, kind="stable"), axis=1)


@dataclass(eq=False)
class Judgments:
    """What is known of queries' items: three parallel columns, sorted by query and item when made.

    Attributes:
        query: (J,) query indices, below `queries`.
        item: (J,) item indices.
        gain: (J,) finite, at least 0. An item without a judgment has gain 0.
        queries: how many queries there are, judged or not.

    Raises:
        ValueError: if the columns differ in length, a value is out of range or a pair is judged twice.
    """

    query: Ints
    item: Ints
    gain: Floats
    queries: int

    def __post_init__(self) -> None:
        query, item, gain = np.asarray(self.query), np.asarray(self.item), np.asarray(self.gain, dtype=np.float64)
        if not query.shape == item.shape == gain.shape == (query.size,):
            raise ValueError(f"judgments differ in length: {query.shape}, {item.shape}, {gain.shape}")
        if query.size:
            if query.dtype.kind not in "iu" or item.dtype.kind not in "iu":
                raise ValueError(f"query and item must be integer indices, not {query.dtype} and {item.dtype}")
            if query.min() < 0 or query.max() >= self.queries or item.min() < 0:
                raise ValueError(f"a judgment is outside the {self.queries} queries or has a negative item")
            if not (np.isfinite(gain) & (gain >= 0)).all():
                raise ValueError("gains must be finite and at least 0")
        order = np.lexsort((item, query))
        self.query, self.item, self.gain = query[order].astype(np.int64), item[order].astype(np.int64), gain[order]
        if ((np.diff(self.query) == 0) & (np.diff(self.item) == 0)).any():
            raise ValueError("an item is judged twice for the same query")

    @classmethod
    def of(cls, gains: Sequence[Mapping[int, float]]) -> Self:
        """From one mapping of item index to gain per query."""
        return cls(
            np.repeat(np.arange(len(gains)), [len(one) for one in gains]),
            np.array([item for one in gains for item in one]),
            np.array([gain for one in gains for gain in one.values()], dtype=np.float64),
            len(gains),
        )

    def at(self, ranking: Ints) -> Floats:
        """The (Q, D) gains of ranked items (Q, D); 0 for the unjudged and for -1."""
        if not self.query.size or not ranking.size:
            return np.zeros(ranking.shape)
        span = 1 + max(int(self.item.max()), int(ranking.max()))
        keys = self.query * span + self.item
        wanted = np.arange(len(ranking))[:, None] * span + ranking
        place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        return np.where((keys[place] == wanted) & (ranking >= 0), self.gain[place], 0.0)

    def best(self, k: int) -> Floats:
        """The (Q, k) highest gains of each query, highest first, filled with 0."""
        order = np.lexsort((-self.gain, self.query))
        place = np.arange(order.size) - np.searchsorted(self.query, self.query)
        kept = place < k
        gains = np.zeros((self.queries, k))
        gains[self.query[kept], place[kept]] = self.gain[order][kept]
        return gains

    def relevant(self, relevant_from: float) -> Ints:
        """How many items of each query (Q,) have at least this gain."""
        return np.bincount(self.query[self.gain >= relevant_from], minlength=self.queries)


def ndcg(ranking: Ints, gains: Judgments, k: int) -> Floats:
    """Normalised discounted cumulative gain: linear gain as judged, discount log2(rank + 1), ideal over all judged items.

    Source: Järvelin and Kekäläinen, TOIS 2002, in trec_eval's form (`ndcg_cut`). Gains pass unchanged, so ESCI's are
    to be given as E 1, S 0.1, C 0.01, I 0.

    Args:
        ranking: (Q, D) item indices, best first, -1 for no item; none twice in a row of the array.
        gains: judgments of the same Q queries.
        k: ranks that count, 1 to D.

    Returns:
        (Q,) between 0 and 1; NaN for queries without a positive gain.

    Raises:
        ValueError: if `k` is outside 1..D, the numbers of queries differ or an item is ranked twice.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    found = (_top(ranking, gains, k) * discount).sum(axis=1)
    return _ratio(found, (gains.best(k) * discount).sum(axis=1))


def recall(ranking: Ints, gains: Judgments, k: int, relevant_from: float) -> Floats:
    """The share of all relevant items that are among the first `k`.

    Args:
        ranking: as for `ndcg`.
        gains: as for `ndcg`.
        k: as for `ndcg`.
        relevant_from: the least gain that is relevant, above 0.

    Returns:
        (Q,) between 0 and 1; NaN for queries without a relevant item.

    Raises:
        ValueError: as for `ndcg`, or if `relevant_from` is not above 0.
    """
    hits, relevant = _hits(ranking, gains, k, relevant_from)
    return _ratio(hits.sum(axis=1), relevant)


def mrr(ranking: Ints, gains: Judgments, k: int, relevant_from: float) -> Floats:
    """1 / rank of the first relevant item, 0 if none is among the first `k`; otherwise as `recall`."""
    hits, relevant = _hits(ranking, gains, k, relevant_from)
    return _if_any((hits / np.arange(1, k + 1)).max(axis=1), relevant)


def average_precision(ranking: Ints, gains: Judgments, k: int, relevant_from: float) -> Floats:
    """Precision at each relevant item among the first `k`, summed and divided by all relevant items; otherwise as `recall`.

    This is trec_eval's `map_cut`: with more than `k` relevant items even the best ranking stays below 1.
    """
    hits, relevant = _hits(ranking, gains, k, relevant_from)
    precision = hits.cumsum(axis=1) / np.arange(1, k + 1)
    return _ratio((precision * hits).sum(axis=1), relevant)


def hit(ranking: Ints, gains: Judgments, k: int, relevant_from: float) -> Floats:
    """1 if any of the first `k` items is relevant, else 0; otherwise as `recall`."""
    hits, relevant = _hits(ranking, gains, k, relevant_from)
    return _if_any(hits.any(axis=1), relevant)


class Mean(NamedTuple):
    """A mean and how many values it is of."""

    value: float
    n: int


def mean(values: Floats) -> Mean:
    """The mean of the values (Q,) that are not NaN, and their number; (NaN, 0) if there are none."""
    kept = values[~np.isnan(values)]
    return Mean(float(kept.mean()) if kept.size else float("nan"), kept.size)


def _top(ranking: Ints, gains: Judgments, k: int) -> Floats:
    """The (Q, k) gains of the first `k` ranked items."""
    if ranking.ndim != 2 or ranking.dtype.kind not in "iu":
        raise ValueError(f"ranking must be item indices of shape (queries, depth), not {ranking.dtype} {ranking.shape}")
    if len(ranking) != gains.queries:
        raise ValueError(f"{len(ranking)} queries are ranked, {gains.queries} judged")
    if not 1 <= k <= ranking.shape[1]:
        raise ValueError(f"k must be 1 to {ranking.shape[1]}, the depth of the ranking, not {k}")
    top = ranking[:, :k]
    ordered = np.sort(top, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("an item is ranked twice for the same query")
    return gains.at(top)


def _hits(ranking: Ints, gains: Judgments, k: int, relevant_from: float) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which of the first `k` are relevant (Q, k), and how many are relevant in all (Q,)."""
    if not relevant_from > 0:
        raise ValueError(f"relevant_from must be above 0, the gain of an unjudged item, not {relevant_from}")
    return _top(ranking, gains, k) >= relevant_from, gains.relevant(relevant_from)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _if_any(values: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    return np.where(whole > 0, values, np.nan)
