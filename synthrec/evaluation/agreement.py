"""How well two raters agree beyond chance: Cohen's kappa (Cohen 1960), with a bootstrap interval over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Kappa with its 95% percentile interval, the plain share of equal labels, and the number of rows.

    Kappa is NaN where it is not defined: no row, or both raters gave one and the same label to all. The interval is
    over those resamples in which it is defined.
    """

    rows: int
    share: float
    kappa: float
    low: float
    high: float


def kappa(a: Sequence[str], b: Sequence[str]) -> float:
    """Cohen's kappa of two raters' labels of the same rows; NaN where chance alone explains everything."""
    return float(_kappas(*_codes(a, b))[0])


def agreement(a: Sequence[str], b: Sequence[str], samples: int = 2000, seed: int = 13) -> Agreement:
    """Kappa of two raters over the same rows, in the same order. Raises ValueError for unequal lengths."""
    codes, classes = _codes(a, b)
    rows = len(a)
    if not rows:
        return Agreement(0, *[float("nan")] * 4)
    counts = np.bincount(codes[0], minlength=classes**2)
    drawn = np.random.default_rng(seed).multinomial(rows, counts / rows, size=samples)
    spread = _of_counts(drawn.reshape(samples, classes, classes))
    spread = spread[~np.isnan(spread)]
    low, high = np.quantile(spread, [0.025, 0.975]) if len(spread) else (np.nan, np.nan)
    equal = float(np.mean([x == y for x, y in zip(a, b, strict=True)]))
    return Agreement(rows, equal, float(_kappas(codes, classes)[0]), float(low), float(high))


def _codes(a: Sequence[str], b: Sequence[str]) -> tuple[np.ndarray, int]:
    """Each row's cell of the confusion matrix, as (1, rows), and the number of classes."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} labels against {len(b)}")
    known = {label: i for i, label in enumerate(sorted({*a, *b}))}
    cells = [known[x] * len(known) + known[y] for x, y in zip(a, b, strict=True)]
    return np.array([cells], np.int64), len(known)


def _kappas(codes: np.ndarray, classes: int) -> np.ndarray:
    counts = np.bincount(codes[0], minlength=classes**2)
    return _of_counts(counts.reshape(1, classes, classes))


def _of_counts(matrices: np.ndarray) -> np.ndarray:
    """Kappa of each confusion matrix of (n, classes, classes) counts."""
    total = matrices.sum((1, 2)).astype(np.float64)
    observed = np.trace(matrices, axis1=1, axis2=2)
    by_chance = (matrices.sum(1) * matrices.sum(2)).sum(1)  # times total: whole numbers, so that 1 is exactly 1
    below = total**2 - by_chance
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, (observed * total - by_chance) / below, np.nan)
