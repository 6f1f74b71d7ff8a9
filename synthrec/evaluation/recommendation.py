"""Recommendations judged by full ranking: every item of the catalogue is ranked for every shopper, never a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from synthrec.evaluation.metrics import Values, mean_or_none
from synthrec.recommenders.base import Cases, Items, Scorer
from synthrec.retrieval.ranking import Ranking, rank

CUTS = (5, 10, 20)
Beyond = dict[str, float | None]  # coverage, novelty and popularity of the lists as a whole


@dataclass(frozen=True)
class Judged:
    """`ranking` (cases, depth), -1 where nothing was left to rank; `by_case`: a metric's name -> (cases,) values."""

    ranking: Ranking
    by_case: dict[str, Values]
    beyond: Beyond


def judge(
    scorer: Scorer,
    cases: Cases,
    train: Sequence[Items],
    filter_viewed: bool,
    cuts: tuple[int, ...] = CUTS,
    batch: int = 512,
    tick: Callable[[int], object] = lambda done: None,
) -> Judged:
    """Rank all items for each case; of two with one score the lower number comes first.

    Args:
        train: what was learnt from; how popular an item is, is counted there.
        filter_viewed: never recommend what stands in the case's own history. Figures under one policy do not compare
            with figures under the other.
    """
    parts = []
    for start in range(0, len(cases), batch):
        some = cases.part(start, start + batch)
        exclude = some.histories if filter_viewed else None
        parts.append(rank(scorer.scores(some), min(max(cuts), scorer.items), exclude))
        tick(len(some))
    ranking = np.concatenate(parts)
    return Judged(ranking, by_case(ranking, cases.targets, cuts), beyond(ranking, train, scorer.items, cuts))


def by_case(ranking: Ranking, targets: Sequence[Items], cuts: tuple[int, ...] = CUTS) -> dict[str, Values]:
    """Metrics of each case. A target that is not ranked counts as missed.

    recall: share of the targets among the first k; hr: 1 where there is any; mrr: one over the place of the first;
    ndcg: the ideal holds min(k, targets) ones; map: precisions at the hits over the number of targets, as trec_eval's.
    """
    hits = _hits(ranking, targets)
    many = np.array([len(one) for one in targets], np.float64)
    out: dict[str, Values] = {}
    places = np.arange(1, ranking.shape[1] + 1)
    discount = 1 / np.log2(places + 1)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    for k in cuts:
        top: NDArray[np.bool_] = hits[:, :k]
        first: Values = np.where(top.any(1), 1 / (top.argmax(1) + 1), 0.0)
        precision = np.cumsum(top, 1) / places[:k]
        out[f"recall@{k}"] = top.sum(1) / many
        out[f"hr@{k}"] = np.asarray(top.any(1), np.float64)
        out[f"ndcg@{k}"] = (top * discount[:k]).sum(1) / ideal[np.minimum(k, many).astype(int)]
        out[f"mrr@{k}"] = first
        out[f"map@{k}"] = (top * precision).sum(1) / many
    return out


def beyond(ranking: Ranking, train: Sequence[Items], items: int, cuts: tuple[int, ...] = CUTS) -> Beyond:
    """What accuracy does not say of the lists.

    coverage: share of the catalogue in at least one list; novelty: mean self-information in bits of what is
    recommended, -log2 of the share of interactions (with one added to each count, so that a cold item has one);
    popularity: mean share of the catalogue that is less popular than what is recommended, .5 for a random list. None
    where nothing is recommended.
    """
    counts = np.bincount(np.concatenate([*train, np.zeros(0, np.int64)]), minlength=items)
    surprise = -np.log2((counts + 1) / (counts + 1).sum())
    order = np.sort(counts)
    below = (np.searchsorted(order, counts, "left") + np.searchsorted(order, counts, "right")) / 2 / items
    out: Beyond = {}
    for k in cuts:
        shown = ranking[:, :k][ranking[:, :k] >= 0]
        out[f"coverage@{k}"] = len(np.unique(shown)) / items
        out[f"novelty@{k}"] = mean_or_none(surprise[shown])
        out[f"popularity@{k}"] = mean_or_none(below[shown])
    return out


def cold(cases: Cases, train: Sequence[Items], items: int) -> NDArray[np.bool_]:
    """(cases,): whether no target of the case occurs in what was learnt from."""
    seen = np.bincount(np.concatenate([*train, np.zeros(0, np.int64)]), minlength=items) > 0
    return np.array([not seen[one].any() for one in cases.targets])


def _hits(ranking: Ranking, targets: Sequence[Items]) -> NDArray[np.bool_]:
    rows = np.repeat(np.arange(len(targets)), [len(one) for one in targets])
    columns = np.concatenate([*targets, np.zeros(0, np.int64)])
    width = int(max(ranking.max(initial=0), columns.max(initial=0))) + 1
    wanted = sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), (len(targets), width))
    found = wanted[np.arange(len(ranking))[:, None], np.maximum(ranking, 0)]
    return np.asarray(found.todense() if sparse.issparse(found) else found, bool) & (ranking >= 0)
