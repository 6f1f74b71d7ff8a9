"""How sure a mean is, or a difference of means over the same queries: the bootstrap (Efron 1979; Sakai 2006 for IR)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthrec.evaluation.metrics import Values

SURE = 0.05  # p, corrected for all comparisons, below which a difference is more than chance
CHUNK = 256  # resamples drawn at once: bounds memory


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% percentile interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean per-query difference; `p` is two-sided."""

    p: float


def bootstrap_mean(values: Values, samples: int = 2000, seed: int = 13) -> Interval:
    """Interval of the mean over queries; NaN values are left out. Needs at least one value, else all NaN."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(_means(known, samples, seed), [0.025, 0.975])
    return Interval(float(known.mean()), float(low), float(high))


def paired_bootstrap(a: Values, b: Values, samples: int = 2000, seed: int = 13) -> Difference:
    """Interval and p of the mean of a - b over the same queries; a pair with a NaN is left out."""
    both = (a - b)[~np.isnan(a - b)]
    if not len(both):
        return Difference(float("nan"), float("nan"), float("nan"), p=1.0)
    means = _means(both, samples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    # Add-one correction: a p of 0 would claim more than the resamples can show.
    tail = (min((means <= 0).sum(), (means >= 0).sum()) + 1) / (samples + 1)
    return Difference(float(both.mean()), float(low), float(high), p=float(min(1.0, 2 * tail)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that hold for all comparisons together (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def compare(
    values: Mapping[str, Values], pairs: Iterable[tuple[str, str]], samples: int = 2000, seed: int = 13
) -> list[dict[str, Any]]:
    """Each system against its baseline, over the same queries, and `p_holm`, which holds for all pairs together.

    Args:
        values: system -> one value a query.
        pairs: (system, baseline).
    """
    tests: list[dict[str, Any]] = [
        {"system": one, "baseline": other, **asdict(paired_bootstrap(values[one], values[other], samples, seed))}
        for one, other in pairs
    ]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
    return tests


def verdict(test: Mapping[str, Any]) -> str:
    """What a comparison shows in all of them together, as `p_holm` does."""
    if test["p_holm"] >= SURE:
        return "no difference shown"
    return "better" if test["mean"] > 0 else "worse"


def _means(values: Values, samples: int, seed: int) -> Values:
    dice = np.random.default_rng(seed)
    sizes = [min(CHUNK, samples - start) for start in range(0, samples, CHUNK)]
    return np.concatenate([values[dice.integers(0, len(values), (size, len(values)))].mean(1) for size in sizes])
