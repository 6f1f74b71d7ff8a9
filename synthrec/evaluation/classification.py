"""Precision, recall, F1, AUC and calibration error of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def scores(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float | dict[str, dict[str, float]]]:
    """Per class and macro precision, recall and F1, accuracy and support. A class never predicted has precision 0."""
    if len(gold) != len(predicted) or not gold:
        raise ValueError(f"{len(gold)} gold labels and {len(predicted)} predicted ones")
    classes = {}
    for one in sorted(set(gold)):
        hits = sum(g == p == one for g, p in zip(gold, predicted, strict=True))
        said, true = sum(p == one for p in predicted), sum(g == one for g in gold)
        precision, recall = hits / said if said else 0.0, hits / true
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        classes[one] = {"precision": precision, "recall": recall, "f1": f1, "support": float(true)}
    macro = {key: sum(c[key] for c in classes.values()) / len(classes) for key in ("precision", "recall", "f1")}
    accuracy = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)
    return {**macro, "accuracy": accuracy, "support": float(len(gold)), "classes": classes}


def auc(gold: Sequence[bool], score: Sequence[float]) -> float:
    """Chance that a positive scores above a negative, ties counted half (Mann & Whitney 1947). NaN with one class."""
    positive = np.asarray(gold, bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def ece(probs: NDArray[np.float64], gold: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015): of the best label's probability, in bins of equal width.

    Args:
        probs: (rows, labels).
        gold: (rows,) the number of each row's right label.
    """
    top = probs.max(axis=1)
    right = probs.argmax(axis=1) == gold
    place = np.minimum((top * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=right - top, minlength=bins)
    return float(np.abs(gap).sum() / len(gold))


def of_probabilities(gold: Sequence[str | None], probs: NDArray[np.floating], labels: Sequence[str]) -> dict[str, Any]:
    """`scores` of the likeliest labels, with the macro AUC of each label against the rest and the calibration error.

    Args:
        gold: None where it is not known; such rows are left out.
        probs: (rows, labels).

    Raises:
        ValueError: where no row has a gold label, or one has a label that is none.
    """
    known = [row for row, label in enumerate(gold) if label is not None]
    truth = [str(gold[row]) for row in known]
    if unknown := sorted(set(truth) - set(labels)):
        raise ValueError(f"no label '{unknown[0]}' among {list(labels)}")
    found = np.asarray(probs, np.float64)[known]
    places = np.array([labels.index(label) for label in truth], np.int64)
    of_each = [auc((places == i).tolist(), found[:, i].tolist()) for i in np.unique(places)]
    predicted = [labels[i] for i in found.argmax(1)] if known else []
    return {**scores(truth, predicted), "auc": float(np.mean(of_each)), "ece": ece(found, places)}


def by_task(
    gold: Mapping[str, Sequence[str | None]],
    probs: Mapping[str, NDArray[np.floating]],
    labels: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """`of_probabilities` of each task that has a gold label."""
    tasks = [task for task in gold if any(one is not None for one in gold[task])]
    return {task: of_probabilities(gold[task], probs[task], labels[task]) for task in tasks}
