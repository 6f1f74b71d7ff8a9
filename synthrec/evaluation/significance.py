"""How sure a mean over queries is, and a difference of two: the bootstrap over queries, and Holm's correction.

Values are one per query, in the metric's own unit; NaN marks a query without a score and is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BLOCK = 2**21  # values drawn at once: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A mean over `n` queries and its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean difference over `n` queries, its confidence interval, and the two-sided p-value of there being none."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def bootstrap_mean(values: Floats, samples: int, seed: int, level: float = 0.95) -> Interval:
    """The percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: (Q,) one per query; NaN are dropped.
        samples: resamples to draw, say 10,000. Time goes with samples x Q, memory does not.
        seed: makes the answer repeatable.
        level: the interval's coverage, between 0 and 1.

    Raises:
        ValueError: if no value is left, one is infinite, or an argument is out of range.
    """
    kept = _finite(values)
    low, high = _percentiles(_means(kept, samples, seed), level)
    return Interval(float(kept.mean()), low, high, kept.size)


def paired_bootstrap(a: Floats, b: Floats, samples: int, seed: int, level: float = 0.95) -> Difference:
    """Whether `a` differs from `b` on the same queries: the mean of a - b, its percentile interval and its p-value.

    The p-value is the share of resamples whose mean lies as far from the observed mean as that lies from 0, which is
    resampling differences shifted to mean 0 (Sakai, SIGIR 2006). The observed data count as one more resample (Davison
    and Hinkley 1997, section 4.2), so p is never 0; its least value is 1 / (samples + 1).

    Args:
        a: (Q,) one value per query.
        b: (Q,) for the same queries in the same order; a query that is NaN in either is dropped from both.
        samples: as for `bootstrap_mean`.
        seed: as for `bootstrap_mean`.
        level: as for `bootstrap_mean`.

    Raises:
        ValueError: as for `bootstrap_mean`, or if the lengths differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values must be of the same queries: {a.shape} against {b.shape}")
    differences = _finite(a - b)
    means = _means(differences, samples, seed)
    low, high = _percentiles(means, level)
    observed = float(differences.mean())
    rounding = 1e-12 * float(np.abs(differences).max())  # so that what ties on paper does here
    beyond = int(np.count_nonzero(np.abs(means - observed) >= abs(observed) - rounding))
    return Difference(observed, low, high, (beyond + 1) / (samples + 1), differences.size)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjustment (1979), which bounds the chance of any false claim among several tests.

    Args:
        p_values: (M,) one per test.

    Returns:
        (M,) adjusted p-values in the order given; claim a test at level x if its value is at most x.

    Raises:
        ValueError: if a value is not within 0 and 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be a flat list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1)
    return adjusted


def _finite(values: Floats) -> Floats:
    if values.ndim != 1:
        raise ValueError(f"values must be one per query, not of shape {values.shape}")
    kept = values[~np.isnan(values)]
    if not kept.size:
        raise ValueError(f"nothing to average: none of the {values.size} queries has a score")
    if np.isinf(kept).any():
        raise ValueError("values must be finite")
    return kept


def _means(values: Floats, samples: int, seed: int) -> Floats:
    """Means (samples,) of resamples with replacement, a block of them at a time."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    random = np.random.default_rng(seed)
    step = max(1, _BLOCK // values.size)
    sizes = [min(step, samples - start) for start in range(0, samples, step)]
    return np.concatenate([values[random.integers(values.size, size=(size, values.size))].mean(axis=1) for size in sizes])


def _percentiles(means: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
