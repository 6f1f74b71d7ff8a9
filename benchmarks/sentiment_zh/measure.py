"""The figures: each labeller against the gold labels of the test, and students of one task beside one of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sentiment_zh.labelling import LABELS
from benchmarks.sentiment_zh.reading import Reviews
from benchmarks.sentiment_zh.students import Settings, Soft, fit
from synthrec.evaluation import classification
from synthrec.recommenders.features import Features

SAMPLES = 2_000
TRUNK = 64


def figures(reviews: Reviews, scores: NDArray[np.floating]) -> dict[str, Any]:
    """Macro precision, recall and F1, AUC and calibration error; `interval` is F1's, 95%, bootstrap over reviews.

    Args:
        scores: (rows, labels), log-probabilities that need not be normalised.
    """
    shifted = np.asarray(scores, np.float64) - scores.max(axis=1, keepdims=True)
    probs = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    found = classification.of_probabilities(names(reviews), probs, LABELS)
    kept = {name: found[name] for name in ("precision", "recall", "auc", "ece", "accuracy")}
    return {**kept, "macro_f1": found["f1"], "interval": interval(reviews.gold, probs[:, 0] > 0.5)}


def names(reviews: Reviews) -> list[str]:
    return [LABELS[0] if good else LABELS[1] for good in reviews.gold]


def interval(gold: NDArray[np.int64], said: NDArray[np.bool_], seed: int = 13) -> tuple[float, float]:
    """Of macro-F1: resamples of the rows are draws from the confusion matrix."""
    counts = np.bincount(2 * gold + said, minlength=4)
    drawn = np.random.default_rng(seed).multinomial(len(gold), counts / len(gold), size=SAMPLES)
    bad, false_good, false_bad, good = drawn.T
    wrong = false_good + false_bad
    f1 = (2 * good / (2 * good + wrong) + 2 * bad / (2 * bad + wrong)) / 2
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def multitask(
    pool: tuple[Reviews, Features], labels: Soft, test: tuple[Reviews, Features], categories: Sequence[str]
) -> dict[str, Any]:
    """Macro-F1 of sentiment and of the review's category: a student for each, and one of both over a common trunk.

    They read the states alone: a trunk over all buckets of n-grams is 17 million weights, and that is slow here.
    """
    kinds = np.array([categories.index(one) for one in pool[0].categories])
    targets = {"sentiment": labels, "category": np.eye(len(categories), dtype=np.float32)[kinds]}
    tasks = {"sentiment": LABELS, "category": list(categories)}
    gold = {"sentiment": names(test[0]), "category": test[0].categories}
    found: dict[str, Any] = {}
    for name, some in {"single": [["sentiment"], ["category"]], "multi": [["sentiment", "category"]]}.items():
        probs: dict[str, Any] = {}
        for group in some:
            given = {task: targets[task] for task in group}
            # Weights of several are learnt by their noise.
            how = Settings(width=TRUNK, rate=2e-3, weights=None if len(group) > 1 else {group[0]: 1.0})
            student = fit(Features(pool[1].states), given, {task: tasks[task] for task in group}, how)
            probs |= student.predict(Features(test[1].states))
        scored = classification.by_task(gold, probs, tasks)
        found[name] = {task: one["f1"] for task, one in scored.items()}
    return found
