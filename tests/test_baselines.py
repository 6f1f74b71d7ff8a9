"""Baselines: against numbers worked by hand or solved another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.evaluation import baselines
from synthrec.evaluation.baselines import EASE, Fusion, ItemKNN, Likeness, Popularity, Welcoming, matrix
from synthrec.evaluation.splits import Cases

TRAIN = [np.array(one) for one in ([0, 1], [0, 1, 2], [0, 3], [2, 3, 3])]


def ask(*histories):
    return Cases(
        np.arange(len(histories)), [np.array(one, np.int64) for one in histories], [np.array([0])] * len(histories)
    )


def random_train(seed, shoppers=60, items=25):
    dice = np.random.default_rng(seed)
    return [dice.permutation(items)[: dice.integers(2, 8)] for _ in range(shoppers)]


def dense(sequences, items):
    out = np.zeros((len(sequences), items))
    for row, one in enumerate(sequences):
        out[row, one] = 1
    return out


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6))
@settings(deadline=None)
def test_the_matrix_holds_who_took_what_once(rows):
    sequences = [np.array(row, np.int64) for row in rows]
    assert (matrix(sequences, 10).toarray() == dense(sequences, 10)).all()


def test_popularity_counts_what_was_taken():
    assert Popularity(TRAIN, 5).scores(ask([0], [])).tolist() == [[3, 2, 2, 3, 0]] * 2


def test_item_knn_by_hand():
    scores = ItemKNN(TRAIN, 5, shrink=0).scores(ask([0], [1, 2], [4], []))
    # Item 0 has 3 shoppers, 1 two, 2 two, 3 two; 0 and 1 share two shoppers, 0 and 2 one, 0 and 3 one.
    root = np.sqrt(6)
    np.testing.assert_allclose(scores[0], [0, 2 / root, 1 / root, 1 / root, 0], rtol=1e-6)
    np.testing.assert_allclose(scores[1], [3 / root, 1 / 2, 1 / 2, 1 / 2, 0], rtol=1e-6)
    assert not scores[2:].any()


@pytest.mark.parametrize("shrink", [0.0, 5.0])
def test_item_knn_is_the_cosine_with_only_the_nearest_kept(shrink):
    train, items, keep = random_train(1), 25, 4
    taken = dense(train, items)
    together = taken.T @ taken
    norms = np.sqrt(np.diag(together))
    likeness = together / (np.outer(norms, norms) + shrink)
    np.fill_diagonal(likeness, 0)
    every = ItemKNN(train, items, neighbours=items, shrink=shrink).scores(ask(*[[i] for i in range(items)]))
    np.testing.assert_allclose(every, likeness, atol=1e-6)
    nearest = ItemKNN(train, items, neighbours=keep, shrink=shrink).scores(ask(*[[i] for i in range(items)]))
    assert ((nearest > 0).sum(1) <= keep).all()
    for row, full in zip(nearest, likeness, strict=True):
        np.testing.assert_allclose(np.sort(row)[-keep:], np.sort(full)[-keep:], atol=1e-6)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    train, items, ridge = random_train(2, items=12), 12, 7.0
    taken = dense(train, items)
    got = EASE(train, items, ridge).scores(ask(*[[i] for i in range(items)]))
    for item in range(items):
        others = [i for i in range(items) if i != item]
        x = taken[:, others]
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(items - 1), x.T @ taken[:, item])
        np.testing.assert_allclose(got[others, item], weights, atol=1e-5)
        assert got[item, item] == 0


def test_likeness_goes_by_what_was_taken_last():
    angles = np.array([0, 0.3, 1.2, 1.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    scores = Likeness(vectors).scores(ask([3, 0], [0, 3], []))
    np.testing.assert_allclose(scores[0], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(scores[1], np.cos(angles - 1.5), atol=1e-6)
    assert not scores[2].any()
    both = Likeness(vectors, last=2).scores(ask([2, 3, 0]))
    np.testing.assert_allclose(both[0], np.cos(angles) + 0.5 * np.cos(angles - 1.5), atol=1e-6)


def test_fusion_adds_standard_scores_so_that_their_scale_does_not_matter():
    class Fixed:
        items = 3

        def __init__(self, rows):
            self.rows = np.array(rows, np.float32)

        def scores(self, cases):
            return self.rows[cases.users]

    one, other = Fixed([[1, 2, 3], [5, 5, 5]]), Fixed([[0, 100, 0], [1, 0, 0]])
    got = Fusion([(one, 1.0), (other, 0.5)]).scores(ask([], []))
    step = 1 / np.sqrt(2 / 3)
    np.testing.assert_allclose(
        got[0], [-step - 0.5 * step / np.sqrt(3), step / np.sqrt(3), step - 0.5 * step / np.sqrt(3)], atol=1e-5
    )
    assert got[1].argmax() == 0, "who scores all alike says nothing, and spoils nothing"
    bigger = Fusion([(Fixed(1000 * one.rows + 7), 1.0), (other, 0.5)]).scores(ask([], []))
    np.testing.assert_allclose(got, bigger, atol=1e-3)


def test_what_one_part_cannot_score_another_may():
    class Fixed:
        items = 3

        def __init__(self, row):
            self.row = np.array([row], np.float32)

        def scores(self, cases):
            return self.row

    got = Fusion([(Fixed([2, 1, -np.inf]), 1.0), (Fixed([0, 0, 9]), 5.0)]).scores(ask([]))
    want = Fusion([(Fixed([2, 1, 1]), 1.0), (Fixed([0, 0, 9]), 5.0)]).scores(ask([]))
    np.testing.assert_allclose(got, want)
    assert got[0].argmax() == 2
    assert np.isfinite(Fusion([(Fixed([-np.inf] * 3), 1.0)]).scores(ask([]))).all()


def test_pairs_of_items_are_counted_block_by_block(monkeypatch):
    sequences = [np.array(one) for one in ([0, 1, 2], [1, 2], [2, 3, 4, 0], [4], [0, 2, 4, 1])]
    cases = Cases(np.arange(2), [np.array([1]), np.array([2, 4])], [np.array([0])] * 2)
    whole = [made(sequences, 6).scores(cases) for made in (ItemKNN, EASE)]
    monkeypatch.setattr(baselines, "BLOCK", 2)
    for made, scores in zip((ItemKNN, EASE), whole, strict=True):
        np.testing.assert_allclose(made(sequences, 6).scores(cases), scores, rtol=1e-5, atol=1e-7)


def test_newcomers_are_shown_what_is_taken_most():
    sequences = [np.array([0, 1]), np.array([1, 2, 1])]
    cases = Cases(np.arange(2), [np.array([0]), np.array([], np.int64)], [np.array([1])] * 2)
    popular, likeness = Popularity(sequences, 3), Likeness(np.eye(3, dtype=np.float32))
    scores = Welcoming(likeness, popular).scores(cases)
    assert scores[0].tolist() == [1, 0, 0]
    assert scores[1].tolist() == [1, 3, 1]
