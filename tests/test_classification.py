"""Label metrics held against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from synthrec.evaluation.classification import by_task, of_probabilities

LABELS = ["good", "fair", "bad"]
unhurried = settings(deadline=None, max_examples=50)  # the machine may be busy


def drawn(seed, rows, labels=LABELS):
    dice = np.random.default_rng(seed)
    probs = dice.dirichlet(np.ones(len(labels)), rows)
    gold = [labels[i] for i in dice.integers(len(labels), size=rows)]
    return gold, probs


@given(seed=st.integers(0, 10_000), rows=st.integers(30, 80))
@unhurried
def test_all_figures_are_those_of_scikit_learn(seed, rows):
    gold, probs = drawn(seed, rows)
    found = of_probabilities(gold, probs, LABELS)
    said = [LABELS[i] for i in probs.argmax(1)]
    expected = metrics.precision_recall_fscore_support(gold, said, labels=LABELS, average="macro", zero_division=0)
    assert [found[one] for one in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))
    places = [LABELS.index(one) for one in gold]
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(places, probs, multi_class="ovr"))


def test_calibration_error_is_the_gap_of_certainty_and_truth():
    probs = np.tile([0.8, 0.2], (10, 1))
    labels = ["yes", "no"]
    assert of_probabilities(["yes"] * 8 + ["no"] * 2, probs, labels)["ece"] == pytest.approx(0)
    assert of_probabilities(["yes"] * 5 + ["no"] * 5, probs, labels)["ece"] == pytest.approx(0.3)


def test_rows_without_a_gold_label_count_for_nothing():
    gold, probs = drawn(1, 40)
    some = [label if row % 2 else None for row, label in enumerate(gold)]
    assert of_probabilities(some, probs, LABELS) == of_probabilities(gold[1::2], probs[1::2], LABELS)


def test_each_task_has_its_own_figures():
    gold, probs = drawn(2, 40)
    other, more = drawn(3, 40, ["a", "b"])
    found = by_task(
        {"one": gold, "two": other, "none": [None] * 40},
        {"one": probs, "two": more, "none": more},
        {"one": LABELS, "two": ["a", "b"], "none": ["a", "b"]},
    )
    assert found == {
        "one": of_probabilities(gold, probs, LABELS),
        "two": of_probabilities(other, more, ["a", "b"]),
    }


def test_a_label_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="no label 'new'"):
        of_probabilities(["new"], np.ones((1, 3)), LABELS)
