"""Recommendations judged: against trec_eval, by hand, and what holds for any lists."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.evaluation.recommendation import beyond, by_case, cold, judge
from synthrec.evaluation.splits import Cases

NAMES = {"recall": "recall", "ndcg": "ndcg_cut", "map": "map_cut", "hr": "success"}


class Fixed:
    """Scores that are given; case i is of shopper i."""

    def __init__(self, scores):
        self.table = np.asarray(scores, np.float32)
        self.items = self.table.shape[1]

    def scores(self, cases):
        return self.table[cases.users]


def cases_of(histories, targets):
    arrays = [[np.array(one, np.int64) for one in rows] for rows in (histories, targets)]
    return Cases(np.arange(len(targets)), *arrays)


def random_cases(seed, shoppers=80, items=60):
    dice = np.random.default_rng(seed)
    histories = [dice.permutation(items)[: dice.integers(0, 8)] for _ in range(shoppers)]
    targets = [dice.permutation(items)[: dice.integers(1, 6)] for _ in range(shoppers)]
    return Fixed(dice.permutation(shoppers * items).reshape(shoppers, items)), cases_of(histories, targets)


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_trec_evals(seed, hide):
    scorer, cases = random_cases(seed)
    judged = judge(scorer, cases, cases.histories, hide, cuts=(1, 5, 10), batch=7)
    judgments = {str(u): {str(i): 1 for i in t} for u, t in enumerate(cases.targets)}
    viewed = [set(h.tolist()) if hide else set() for h in cases.histories]
    run = {
        str(u): {str(i): float(s) for i, s in enumerate(row) if i not in viewed[u]}
        for u, row in enumerate(scorer.table)
    }
    measures = {f"{name}.1,5,10" for name in NAMES.values()}
    found = pytrec_eval.RelevanceEvaluator(judgments, measures).evaluate(run)
    for name, theirs in NAMES.items():
        for k in (1, 5, 10):
            want = [found[str(u)][f"{theirs}_{k}"] for u in range(len(cases))]
            np.testing.assert_allclose(judged.by_case[f"{name}@{k}"], want, rtol=0, atol=1e-9)
    assert 0.05 < judged.by_case["recall@10"].mean() < 0.95


@pytest.mark.parametrize("seed", range(2))
def test_reciprocal_rank_is_trec_evals_of_a_list_cut_at_k(seed):
    scorer, cases = random_cases(seed)
    judged = judge(scorer, cases, cases.histories, False, cuts=(5,))
    judgments = {str(u): {str(i): 1 for i in t} for u, t in enumerate(cases.targets)}
    run = {str(u): {str(i): 5.0 - n for n, i in enumerate(row)} for u, row in enumerate(judged.ranking)}
    found = pytrec_eval.RelevanceEvaluator(judgments, {"recip_rank"}).evaluate(run)
    want = [found[str(u)]["recip_rank"] for u in range(len(cases))]
    np.testing.assert_allclose(judged.by_case["mrr@5"], want, rtol=0, atol=1e-9)


def test_by_hand():
    found = by_case(
        np.array([[3, 1, 2], [3, 1, 2], [0, -1, -1]]), [np.array([1]), np.array([3, 2]), np.array([4])], (2, 3)
    )
    assert found["recall@2"].tolist() == [1, 0.5, 0]
    assert found["hr@2"].tolist() == [1, 1, 0]
    assert found["mrr@3"].tolist() == [0.5, 1, 0]
    half = 1 / np.log2(3)
    np.testing.assert_allclose(found["ndcg@2"], [half, 1 / (1 + half), 0])
    np.testing.assert_allclose(found["ndcg@3"], [half, 1.5 / (1 + half), 0])
    np.testing.assert_allclose(found["map@3"], [0.5, (1 + 2 / 3) / 2, 0])


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_what_holds_for_any_lists(data):
    items = data.draw(st.integers(6, 12))
    many = data.draw(st.integers(1, 5))
    scores = [data.draw(st.permutations(range(items))) for _ in range(many)]
    some = st.lists(st.integers(0, items - 1), max_size=4, unique=True)
    cases = cases_of([data.draw(some) for _ in range(many)], [data.draw(some.filter(len)) for _ in range(many)])
    judged = judge(Fixed(scores), cases, cases.histories, True, cuts=(2, 5, 6))
    for history, row in zip(cases.histories, judged.ranking, strict=True):
        left = row[row >= 0].tolist()
        assert len(set(left)) == len(left) == min(6, items - len(history))
        assert not set(left) & set(history.tolist())
        assert (row[len(left) :] == -1).all(), "what is missing is missing at the end"
    for name in ("recall", "hr", "ndcg", "mrr", "map"):
        values = [judged.by_case[f"{name}@{k}"] for k in (2, 5, 6)]
        assert all(((v >= 0) & (v <= 1 + 1e-12)).all() for v in values)
        if name in ("recall", "hr", "mrr", "map"):
            assert (values[0] <= values[1]).all()
            assert (values[1] <= values[2]).all()
    for k in (2, 5, 6):
        reached = np.array([bool(set(t) & set(r[:k])) for t, r in zip(cases.targets, judged.ranking, strict=True)])
        assert (judged.by_case[f"hr@{k}"] == reached).all()
        assert ((judged.by_case[f"ndcg@{k}"] > 0) == reached).all()


def test_the_size_of_a_batch_changes_nothing_and_progress_is_told():
    scorer, cases = random_cases(5)
    told = []
    one = judge(scorer, cases, cases.histories, True, batch=1000)
    other = judge(scorer, cases, cases.histories, True, batch=13, tick=told.append)
    assert (one.ranking == other.ranking).all()
    assert sum(told) == len(cases)
    assert len(told) == 7


def test_of_two_with_one_score_the_lower_number_comes_first():
    judged = judge(Fixed(np.zeros((1, 30))), cases_of([[0, 2]], [[1]]), [np.arange(3)], True, cuts=(4,))
    assert judged.ranking.tolist() == [[1, 3, 4, 5]]


def test_a_target_that_was_viewed_is_found_only_where_viewed_items_are_kept():
    scorer, cases = Fixed([[9, 1, 0]]), cases_of([[0]], [[0]])
    found = [judge(scorer, cases, cases.histories, hide, cuts=(2,)).by_case["recall@2"][0] for hide in (True, False)]
    assert found == [0, 1]


def test_coverage_novelty_and_popularity_by_hand():
    train = [np.array([0, 0, 0, 1]), np.array([0, 1, 2])]  # counts 4, 2, 1, 0; with one added 5, 3, 2, 1 of 11
    found = beyond(np.array([[0, 1], [0, -1]]), train, 4, (1, 2))
    assert found["coverage@1"] == 0.25
    assert found["coverage@2"] == 0.5
    assert found["novelty@1"] == pytest.approx(-np.log2(5 / 11))
    assert found["novelty@2"] == pytest.approx((-2 * np.log2(5 / 11) - np.log2(3 / 11)) / 3)
    assert found["popularity@1"] == pytest.approx(3.5 / 4)
    assert found["popularity@2"] == pytest.approx((3.5 + 3.5 + 2.5) / 3 / 4)


def test_a_random_list_is_of_middling_popularity_and_a_popular_one_says_less():
    dice = np.random.default_rng(0)
    train = [dice.geometric(0.05, 400) % 200]
    lists = np.stack([dice.permutation(200)[:20] for _ in range(300)])
    popular = np.tile(np.argsort(-np.bincount(train[0], minlength=200))[:20], (300, 1))
    assert beyond(lists, train, 200)["popularity@20"] == pytest.approx(0.5, abs=0.02)
    assert beyond(popular, train, 200)["popularity@20"] > 0.9
    assert beyond(popular, train, 200)["novelty@20"] < beyond(lists, train, 200)["novelty@20"]


def test_a_case_is_cold_where_no_target_was_ever_taken():
    cases = cases_of([[0], [0], [0]], [[1], [3], [3, 2]])
    assert cold(cases, [np.array([0, 1]), np.array([2])], 5).tolist() == [False, True, False]


def test_a_catalogue_smaller_than_the_lists_is_ranked_whole():
    found = judge(Fixed([[3, 2, 1]]), cases_of([[0]], [[2]]), [np.array([0, 1])], filter_viewed=True)
    assert found.ranking.tolist() == [[1, 2, -1]]
    assert found.by_case["mrr@20"].tolist() == [0.5]
