"""The nearest vectors: what is found by codes is what comparing with all finds, but for one in a hundred."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthrec.retrieval import vectors
from synthrec.retrieval.vectors import Coded, Exact, top


def unit(count, width=64, seed=0):
    """About some centres, as vectors of texts are, and not about the origin."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((40, width))
    made = centres[dice.integers(0, 40, count)] + dice.standard_normal((count, width)) + 0.7
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def many():
    return unit(12_000)


@pytest.fixture(scope="module")
def coded(many):
    return Coded(many)


def recall(found, want):
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), want.tolist(), strict=True)]
    return np.mean(shares)


@pytest.mark.parametrize("share", [None, 0.9, 0.4, 0.1, 0.05, 0.001])
def test_by_codes_it_finds_what_comparing_with_all_finds(many, coded, share):
    asked = unit(100, seed=1)
    allowed = None if share is None else np.random.default_rng(2).random(len(many)) < share
    positions, scores = coded.search(asked, 10, allowed)
    want, exact = Exact(many).search(asked, 10, allowed)
    assert recall(positions, want) >= 0.99
    same = positions == want
    np.testing.assert_allclose(scores[same], exact[same], rtol=1e-5)
    assert (np.diff(scores) <= 0).all()
    if allowed is not None:
        assert allowed[positions].all()


def test_more_neighbours_than_candidates_are_found_too(many, coded):
    asked = unit(5, seed=3)
    positions, _ = coded.search(asked, 1000)
    assert recall(positions, Exact(many).search(asked, 1000)[0]) >= 0.95


def test_what_it_learned_is_taken_over(many, coded):
    again = vectors.build(many[2000:], 100, coded)
    assert isinstance(again, Coded)
    assert again.candidates == coded.candidates
    asked = unit(50, seed=4)
    assert recall(again.search(asked, 10)[0], Exact(many[2000:]).search(asked, 10)[0]) >= 0.99
    assert coded.size == len(many), "the old one still serves"
    assert recall(coded.search(asked, 10)[0], Exact(many).search(asked, 10)[0]) >= 0.99


def test_few_are_compared_with_all_and_an_odd_width_is_coded():
    assert isinstance(vectors.build(unit(50), 50), Exact)
    odd = unit(400, width=31)
    found, _ = vectors.build(odd, 50).search(odd[:20], 1)
    assert (found[:, 0] == np.arange(20)).all()


@pytest.mark.parametrize("kind", [Exact, Coded])
def test_places_that_nothing_can_fill_are_marked(kind):
    index = kind(unit(300))
    allowed = np.zeros(300, bool)
    allowed[[3, 250]] = True
    positions, scores = index.search(unit(2, seed=5), 4, allowed)
    assert {tuple(sorted(row)) for row in positions.tolist()} == {(-1, -1, 3, 250)}
    assert (scores[:, 2:] == -np.inf).all()
    assert (index.search(unit(1, seed=5), 4, np.zeros(300, bool))[0] == -1).all()


FEW = arrays.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([-np.inf, 0.0, 0.5, 1.0]))


@given(FEW, st.integers(0, 50))
def test_top_is_a_stable_sort(scores, k):
    check(scores, k)


@given(st.integers(0, 9), st.integers(0, 200), st.sampled_from([1, 3, 1000]), st.integers(500, 3000))
@settings(max_examples=200, deadline=None)
def test_top_of_many_is_a_stable_sort_however_they_are_spread(seed, k, values, size):
    """Few values: many ties; and most of what is good where no sample looks."""
    dice = np.random.default_rng(seed)
    scores = dice.integers(0, values, size).astype(np.float32)
    scores[::32] = dice.choice([0, -np.inf, values])
    check(scores, k)


def check(scores, k):
    order = np.argsort(-scores, kind="stable")[:k]
    order = order[scores[order] > -np.inf]
    found, values = top(scores, k)
    assert found.tolist() == order.tolist()
    assert values.tolist() == scores[order].tolist()
