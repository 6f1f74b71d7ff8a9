"""Precision, recall, F1 and AUC of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
