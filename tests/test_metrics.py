"""Metrics: against trec_eval and scikit-learn, against numbers worked by hand, and what holds for any ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, ndcg_score, precision_recall_fscore_support, roc_auc_score

from synthrec.evaluation import classification, metrics
from synthrec.schema import GAINS

MEASURES = {"ndcg": metrics.ndcg, "recall": metrics.recall, "mrr": metrics.mrr}


def random_case(seed, queries=60, items=50, depth=30):
    """Rankings with some places empty, and graded judgments (ESCI's gains) of about a third of the items."""
    dice = np.random.default_rng(seed)
    ranking = np.stack([dice.permutation(items)[:depth] for _ in range(queries)])
    for row, kept in zip(ranking, dice.integers(0, depth + 1, queries), strict=True):
        row[kept:] = -1
    grades = np.array(list(GAINS.values()))
    judged = [dice.permutation(items)[: dice.integers(1, 18)] for _ in range(queries)]
    return ranking, [{int(i): float(dice.choice(grades)) for i in some} for some in judged]


def trec_eval(ranking, gains, measure, level):
    """trec_eval's values, NaN for queries without a relevant item. Its gains are whole numbers: 1, 0.1, 0.01 x 100."""
    judged = {f"q{q}": {f"d{i}": round(100 * g) for i, g in one.items()} for q, one in enumerate(gains)}
    rows = [{f"d{i}": float(len(row) - place) for place, i in enumerate(row) if i >= 0} for row in ranking]
    run = {f"q{q}": row for q, row in enumerate(rows)}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {measure}, relevance_level=level)
    found = evaluator.evaluate(run)
    values = [found[f"q{q}"][measure.replace(".", "_")] if run[f"q{q}"] else 0.0 for q in range(len(gains))]
    findable = [any(round(100 * g) >= level for g in one.values()) for one in gains]
    return np.where(findable, values, np.nan)


@pytest.mark.parametrize("k", [1, 5, 10, 30])
@pytest.mark.parametrize("seed", range(3))
def test_ndcg_is_trec_evals(seed, k):
    ranking, gains = random_case(seed)
    want = trec_eval(ranking, gains, f"ndcg_cut.{k}", 1)
    np.testing.assert_allclose(metrics.ndcg(ranking, gains, k), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 5, 10, 30])
@pytest.mark.parametrize("relevant_from", [1.0, 0.1])
def test_recall_is_trec_evals(relevant_from, k):
    ranking, gains = random_case(7)
    want = trec_eval(ranking, gains, f"recall.{k}", round(100 * relevant_from))
    np.testing.assert_allclose(metrics.recall(ranking, gains, k, relevant_from), want, rtol=0, atol=1e-9)
    assert 0 < np.isnan(want).sum() < len(want), "some queries have nothing to find, and most have something"


@pytest.mark.parametrize("k", [1, 5, 10, 30])
@pytest.mark.parametrize("relevant_from", [1.0, 0.1])
def test_reciprocal_rank_is_trec_evals_of_the_cut_ranking(relevant_from, k):
    ranking, gains = random_case(8)
    want = trec_eval(ranking[:, :k], gains, "recip_rank", round(100 * relevant_from))
    np.testing.assert_allclose(metrics.mrr(ranking, gains, k, relevant_from), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 10, 40])
def test_rank_and_ndcg_together_are_scikit_learns(k):
    dice = np.random.default_rng(5)
    scores = dice.permuted(np.tile(np.arange(40.0), (25, 1)), axis=1).astype(np.float32)
    truth = dice.choice(list(GAINS.values()), (25, 40), p=[0.2, 0.2, 0.1, 0.5])
    gains = [dict(enumerate(row.tolist())) for row in truth]
    want = [ndcg_score([t], [s], k=k) for t, s in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(metrics.ndcg(metrics.rank(scores, 40), gains, k), want, rtol=0, atol=1e-9)


def test_worked_by_hand():
    # Ranked 4, 7, 2: a substitute, something unjudged, an exact match. Another exact match, 9, was not found.
    ranking, gains = np.array([[4, 7, 2]]), [{2: 1.0, 4: 0.1, 9: 1.0}]
    ideal = 1 + 1 / math.log2(3) + 0.1 / 2
    assert metrics.ndcg(ranking, gains, 3) == pytest.approx([(0.1 + 1 / 2) / ideal], abs=1e-12)
    assert metrics.ndcg(ranking, gains, 1) == pytest.approx([0.1], abs=1e-12)
    assert metrics.recall(ranking, gains, 3).tolist() == [0.5]
    assert metrics.recall(ranking, gains, 2).tolist() == [0.0]
    assert metrics.mrr(ranking, gains, 3) == pytest.approx([1 / 3])
    assert metrics.mrr(ranking, gains, 2).tolist() == [0.0]
    assert metrics.mrr(ranking, gains, 3, relevant_from=0.1).tolist() == [1.0]


def test_a_query_with_nothing_to_find_has_no_value_and_is_left_out_of_the_mean():
    ranking, gains = np.array([[0, 1], [0, 1], [1, 0]]), [{0: 1.0}, {0: 0.0}, {}]
    for measure in MEASURES.values():
        values = measure(ranking, gains, 2)
        assert values[0] == 1
        assert np.isnan(values[1:]).all()
        assert metrics.mean(values) == (1.0, 1)
    value, known = metrics.mean(np.array([np.nan, np.nan]))
    assert math.isnan(value)
    assert known == 0


@st.composite
def cases(draw):
    """(ranking, gains, k) of one query."""
    items = draw(st.integers(1, 12))
    order = draw(st.permutations(range(items)))
    found = draw(st.integers(0, items))
    gains = draw(st.dictionaries(st.integers(0, items - 1), st.sampled_from([*GAINS.values(), 0.5]), max_size=items))
    row = [*order[:found], *[-1] * (items - found)]
    return np.array([row]), [gains], draw(st.integers(1, items))


@given(cases())
def test_values_are_fractions_or_nan(case):
    for measure in MEASURES.values():
        value = measure(*case)[0]
        assert math.isnan(value) or 0 <= value <= 1 + 1e-12


@given(cases())
def test_a_perfect_ranking_scores_one(case):
    ranking, (gains,), k = case
    items = sorted(range(ranking.shape[1]), key=lambda i: -gains.get(i, 0.0))
    perfect = np.array([items])
    if any(gains.values()):
        assert metrics.ndcg(perfect, [gains], k)[0] == pytest.approx(1, abs=1e-12)
    exact = sum(g >= 1 for g in gains.values())
    if exact:
        assert metrics.mrr(perfect, [gains], k)[0] == 1
        assert metrics.recall(perfect, [gains], k)[0] == pytest.approx(min(k, exact) / exact)


@given(cases(), st.randoms(use_true_random=False))
def test_items_names_do_not_matter(case, dice):
    ranking, (gains,), k = case
    names = list(range(100))
    dice.shuffle(names)
    renamed = np.array([[names[i] if i >= 0 else -1 for i in ranking[0]]])
    for measure in MEASURES.values():
        before, after = measure(ranking, [gains], k), measure(renamed, [{names[i]: g for i, g in gains.items()}], k)
        np.testing.assert_allclose(after, before, atol=1e-12)


@st.composite
def score_tables(draw):
    """(scores with many ties, depth, excluded items of each query)."""
    queries, items = draw(st.integers(1, 4)), draw(st.integers(1, 15))
    scores = draw(hnp.arrays(np.float32, (queries, items), elements=st.sampled_from([-1.0, 0.0, 0.25, 1.0])))
    excluded = [np.array(sorted(draw(st.sets(st.integers(0, items - 1)))), dtype=np.int64) for _ in range(queries)]
    return scores, draw(st.integers(1, items)), excluded


@given(score_tables())
def test_rank_is_a_plain_sort_without_the_excluded_items(table):
    scores, depth, excluded = table
    want = []
    for row, out in zip(scores, excluded, strict=True):
        left = sorted(set(range(len(row))) - set(out.tolist()), key=lambda i: (-row[i], i))[:depth]
        want.append(left + [-1] * (depth - len(left)))
    assert metrics.rank(scores, depth, excluded).tolist() == want


def test_rank_leaves_the_scores_as_they_were():
    scores = np.array([[1.0, 2.0, 3.0]], np.float32)
    metrics.rank(scores, 2, [np.array([2])])
    assert scores.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("scores", "depth"), [([[0.0, np.nan]], 1), ([[0.0, 1.0]], 3)])
def test_rank_refuses_what_it_cannot_order(scores, depth):
    with pytest.raises(ValueError, match=r"NaN|depth"):
        metrics.rank(np.array(scores, np.float32), depth)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
@settings(max_examples=50)
def test_label_scores_are_scikit_learns(pairs):
    gold, said = map(list, zip(*pairs, strict=True))
    names = sorted(set(gold))
    found = classification.scores(gold, said)
    table = precision_recall_fscore_support(gold, said, labels=names, zero_division=0)
    for place, name in enumerate(names):
        got = [found["classes"][name][key] for key in ("precision", "recall", "f1", "support")]
        assert got == pytest.approx([column[place] for column in table], abs=1e-9)
    macro = precision_recall_fscore_support(gold, said, labels=names, average="macro", zero_division=0)[:3]
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(macro, abs=1e-9)
    assert found["accuracy"] == pytest.approx(accuracy_score(gold, said), abs=1e-9)
    assert found["support"] == len(gold)


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
@settings(max_examples=50)
def test_auc_is_scikit_learns_ties_included(pairs):
    gold, score = zip(*pairs, strict=True)
    found = classification.auc(gold, score)
    if len(set(gold)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(gold, score), abs=1e-9)


@pytest.mark.parametrize(("gold", "said"), [([], []), (["a"], ["a", "b"])])
def test_label_scores_need_equally_many_labels(gold, said):
    with pytest.raises(ValueError, match="gold labels"):
        classification.scores(gold, said)
