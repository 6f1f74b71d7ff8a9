"""Cohen's kappa: as scikit-learn has it, and what it says where it is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from synthrec.evaluation.agreement import agreement, kappa

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=60)


@given(PAIRS)
@settings(deadline=None, max_examples=60)
def test_it_is_the_kappa_of_scikit_learn(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = kappa(a, b)
    if len({*a, *b}) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))
        assert kappa(b, a) == pytest.approx(found)
        assert -1 <= found <= 1


def test_the_interval_holds_kappa_and_narrows_with_rows():
    dice = np.random.default_rng(1)

    def rated(rows):
        truth = dice.choice(["x", "y"], rows)
        return truth.tolist(), np.where(dice.random(rows) < 0.8, truth, "x").tolist()

    few, many = agreement(*rated(40)), agreement(*rated(4000))
    for one in (few, many):
        assert one.low < one.kappa < one.high
    assert many.high - many.low < 0.3 * (few.high - few.low)
    assert many.kappa == pytest.approx(0.8, abs=0.05)  # 10 in 100 changed: observed .9, by chance .5


def test_questions_with_labels_of_their_own_are_no_agreement():
    """In one table they would be: nobody takes a colour for a size."""
    dice = np.random.default_rng(3)
    questions = np.repeat(["colour", "size", "shape"], 200)
    a, b = ([f"{one} {dice.integers(3)}" for one in questions] for _ in range(2))
    assert kappa(a, b) > 0.2
    found = agreement(a, b, questions.tolist())
    assert found.low < 0 < found.high
    alone = [kappa(a[i : i + 200], b[i : i + 200]) for i in (0, 200, 400)]
    assert min(alone) <= found.kappa <= max(alone)
    assert kappa(a[:200], b[:200], ["colour"] * 200) == pytest.approx(kappa(a[:200], b[:200]))


def test_as_many_labels_as_rows_take_no_square_of_memory():
    a = [f"reply {n}" for n in range(1500)]
    assert agreement(a, a).kappa == 1


def test_where_kappa_is_not_defined_it_is_no_number():
    nothing, same = agreement([], []), agreement(["a"] * 5, ["a"] * 5)
    assert (nothing.rows, same.rows, same.share) == (0, 5, 1.0)
    assert all(math.isnan(x) for x in (nothing.kappa, nothing.share, same.kappa, same.low, same.high))
    assert kappa(["a", "a"], ["a", "b"]) == 0  # one rater of one mind: no better than chance
    with pytest.raises(ValueError, match="2 labels against 1"):
        kappa(["a", "b"], ["a"])
