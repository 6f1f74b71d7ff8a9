"""Scores of classifiers: precision, recall, F1, accuracy, area under the ROC curve, calibration error."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

Label = str | int | bool


class ClassScores(TypedDict):
    """Scores of one class, between 0 and 1, and `support`, its examples in the gold labels."""

    precision: float
    recall: float
    f1: float
    support: int


class Scores(TypedDict):
    """What `scores` returns, ready for JSON."""

    classes: dict[Label, ClassScores]
    macro: ClassScores
    positive: ClassScores | None
    accuracy: float
    support: int


def scores(gold: npt.ArrayLike, predicted: npt.ArrayLike, positive: Label | None = None) -> Scores:
    """Precision, recall and F1 per class, their unweighted means, and accuracy.

    A class is any label among gold or predicted ones. A ratio of nothing (precision of a class never predicted, recall
    of one that is not in gold) counts as 0, as scikit-learn's `zero_division=0` does.

    Args:
        gold: (n,) the right labels: strings, whole numbers or booleans.
        predicted: (n,) the labels given, of the same kind.
        positive: the class to repeat under "positive", for two-class tasks.

    Raises:
        ValueError: on no examples, labels of another or of mixed kinds, different lengths, or an unknown `positive`.
    """
    truth, guess = _labels(gold), _labels(predicted)
    if truth.shape != guess.shape or not truth.size:
        raise ValueError(f"gold and predicted must be equally many and at least one: {truth.shape}, {guess.shape}")
    if (truth.dtype.kind == "U") != (guess.dtype.kind == "U"):
        raise ValueError("gold and predicted labels are of different kinds, strings and numbers")
    names, index = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    right, size = index[: truth.size] == index[truth.size :], len(names)
    hits = np.bincount(index[: truth.size][right], minlength=size)
    support = np.bincount(index[: truth.size], minlength=size)
    given = np.bincount(index[truth.size :], minlength=size)
    table = np.stack([_ratio(hits, given), _ratio(hits, support), _ratio(2 * hits, given + support)], axis=1)
    classes = {name: _row(row, n) for name, row, n in zip(names.tolist(), table, support, strict=True)}
    if positive is not None and positive not in classes:
        raise ValueError(f"no label is the positive class {positive!r}; there are {', '.join(map(repr, classes))}")
    return {
        "classes": classes,
        "macro": _row(table.mean(axis=0), truth.size),
        "positive": None if positive is None else classes[positive],
        "accuracy": float(right.mean()),
        "support": truth.size,
    }


def auc(gold: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """The area under the ROC curve: the chance that a positive outscores a negative, a tie counting half.

    Source: the Mann-Whitney statistic from mid-ranks (Hanley and McNeil 1982).

    Args:
        gold: (n,) booleans or 0 and 1.
        score: (n,) higher is more positive, in any scale.

    Returns:
        Between 0 and 1; NaN if there are only positives or only negatives.

    Raises:
        ValueError: on NaN scores, gold labels other than 0 and 1, or different lengths.
    """
    truth, values = _binary(gold), np.asarray(score, dtype=np.float64)
    if truth.shape != values.shape:
        raise ValueError(f"gold and score differ in length: {truth.shape}, {values.shape}")
    if np.isnan(values).any():
        raise ValueError("NaN among the scores")
    positives = int(truth.sum())
    pairs = positives * (truth.size - positives)
    if not pairs:
        return float("nan")
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[index[truth]].sum() - positives * (positives + 1) / 2) / pairs)


def ece(prob: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: |accuracy - mean confidence| averaged over bins by how many examples each holds.

    Source: Guo et al., ICML 2017: bins of equal width, each with its upper edge (the first with 0 too).

    Args:
        prob: (n,) the probability given to the predicted class, 0 to 1.
        correct: (n,) whether it was right, booleans or 0 and 1.
        bins: how many bins, at least 1.

    Returns:
        Between 0 (calibrated) and 1.

    Raises:
        ValueError: on no examples, different lengths, or values out of range.
    """
    confidence, right = np.asarray(prob, dtype=np.float64), _binary(correct)
    if confidence.shape != right.shape or not right.size:
        raise ValueError(f"prob and correct must be equally many and at least one: {confidence.shape}, {right.shape}")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("probabilities must be from 0 to 1")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    return float(np.abs(np.bincount(index, weights=right - confidence)).sum() / right.size)


def _labels(values: npt.ArrayLike) -> npt.NDArray[Any]:
    labels = np.asarray(values)
    if labels.dtype.kind == "O":  # a table's column of strings
        labels = np.array(labels.tolist())
    if labels.ndim != 1 or labels.size and labels.dtype.kind not in "biuU":
        raise ValueError(f"labels must be a flat list of strings, whole numbers or booleans, not {labels.dtype} {labels.shape}")
    return labels


def _binary(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    truth = np.asarray(values)
    if truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise ValueError("must be a flat list of booleans or of 0 and 1")
    return truth.astype(np.bool_)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _row(row: npt.NDArray[np.float64], support: int) -> ClassScores:
    precision, recall, f1 = row.tolist()
    return {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
