"""Calibration from gold rows: better on rows that it did not see, and left alone where the rows cannot tell."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from synthrec.curation import gold
from synthrec.errors import UserError
from synthrec.evaluation.classification import ece
from synthrec.review.decisions import Decision, Ledger
from synthrec.storage import Folder


def drawn(rows, sharpness=1.0, lean=0.0, seed=0, labels=3):
    """Right labels drawn from true probabilities, and what a model with a lean and wrong sharpness says of them."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(0, 1.5, (rows, labels))
    true = softmax(logits, axis=1)
    right = (true.cumsum(1) > dice.random((rows, 1))).argmax(1)
    return softmax(sharpness * logits + lean * np.arange(labels), axis=1), right


@pytest.mark.parametrize(
    "fitter, told",
    [(gold.temperature, {"sharpness": 4.0}), (gold.bias, {"lean": 1.5}), (gold.isotonic, {"sharpness": 4})],
)
def test_rows_not_seen_are_better_calibrated(fitter, told):
    made = fitter(*drawn(300, **told, seed=1))
    probs, right = drawn(4000, **told, seed=2)
    assert gold.nll(made(probs), right) < 0.95 * gold.nll(probs, right)
    assert ece(made(probs), right) < 0.5 * ece(probs, right)


def test_what_was_done_to_the_model_is_found_again():
    assert gold.temperature(*drawn(20000, sharpness=3.0)).temperature == pytest.approx(3.0, rel=0.05)
    made = gold.bias(*drawn(20000, sharpness=2.0, lean=1.0))
    assert made.temperature == pytest.approx(2.0, rel=0.05)
    assert made.bias == pytest.approx((0.5, 0.0, -0.5), abs=0.05)


@pytest.mark.parametrize("told, kinds", [({"sharpness": 5.0}, {"temperature", "bias"}), ({"lean": 2.0}, {"bias"})])
def test_a_handful_of_rows_finds_the_fault(told, kinds):
    found = gold.fit(*drawn(80, **told, seed=3))
    assert found.calibration.kind in kinds
    assert "over 80 gold rows" in found.reason
    probs, right = drawn(4000, **told, seed=4)
    assert gold.nll(found.calibration(probs), right) < gold.nll(probs, right)


def test_where_nothing_is_to_be_won_nothing_is_changed():
    left = [gold.fit(*drawn(60, seed=seed)).calibration.kind == "none" for seed in range(12)]
    assert sum(left) >= 9
    few = gold.fit(*drawn(gold.LEAST - 1, sharpness=9.0))
    assert (few.calibration.kind, few.nll) == ("none", {})
    assert "too few" in few.reason
    probs, right = drawn(40)
    assert "same label" in gold.fit(probs, np.zeros_like(right)).reason


@given(st.integers(2, 5), st.integers(2, 60), st.integers(0, 10**6), st.floats(0.1, 8))
@settings(max_examples=25, deadline=None)
def test_what_comes_out_is_probabilities_and_order_is_kept(labels, rows, seed, sharpness):
    probs, right = drawn(rows, sharpness, seed=seed, labels=labels)
    for kind, fitter in gold.FITTERS.items():
        made = fitter(probs, right)(probs)
        assert made.shape == probs.shape
        assert (made >= 0).all()
        assert made.sum(1) == pytest.approx(np.ones(rows))
        if kind == "temperature":
            assert (made.argmax(1) == probs.argmax(1)).all()
    assert gold.nll(gold.temperature(probs, right)(probs), right) <= gold.nll(probs, right) + 1e-4
    assert 0 <= ece(probs, right) <= 1


def test_isotonic_curves_rise():
    for x, y in gold.isotonic(*drawn(200, 3.0)).curves:
        assert (np.diff(x) > 0).all()
        assert (np.diff(y) >= 0).all()


def test_em_finds_the_prior_without_gold():
    """Two classes of normal texts; the model was calibrated at even odds, the shop has nine in ten of one."""
    dice = np.random.default_rng(5)
    right = (dice.random(8000) < 0.1).astype(int)
    seen = dice.normal(2.0 * right - 1, 1.0)
    probs = softmax(np.stack([-seen, seen], axis=1), axis=1)  # exact at even odds: log odds are 2 x seen
    made, prior = gold.prior_shift(probs)
    assert prior == pytest.approx([0.9, 0.1], abs=0.02)
    assert gold.nll(made, right) < 0.8 * gold.nll(probs, right)
    assert gold.prior_shift(probs, [0.9, 0.1])[0].sum(1) == pytest.approx(np.ones(8000))


def test_ece_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    assert ece(probs, np.array([0, 0, 1, 0])) == pytest.approx((2 * 0.1 + abs(1 - 1.2)) / 4)


def test_gold_is_what_reviewers_said_of_chosen_labels(tmp_path):
    root = Folder.open(str(tmp_path))
    ledger = Ledger(root, "me")
    told = [
        ("a", "accept", "x", True),
        ("b", "correct", "y", True),
        ("c", "reject", None, True),
        ("d", "accept", "z", False),
    ]
    for i, (name, verdict, right, chosen) in enumerate(told):
        ledger.append(Decision(name, "sentiment", "", "en", "t", "x", verdict, right, "me", str(i), chosen))
    ledger.close()
    assert [(one.id, one.label) for one in gold.reviewed(root)] == [("a", "x"), ("b", "y")]


def test_a_users_file_is_read_or_its_line_is_named(tmp_path):
    file = tmp_path / "gold.jsonl"
    row = {"task": "sentiment", "text": "很好\u2028用", "label": "positive"}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n\n" + json.dumps(row | {"facet": "aspect"}) + "\n")
    found = gold.from_file(str(file))
    assert found[0] == gold.Gold(**row)
    assert found[1].facet == "aspect"
    for wrong, problem in [("{", "not JSON"), ("[]", "no task"), ('{"task": "x", "text": 1, "label": "y"}', "no task")]:
        file.write_text(json.dumps(row) + "\n" + wrong)
        with pytest.raises(UserError, match=rf"gold.jsonl:2 .*{problem}"):
            gold.from_file(str(file))
    with pytest.raises(UserError, match="cannot read"):
        gold.from_file(str(tmp_path / "none"))
