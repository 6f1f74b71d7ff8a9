"""How well two raters agree beyond chance: Cohen's kappa (Cohen 1960), with a bootstrap interval over rows.

Rows of different questions are strata: what agreement chance brings is counted within each, and observed and chance
agreement are summed over them, so that each question weighs by its rows and by how much there is to agree on (as the
weighted kappas of Barlow, Lai & Azen 1991). Pooled in one table, labels of different questions, which nobody could
confuse, would look like agreement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Cell = tuple[str, str]  # what both raters said of a row


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


def kappa(a: Sequence[str], b: Sequence[str], strata: Sequence[Hashable] | None = None) -> float:
    """Cohen's kappa of two raters' labels of the same rows; NaN where chance alone explains everything."""
    found = _cells(a, b, strata)
    return float(_kappas([counts[None] for _, counts in found], [cells for cells, _ in found])[0])


def agreement(
    a: Sequence[str],
    b: Sequence[str],
    strata: Sequence[Hashable] | None = None,
    samples: int = 2000,
    seed: int = 13,
) -> Agreement:
    """Kappa of two raters over the same rows, in the same order; resampled within each stratum.

    Args:
        strata: of each row, which question it answers; None: all the same.

    Raises:
        ValueError: unequal lengths.
    """
    found = _cells(a, b, strata)
    rows = len(a)
    if not rows:
        return Agreement(0, *[float("nan")] * 4)
    dice = np.random.default_rng(seed)
    drawn = [dice.multinomial(counts.sum(), counts / counts.sum(), size=samples) for _, counts in found]
    spread = _kappas(drawn, [cells for cells, _ in found])
    spread = spread[~np.isnan(spread)]
    low, high = np.quantile(spread, [0.025, 0.975]) if len(spread) else (np.nan, np.nan)
    equal = float(np.mean([x == y for x, y in zip(a, b, strict=True)]))
    return Agreement(rows, equal, kappa(a, b, strata), float(low), float(high))


def _cells(
    a: Sequence[str], b: Sequence[str], strata: Sequence[Hashable] | None
) -> list[tuple[list[Cell], NDArray[np.int64]]]:
    """Of each stratum the cells of the confusion matrix that hold a row, and how many: there may be as many labels as
    rows."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} labels against {len(b)}")
    counts: dict[Hashable, dict[Cell, int]] = defaultdict(lambda: defaultdict(int))
    for x, y, stratum in zip(a, b, [None] * len(a) if strata is None else strata, strict=True):
        counts[stratum][x, y] += 1
    return [(list(one), np.array(list(one.values()), np.int64)) for one in counts.values()]


def _kappas(drawn: Sequence[NDArray[np.int64]], cells: Sequence[Sequence[Cell]]) -> NDArray[np.float64]:
    """Kappa of each resample: of each stratum the counts (resamples, cells)."""
    observed = by_chance = possible = np.zeros(1)
    for counts, named in zip(drawn, cells, strict=True):
        rows = counts.sum(1)
        places = {label: place for place, label in enumerate(sorted({label for cell in named for label in cell}))}
        sides = [np.zeros((len(counts), len(places)), np.int64) for _ in range(2)]
        for column, cell in enumerate(named):
            for side, label in zip(sides, cell, strict=True):
                side[:, places[label]] += counts[:, column]
        same = counts[:, [x == y for x, y in named]].sum(1)
        # In whole numbers, so that 1 is exactly 1; a stratum weighs by its rows, of which there is at least one.
        observed = observed + same
        by_chance = by_chance + (sides[0] * sides[1]).sum(1) / rows
        possible = possible + rows
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(possible > by_chance, (observed - by_chance) / (possible - by_chance), np.nan)
