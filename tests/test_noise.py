"""Confident learning: planted wrong labels are found right ones stay, too few rows are let be."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import aids, scored

from synthrec.curation import STEPS, chosen, ngrams, plan
from synthrec.schema import LABEL, REJECT, table
from synthrec.storage import Folder

WORDS = {
    "en": {
        "positive": ["lovely", "works well", "sturdy", "great value", "happy with it", "my cat adores it"],
        "negative": ["broke at once", "refund", "useless", "smells bad", "arrived late", "a waste of money"],
        "": ["the kettle", "bought in May", "in blue", "for my desk", "second order", "with a lid", "for two"],
    },
    "zh": {
        "positive": ["质量很好", "非常满意", "物美价廉", "推荐购买", "做工精细", "还会再来"],
        "negative": ["太差了", "要退货", "质量不行", "有异味", "后悔买了", "客服不理人"],
        "": ["水壶", "五月买的", "蓝色的", "放桌上用", "第二次下单", "带盖子", "两个人用"],
    },
}
OTHER = {"positive": "negative", "negative": "positive"}


def rows(count, language="en", wrong=0.15, seed=1, **more):
    """(rows, ids of those with a wrong label): every text says two things for its label, and others."""
    dice, out, planted = random.Random(seed), [], set()
    for number in range(count):
        right = dice.choice(["positive", "negative"])
        said = dice.sample(WORDS[language][right], 2) + dice.sample(WORDS[language][""], 3)
        dice.shuffle(said)
        flip = dice.random() < wrong
        label = OTHER[right] if flip else right
        made = {"id": f"{language}{number:05d}", "text": ", ".join(said), "product_id": f"k{number}"}
        out.append(scored(number, [1.0, 0.0], language, **made, label=label) | more)
        planted |= {out[-1]["id"]} if flip else set()
    return out, planted


def run(parts, **wanted):
    """{id: detail} of what the step refuses; it must account for every row."""
    step, known = STEPS["noise"], aids(**wanted)
    learnt = step.learn(parts, known)
    done = [step.apply(some, known, learnt) for some in parts]
    out = [row["id"] for kept, refused in done for row in [*kept, *(one[0] for one in refused)]]
    assert sorted(out) == sorted(row["id"] for some in parts for row in some)
    assert {reason for _, refused in done for _, reason, _ in refused} <= {"suspect_label"}
    return {row["id"]: detail for _, refused in done for row, _, detail in refused}


def f1(found, planted):
    return 2 * len(planted & set(found)) / (len(found) + len(planted))


def test_planted_flips_are_found_in_both_languages_and_right_labels_stay():
    english, wrong = rows(600)
    chinese, wrong_too = rows(600, "zh")
    refused = run([english + chinese])
    assert f1(refused, wrong | wrong_too) > 0.9
    label = next(row["label"] for row in english if row["id"] == min(refused))
    assert refused[min(refused)].startswith(f"{label} (0.")
    assert f"likelier {OTHER[label]} (0." in refused[min(refused)]
    clean = run([rows(600, wrong=0.0)[0]])
    assert len(clean) <= 6


def test_the_more_careful_filter_refuses_fewer():
    some, wrong = rows(800, wrong=0.3)
    bold, careful = run([some]), run([some], noise_filter="confident_learning")
    assert careful.keys() <= bold.keys()
    assert f1(careful, wrong) > 0.8


def test_parts_and_their_order_change_nothing():
    some, _ = rows(400)
    whole = run([some])
    dice = random.Random(3)
    dice.shuffle(some)
    assert run([some[:7], [], some[7:300], some[300:]]) == whole
    assert whole


def test_a_sample_is_learnt_from_and_all_rows_are_judged():
    some, wrong = rows(900)
    found = run([some[:450], some[450:]], noise_rows=400)
    assert f1(found, wrong) > 0.8
    assert {*found} & {row["id"] for row in some[450:]}


@pytest.mark.parametrize("count", [0, 1, 60])
def test_too_few_rows_of_a_label_are_let_be_and_it_is_said(count, capsys):
    some, _ = rows(count, wrong=0.3)
    assert run([some]) == {}
    assert ("nothing refused" in capsys.readouterr().err) == (count > 0)


def test_one_text_written_often_is_not_many_rows():
    some, _ = rows(300, wrong=0)
    copies = [scored(n, [1.0, 0.0], id=f"c{n}", text="so so", label="neutral") for n in range(200)]
    labels = ["positive", "negative", "neutral"]
    found = run([[row | {"labels": labels, "scores": [1, 0, 0]} for row in some + copies]])
    assert not {row["id"] for row in copies} & set(found)


def test_labels_that_do_not_follow_from_the_text_are_let_be(capsys):
    assert run([rows(600, wrong=0.5)[0]]) == {}
    assert "cannot be read off the text" in capsys.readouterr().err


def test_the_likelier_label_is_one_that_was_offered():
    some, wrong = rows(600)
    more, _ = rows(300, seed=2)
    other = [
        row | {"id": f"x{row['id']}", "label": "other", "labels": ["positive", "negative", "other"]} for row in more
    ]
    offered = [row | {"labels": ["positive", "negative"]} for row in some]
    found = run([offered + other])
    assert not any("likelier other" in detail for at, detail in found.items() if not at.startswith("x"))
    assert f1({at for at in found if not at.startswith("x")}, wrong) > 0.6


def test_written_texts_and_labels_of_the_shops_own_are_no_concern_of_it():
    some, _ = rows(300, wrong=0.3)
    assert run([[row | {"labels": None} for row in some]]) == {}
    assert run([[row | {"labels": [str(n) for n in range(25)]} for row in some]]) == {}


def test_a_killed_run_that_is_run_again_gives_the_same(tmp_path, ray_session):
    from synthrec import console

    some, wrong = rows(400)
    labels = Folder.open(str(tmp_path / "labels"))
    labels.write_table("0.parquet", table(some[:250], LABEL))
    labels.write_table("1.parquet", table(some[250:], LABEL))

    def curate(out, work):
        known = aids(work=tmp_path / work, labels=labels)
        with console.meter("curate", None, "rows") as meter:
            figures = plan.curate(labels, chosen(("noise", "margin")), known, out, meter)
        return figures, sorted(row["where"] for row in (out / "rejects").read_table(REJECT).to_pylist())

    straight = curate(Folder.open(str(tmp_path / "a")), "w1")
    broken = Folder.open(str(tmp_path / "b"))
    curate(broken, "w2")
    (Folder.open(str(tmp_path / "w2")) / "done").delete()  # as if killed before the part was done
    assert curate(broken, "w2") == straight
    assert f1(straight[1], wrong) > 0.8
    assert straight[0]["sentiment"]["refused"]["suspect_label"] == straight[0]["sentiment"]["steps"][0]["refused"]


KEYS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=200)


@given(pairs=KEYS, order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_folds_are_stratified_keep_copies_together_and_know_no_order(pairs, order):
    def folds(some):
        keys, codes = (np.array([one[at] for one in some], kind) for at, kind in ((0, np.uint64), (1, np.int64)))
        return dict(zip(some, ngrams.stratified(keys, codes).tolist(), strict=True))

    found = folds(pairs)
    mixed = pairs.copy()
    order.shuffle(mixed)
    assert folds(mixed) == found
    assert all(found[a] == found[b] for a in found for b in found if a[0] == b[0])
    of_text = {}
    for key, code in sorted(pairs):
        of_text.setdefault(key, code)
    for label in set(of_text.values()):
        sizes = [sum(found[k, c] == fold for k, c in of_text.items() if c == label) for fold in range(ngrams.FOLDS)]
        assert max(sizes) - min(sizes) <= 1
