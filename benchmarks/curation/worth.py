"""What a step is worth: the metric with it, less the metric without it, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.curation.arms import Arm
from synthrec.evaluation.significance import Difference, holm, paired_bootstrap

SAMPLES = 10_000
SAME = "changes nothing here"
Rated = dict[str, list[str]]  # review -> [the shopper's verdict, the label's]


def of_queries(arm: Arm, own: NDArray[np.float64], base: NDArray[np.float64]) -> dict[str, Any]:
    """NDCG@10, arrays of (seeds, queries): each query's mean over the seeds, then the bootstrap over queries.

    `by_seed` shows what queries alone do not: how far the difference moves with the training's own luck.
    """
    with_step, without = (base, own) if arm.removed else (own, base)
    found = paired_bootstrap(with_step.mean(axis=0), without.mean(axis=0), SAMPLES)
    return asdict(found) | {"by_seed": (with_step - without).mean(axis=1).tolist()}


def of_labels(arm: Arm, own: Rated, base: Rated, seed: int = 13) -> dict[str, Any]:
    """Balanced accuracy of the labels that are kept, against the shoppers' ratings: the bootstrap over reviews."""
    with_step, without = (base, own) if arm.removed else (own, base)
    reviews = sorted({*with_step, *without})
    dice = np.random.default_rng(seed)
    draws = dice.integers(0, len(reviews), (SAMPLES // 5, len(reviews)))
    gain = _balanced(with_step, reviews, draws) - _balanced(without, reviews, draws)
    once = np.arange(len(reviews))[None, :]
    mean = float((_balanced(with_step, reviews, once) - _balanced(without, reviews, once))[0])
    low, high = np.quantile(gain, [0.025, 0.975])
    tail = (min((gain <= 0).sum(), (gain >= 0).sum()) + 1) / (len(gain) + 1)
    return asdict(Difference(mean, float(low), float(high), p=float(min(1.0, 2 * tail))))


def accuracy(rated: Rated) -> float | None:
    """Balanced accuracy: the mean, over the two verdicts, of the share of labels that are right."""
    reviews = sorted(rated)
    return float(_balanced(rated, reviews, np.arange(len(reviews))[None, :])[0]) if reviews else None


def _balanced(rated: Rated, reviews: Sequence[str], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each resample, shape (resamples, reviews): reviews whose label was refused count for nothing."""
    shares = []
    for verdict in ("positive", "negative"):
        kept = np.array([one in rated and rated[one][0] == verdict for one in reviews])
        right = np.array([one in rated and rated[one] == [verdict, verdict] for one in reviews])
        shares.append(right[draws].sum(axis=1) / np.maximum(kept[draws].sum(axis=1), 1))
    return np.asarray(np.mean(shares, axis=0))


def judged(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Differences by arm, with p adjusted for all of them together (Holm) and a verdict."""
    adjusted = zip(found.items(), holm([one["p"] for one in found.values()]), strict=True)
    return {name: one | {"p_holm": p, "verdict": _verdict(one, p)} for (name, one), p in adjusted}


def _verdict(one: dict[str, Any], p: float) -> str:
    if p >= 0.05:
        return "unclear"
    return "pays" if one["mean"] > 0 else "does not pay"
