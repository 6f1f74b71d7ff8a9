"""Steps on single labels and their company: usable texts, margins, second opinions, balance."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import aids, query, scored, whole

from synthrec import schema
from synthrec.curation import agreement
from synthrec.errors import UserError
from synthrec.storage import Folder

unhurried = settings(deadline=None)  # the machine may be busy


def reason(step, row, **wanted):
    _, refused = whole(step, [row], aids(**wanted))
    return refused[0][1] if refused else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quiet kettle for two", None),
        ("résumé folder 1.5 × 2", None),
        ("红色防水雨衣", None),
        ("sorry board game", None),
        ("here comes the sun poster", None),
        ("n/a", "boilerplate"),
        ("i'm sorry, but i cannot write that", "refusal"),
        ("As an AI language model, I like kettles", "refusal"),
        ("抱歉，我无法提供这个", "refusal"),
        ("作为一个人工智能，我推荐水壶", "refusal"),
        ("Sure, a red kettle", "boilerplate"),
        ("Here is a query for you: red kettle", "boilerplate"),
        ("query: red kettle", "boilerplate"),
        ("好的，红色水壶", "boilerplate"),
        ("搜索词：红色水壶", "boilerplate"),
        ("kettle by [brand]", "boilerplate"),
        ("{title} kettle", "boilerplate"),
        ("cafÃ© pan", "broken encoding"),
        ("pan \ufffd lid", "broken encoding"),
        ("锟斤拷水壶", "broken encoding"),
        ("classic knife", None),
        ("class knife set", "forbidden word"),
        ("高仿包包", "forbidden word"),
    ],
)
def test_written_texts_of_no_use_are_refused(text, expected):
    row = query(text) | {"labels": None}
    assert reason("usable", row, forbidden=["class", "高仿"]) == expected
    # The same words in a shop's own text, which a label was chosen for, are no fault of the label.
    assert reason("usable", scored(1, [1.0, 0.0], text=text), forbidden=["class", "高仿"]) is None


def test_an_agent_may_be_sorry():
    row = query("I'm sorry, but I cannot find your parcel") | {"labels": None}
    assert reason("usable", row) == "refusal"
    assert reason("usable", row | {"task": "reply"}) is None
    assert reason("usable", row | {"task": "reply", "text": "As an AI I have no parcel"}) == "refusal"


@pytest.mark.parametrize(("scores", "expected"), [([0.55, 0.45], "uncertain"), ([0.6, 0.4], None), ([1.0], None)])
def test_a_label_that_is_hardly_ahead_is_refused(scores, expected):
    row = scored(1, [0.0, 0.0]) | {"scores": scores}
    assert reason("margin", row, min_margin=0.15) == expected
    assert reason("margin", query("red kettle") | {"scores": None}) is None


def test_labels_that_a_second_opinion_gives_otherwise_are_refused(tmp_path):
    rows = [scored(n, [1.0, 0.0]) | {"sources": [f"review:{n}"]} for n in range(4)]
    others = [
        row | {"task": "second", "label": label} for row, label in zip(rows, ["positive", "negative"], strict=False)
    ]
    others.append(scored(3, [0.0, 1.0]) | {"sources": ["review:3"]})  # the same task's label is no second opinion
    labels = Folder.open(str(tmp_path / "labels"))
    labels.write_table("x.parquet", schema.table(others, schema.LABEL))
    for labels_of_this_run, where in ((labels, "second"), (None, f"{labels}:second")):
        known = aids(labels=labels_of_this_run, second={"sentiment": where}, steps=("agreement",))
        kept, refused = whole("agreement", rows, known)
        assert [row["id"] for row in kept] == ["s000", "s002", "s003"]
        assert refused[0][1:] == ("two opinions differ", "positive, and the other says negative")
    assert agreement.opinions([rows], aids()) == {}


def test_a_second_opinion_is_calibrated_as_the_first_is(tmp_path):
    """It calls everything positive, as small models do: only what is left without its lean can contradict."""
    rows = [scored(n, [1.0, 0.0]) | {"sources": [f"review:{n}"]} for n in range(12)]
    leaning = [0.9, 0.6, 0.8, 0.95] * 3
    others = [row | {"task": "second", "scores": [score, 1 - score]} for row, score in zip(rows, leaning, strict=True)]
    others.append(query("a text has no lean") | {"task": "second"})
    labels = Folder.open(str(tmp_path))
    labels.write_table("x.parquet", schema.table(others, schema.LABEL))

    def refused(*steps):
        known = aids(labels=labels, second={"sentiment": "second"}, steps=steps)
        return [row["id"] for row, _, _ in whole("agreement", rows, known)[1]]

    assert refused("agreement") == []
    assert refused("agreement", "calibrate") == []
    assert refused("calibrate", "agreement") == ["s001", "s002", "s005", "s006", "s009", "s010"]


@given(counts=st.tuples(st.integers(1, 60), st.integers(1, 60)), most=st.floats(1, 4))
@unhurried
def test_no_label_is_much_more_frequent_than_the_rarest(counts, most):
    rows = [scored(n, [1.0, 0.0]) for n in range(counts[0])] + [scored(100 + n, [0.0, 1.0]) for n in range(counts[1])]
    kept, refused = whole("balance", rows, aids(max_imbalance=most))
    assert sorted(row["id"] for row in rows) == sorted([r["id"] for r in kept] + [r["id"] for r, _, _ in refused])
    found = Counter(row["label"] for row in kept)
    rarest = min(rows, key=lambda row: Counter(r["label"] for r in rows)[row["label"]])["label"]
    assert found[rarest] == min(counts)  # of the rarest none is lost
    if max(counts) <= most * min(counts):
        assert refused == []


def test_a_second_opinion_that_is_not_there_agrees_with_nothing(tmp_path):
    labels = Folder.open(str(tmp_path))
    labels.write_table("x.parquet", schema.table([scored(1, [1.0, 0.0])], schema.LABEL))
    rows = [scored(n, [1.0, 0.0]) for n in range(3)]
    for second in ("sentiment_bb", f"{tmp_path}/gone:sentiment"):
        with pytest.raises(UserError, match=r"curate\.second\.sentiment"):
            whole("agreement", rows, aids(labels=labels, second={"sentiment": second}, steps=("agreement",)))


def test_balance_does_not_ask_in_which_order_labels_were_offered():
    dice = random.Random(3)

    def row(number, label):
        labels = dice.sample(["c0", "c1", "c2", "c3"], 4)
        return scored(number, [0.0] * 4) | {"labels": labels, "label": label, "facet": "category"}

    rows = [row(n, "c0") for n in range(500)] + [row(1000 + n, "c1") for n in range(10)]
    kept, _ = whole("balance", rows, aids(max_imbalance=5))
    assert Counter(one["label"] for one in kept) == {"c0": pytest.approx(50, abs=25), "c1": 10}


def test_balance_keeps_about_what_was_asked_for():
    rows = [scored(n, [1.0, 0.0], id=f"a{n}") for n in range(2000)]
    rows += [scored(n, [0.0, 1.0], id=f"b{n}") for n in range(100)]
    kept, _ = whole("balance", rows, aids(max_imbalance=3))
    assert Counter(row["label"] for row in kept)["positive"] == pytest.approx(300, abs=60)
    written = [query("red kettle", number=n) | {"labels": None} for n in range(5)]
    assert whole("balance", written, aids())[1] == []
