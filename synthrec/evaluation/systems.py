"""The systems that evaluation compares, as scores of every product for every query, and how they are tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import sem

from synthrec.evaluation import metrics
from synthrec.evaluation.judgments import Query, arrays
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Scores, convex
from synthrec.retrieval.tokens import words
from synthrec.sources.cleaning import clean, language

K1 = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)
B = (0.0, 0.3, 0.6, 0.75, 0.9)
USUAL = (1.2, 0.75)  # k1, b
ENCODERS = ("zero-shot", "fine-tuned")
WEIGHTS = tuple(i / 20 for i in range(21))
FEWEST = 5  # queries of a language that can tell weights apart at all; fewer seem certain whenever they agree
DEPTH = 100
CELLS = 2**25  # scores at once, 128 MB a matrix, of which some are held: so many queries are ranked together


@dataclass(frozen=True)
class Ranked:
    """Rankings of some queries, shape (queries, DEPTH), positions in the catalogue."""

    queries: list[Query]
    ranking: metrics.Ranking
    gains: list[dict[int, float]]

    def ndcg(self, k: int = 10) -> metrics.Values:
        return metrics.ndcg(self.ranking, self.gains, k)


def rank(queries: list[Query], place: dict[str, int], score: Callable[[Sequence[int]], Scores]) -> Ranked:
    """Rank the whole catalogue for each query. `score` gives (n, products) for n query numbers."""
    gains, excluded = arrays(queries, place)
    depth = min(DEPTH, len(place))
    parts = [np.zeros((0, depth), np.int64)]
    size = max(1, min(512, CELLS // max(1, len(place))))
    for start in range(0, len(queries), size):
        rows = range(start, min(start + size, len(queries)))
        parts.append(metrics.rank(score(rows), depth, excluded[rows.start : rows.stop]))
    return Ranked(queries, np.concatenate(parts), gains)


def lexical(index: BM25, queries: list[Query]) -> Callable[[Sequence[int]], Scores]:
    return lambda rows: np.stack([index.scores(clean(queries[i].text)) for i in rows])


def semantic(vectors: Scores, asked: Scores) -> Callable[[Sequence[int]], Scores]:
    return lambda rows: asked[list(rows)] @ vectors.T


def fused(
    one: Callable[[Sequence[int]], Scores],
    other: Callable[[Sequence[int]], Scores],
    weights: dict[str, float],
    queries: list[Query],
) -> Callable[[Sequence[int]], Scores]:
    """Lexical and semantic scores with each query's language's weight, as retrieval.hybrid serves them."""

    def score(rows: Sequence[int]) -> Scores:
        share = np.array([[weights.get(language(queries[i].text), 0.5)] for i in rows], np.float32)
        return convex(one(rows), other(rows), share)

    return score


def tune_bm25(texts: list[str], queries: list[Query], place: dict[str, int]) -> dict[str, float]:
    """The k1 and b with the best NDCG@10 on the queries to tune on; the usual ones where there are none."""
    if not queries:
        return {"k1": USUAL[0], "b": USUAL[1]}
    documents = [words(text) for text in texts]

    def mark(usual: tuple[float, float]) -> float:
        found = rank(queries, place, lexical(BM25.from_words(documents, *usual), queries))
        return metrics.mean(found.ndcg())[0]

    grid = [USUAL, *((k1, b) for k1 in K1 for b in B if (k1, b) != USUAL)]
    k1, b = max(grid, key=mark)  # the first of several that are as good
    return {"k1": k1, "b": b}


def tune_weights(
    one: Callable[[Sequence[int]], Scores],
    other: Callable[[Sequence[int]], Scores],
    queries: list[Query],
    place: dict[str, int],
) -> dict[str, float]:
    """The semantic share for each language of the queries to tune on, by NDCG@10.

    The one-standard-error rule (Breiman, Friedman, Olshen & Stone 1984): of the weights that are no worse than the
    best by more than the standard error of the difference, the one nearest the middle. A few dozen queries cannot tell
    such weights apart, and a share of all or nothing gives up a retriever for their sake.
    """
    tongues = np.array([language(query.text) for query in queries])
    found = [rank(queries, place, fused(one, other, dict.fromkeys(tongues, w), queries)).ndcg() for w in WEIGHTS]
    values = np.stack(found)  # (weights, queries)
    return {str(tongue): _nearest_the_middle(values[:, tongues == tongue]) for tongue in np.unique(tongues)}


def _nearest_the_middle(values: metrics.Values) -> float:
    values = values[:, ~np.isnan(values[0])]  # a query with nothing to find tells nothing
    if values.shape[1] < FEWEST:
        return 0.5
    lost = values[values.mean(1).argmax()] - values
    fits = lost.mean(1) <= sem(lost, axis=1) + 1e-9
    return min((weight for weight, fit in zip(WEIGHTS, fits, strict=True) if fit), key=lambda weight: abs(weight - 0.5))


def choose(found: Mapping[str, metrics.Values]) -> tuple[str, str]:
    """The system to deploy and its encoder, one of ENCODERS.

    The best mean wins, of equals the simplest. With the encoder as it comes a system must be ahead by more than the
    standard error of the difference: a few dozen queries cannot tell near systems apart, and what was trained knows the
    shop. An encoder is deployed whatever wins, since it knows what is similar: where words alone win, the one that did
    better alone.

    Args:
        found: system -> a value for each query to tune on, NaN where nothing is to be found; the simplest first.
            Without queries BM25 with the fine-tuned encoder is chosen.
    """
    marks = {name: metrics.mean(values)[0] for name, values in found.items()}
    if any(np.isnan(mark) for mark in marks.values()):
        return "BM25 + fine-tuned", "fine-tuned"
    raw = max((name for name in found if "zero-shot" in name), key=marks.__getitem__)
    best = max((name for name in found if "zero-shot" not in name), key=marks.__getitem__)
    best = raw if _ahead(found[raw] - found[best]) else best
    alone = max(ENCODERS, key=lambda name: marks[f"{name} encoder"])
    return best, next((name for name in ENCODERS if name in best), alone)


def _ahead(gains: metrics.Values) -> bool:
    gains = gains[~np.isnan(gains)]
    return bool(len(gains) >= FEWEST and gains.mean() > sem(gains))
