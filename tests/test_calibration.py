"""Calibration: the prompt's own lean is taken out of label scores, by the batch or by what an empty input scores."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import aids, scored, whole

from synthrec.curation.calibrate import FEWEST
from synthrec.curation.gold import Gold
from synthrec.tasks.relevance import relevant

unhurried = settings(deadline=None)  # the machine may be busy

LOGITS = st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=FEWEST, max_size=2 * FEWEST)


def many(rows):
    """Enough rows for a batch that means what these mean; these first."""
    return [row | {"id": f"{row['id']}-{n}" if n else row["id"]} for n in range(FEWEST) for row in rows]


def calibrated(rows, **settings):
    """The rows alone, calibrated among enough that are like them."""
    return whole("calibrate", many(rows), aids(**settings))[0][: len(rows)]


def scores(rows):
    return {row["id"]: row["scores"] for row in whole("calibrate", rows, aids())[0]}


@given(english=LOGITS, chinese=LOGITS, bias=st.floats(-3, 3), place=st.integers(0, 1))
@unhurried
def test_a_constant_bias_of_the_prompt_changes_nothing(english, chinese, bias, place):
    def rows(lean):
        made = [scored(n, [x + lean * (i == place) for i, x in enumerate(pair)]) for n, pair in enumerate(english)]
        return made + [scored(100 + n, pair, "zh") for n, pair in enumerate(chinese)]

    straight, leaning = scores(rows(0.0)), scores(rows(bias))
    assert straight.keys() == leaning.keys()
    for one in straight:
        assert straight[one] == pytest.approx(leaning[one], abs=1e-6)


@given(english=LOGITS, chinese=LOGITS)
@unhurried
def test_languages_are_calibrated_apart(english, chinese):
    rows = [scored(n, pair) for n, pair in enumerate(english)]
    others = [scored(100 + n, pair, "zh") for n, pair in enumerate(chinese)]
    mixed = [row for pair in zip(rows, others, strict=False) for row in pair]
    mixed += [row for row in [*rows, *others] if row not in mixed]
    apart = scores(rows) | scores(others)
    assert scores(mixed) == {one: pytest.approx(value, abs=1e-9) for one, value in apart.items()}


def test_calibration_turns_the_labels_of_a_prompt_that_always_says_the_same():
    rows = [scored(n, [gap, 0.0]) for n, gap in enumerate([3.0, 2.5, 1.0, 0.5])]
    assert {row["label"] for row in rows} == {"positive"}
    kept = calibrated(rows)
    assert [row["label"] for row in kept] == ["positive", "positive", "negative", "negative"]
    # The mean of the log-odds was 1.75.
    assert [math.log(row["scores"][0] / row["scores"][1]) for row in kept] == pytest.approx([1.25, 0.75, -0.75, -1.25])
    assert [row["scores"][0] > 0.9 for row in rows] == [True, True, False, False]  # the rows given are as they were


def test_a_score_of_zero_is_calibrated_too():
    none, even = calibrated([scored(0, [0.0, 0.0], scores=[0.0, 1.0]), scored(1, [0.0, 0.0])])
    assert none["label"] == "negative"
    assert even["label"] == "positive"


def test_the_prompt_s_own_lean_is_taken_out_where_an_empty_input_told_it():
    """By hand: log-odds 1 and 3, of which an empty input scores 2 by itself."""
    rows = [scored(n, [gap, 0.0], prior=[-0.127, -2.127]) for n, gap in enumerate([1.0, 3.0])]
    rows += [scored(2, [1.0, 0.0], prior=None)]  # of an answer from before there were priors
    kept, _ = whole("calibrate", rows, aids(calibration="contextual"))
    assert [row["label"] for row in kept] == ["negative", "positive", "positive"]
    assert [math.log(row["scores"][0] / row["scores"][1]) for row in kept] == pytest.approx([-1.0, 1.0, 1.0])
    assert [row["label"] for row in rows] == ["positive"] * 3


@given(english=LOGITS, chinese=LOGITS, prior=st.tuples(st.floats(-4, 0), st.floats(-4, 0)))
@unhurried
def test_what_an_empty_input_says_does_not_depend_on_the_other_texts(english, chinese, prior):
    rows = [scored(n, pair, prior=list(prior)) for n, pair in enumerate(english)]
    rows += [scored(100 + n, pair, "zh", prior=list(prior)) for n, pair in enumerate(chinese)]
    known = aids(calibration="contextual")
    together = {row["id"]: row for row in whole("calibrate", rows, known)[0]}
    for row in rows:
        ((alone,), _) = whole("calibrate", [row], known)
        assert alone["scores"] == pytest.approx(together[row["id"]]["scores"])
        odds = math.log(row["scores"][0] / row["scores"][1]) - (prior[0] - prior[1])
        assert math.log(alone["scores"][0] / alone["scores"][1]) == pytest.approx(odds, abs=1e-6)


def test_without_calibration_scores_are_as_they_are():
    rows = [scored(n, [gap, 0.0], prior=[-0.1, -2.3]) for n, gap in enumerate([3.0, 2.5, 1.0])]
    assert whole("calibrate", rows, aids(calibration="none")) == (rows, [])


@pytest.mark.parametrize("apart", [{"facet": "aspect"}, {"labels": ["positive", "other"]}, {"language": "zh"}])
def test_each_question_is_calibrated_by_its_own_answers(apart):
    rows = many([scored(n, [gap, 0.0]) for n, gap in enumerate([3.0, 1.0])])
    others = many([scored(10 + n, [gap, 0.0]) | apart for n, gap in enumerate([-2.0, -4.0])])
    assert scores([*rows, *others]) == scores(rows) | scores(others) != scores([*rows, *others[:FEWEST]])
    assert [row["scores"][0] > 0.5 for row in whole("calibrate", others, aids())[0][:2]] == [True, False]


def test_a_handful_of_rows_is_no_batch():
    """The mean of one row is that row: nothing would be left of what it says. What an empty input told is, though."""
    rows = [scored(n, [gap, 0.0]) for n, gap in enumerate([-6.0, -5.0, -5.5])]
    assert scores(rows) == {row["id"]: pytest.approx(row["scores"]) for row in rows}
    leaning = [scored(n, [gap, 0.0], prior=[-0.127, -2.127]) for n, gap in enumerate([1.0, 3.0])]
    assert [row["label"] for row in whole("calibrate", leaning, aids())[0]] == ["negative", "positive"]


def test_four_grades_are_calibrated_to_probabilities_of_each():
    rows = [scored(n, logits, task="relevance") for n, logits in enumerate([[4.0, 1, 0, 0], [3.0, 1, 0, 2]])]
    assert {row["label"] for row in rows} == {"E"}
    assert [row["label"] for row in calibrated(rows)] == ["E", "I"]
    assert relevant([0.5, 0.2, 0.2, 0.1]) == pytest.approx(0.7)  # exact or a substitute


def biased(count, seed=1):
    """Reviews whose scores say positive far too often, and their right labels, which the scores still tell apart."""
    dice = random.Random(seed)
    rows, gold = [], []
    for n in range(count):
        good = n % 4 == 0
        rows.append(scored(n, [dice.gauss(1.0 if good else -1.0, 1.0) + 3.0, 0.0]))
        gold.append(Gold("sentiment", rows[-1]["text"], "positive" if good else "negative", id=rows[-1]["id"]))
    return rows, gold


def right(rows, gold):
    said = {one.id: one.label for one in gold}
    return sum(row["label"] == said[row["id"]] for row in rows) / len(rows)


@pytest.mark.parametrize("by_text", [False, True])
def test_right_labels_from_people_set_a_biased_prompt_right(by_text):
    rows, gold = biased(400)
    given = [replace(one, id=None) if by_text else one for one in gold[:100]]
    straight, _ = whole("calibrate", rows, aids(calibration="none"))
    fitted, _ = whole("calibrate", rows, aids(calibration="none", gold=given))
    assert right(straight, gold) < 0.4
    assert right(fitted, gold) > 0.75
    assert [sum(row["scores"]) for row in fitted] == pytest.approx([1.0] * len(rows))


def test_copies_of_a_text_are_one_right_label():
    """Nine lines over many rows are nine, however often their texts stand there."""
    rows, gold = biased(9)
    told = [replace(one, id=None, text=one.text.upper()) for one in gold]
    copies = [row | {"id": f"{row['id']}-{n}"} for row in rows for n in range(20)]
    assert whole("calibrate", copies, aids(gold=told)) == whole("calibrate", copies, aids())


def test_a_right_label_of_relevance_is_of_one_product(capfd):
    rows = [scored(n, [2.0, 1.0, 0, 0], task="relevance", text="pan", product_id=f"P{n}") for n in range(60)]
    one = [Gold("relevance", "Pan", "E" if n % 3 else "I", product_id=f"P{n}") for n in range(30)]
    assert whole("calibrate", rows, aids(calibration="none", gold=one[:1])) == (rows, [])
    assert "1 gold rows are too few" in capfd.readouterr().err
    kept, _ = whole("calibrate", rows, aids(calibration="none", gold=one))
    assert "30 gold rows" in capfd.readouterr().err
    assert kept != rows


def test_right_labels_that_are_of_no_row_are_told(capfd):
    rows, gold = biased(40)
    lost = [replace(one, id=None, text="said by nobody") for one in gold[:1]]
    whole("calibrate", rows, aids(gold=lost))
    assert "1 lines of curate.gold say nothing of any label" in capfd.readouterr().err


def test_too_few_right_labels_change_nothing():
    rows, gold = biased(400)
    assert whole("calibrate", rows, aids(gold=gold[:10])) == whole("calibrate", rows, aids())
