"""Replies and sessions: what is offered to choose from, and what a choice means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import DIALOGUES, PRODUCTS, RECORDS, catalogue, completion, dialogue, product, shop_of, task

from synthrec.tasks import Rejection

unhurried = settings(deadline=None)  # the machine may be busy
LANGUAGE = {i: la for i, la, *_ in PRODUCTS}
TITLE = {i: title for i, _, title, *_ in PRODUCTS}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_of(tmp_path_factory.mktemp("shop"))


# Reply.


def choices(record, shop, **changes):
    return [ask for ask in task("reply", **changes).requests(record, shop) if ask.facet == "choose"]


def said_in(record):
    return {line.partition(": ")[2] for line in record["text"].split("\n") if line.startswith("agent: ")}


def test_the_reply_really_given_is_offered_and_no_other_of_its_dialogue(shop):
    seen = 0
    for record in DIALOGUES:
        others = {said for one in DIALOGUES if one["language"] == record["language"] for said in said_in(one)}
        for ask in choices(record, shop):
            given = ask.fields["given"]
            assert given in said_in(record)
            assert given in ask.options
            assert set(ask.options) - {given} <= others - said_in(record)
            assert 2 <= len(ask.options) <= 4
            seen += 1
    assert seen == len(DIALOGUES) + 1  # the first has two turns that were answered


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_as_many_replies_are_offered_as_wanted_and_there_are(shop, count):
    first = choices(DIALOGUES[0], shop, candidates=count)
    # Another than the one given shares a word with the question: two dialogues speak of kettles.
    assert [len(ask.options) for ask in first[:1]] == ([] if count < 2 else [min(count, 3)])


def test_the_given_reply_does_not_always_stand_first(tmp_path):
    many = [dialogue(n, "en", f"Where is my kettle number {n}?", f"The kettle {n} is coming.") for n in range(12)]
    shop = shop_of(tmp_path, dialogues=many)
    places = {list(ask.options).index(ask.fields["given"]) for one in many for ask in choices(one, shop)}
    assert len(places) > 1


def test_each_turn_of_a_shopper_that_was_answered_is_asked_about_with_what_came_before(shop):
    asked = [ask for ask in task("reply", write=2, turns=3).requests(DIALOGUES[0], shop) if ask.facet == "write"]
    assert [(ask.sources, ask.sample) for ask in asked] == [
        (["dialogue:d1#0"], 0),
        (["dialogue:d1#0"], 1),
        (["dialogue:d1#2"], 0),
        (["dialogue:d1#2"], 1),
    ]
    assert asked[0].fields["dialogue"] == "Shopper: My red kettle leaks."
    assert asked[2].fields["dialogue"] == (
        "Shopper: My red kettle leaks.\nAgent: Sorry, I send a new kettle.\nShopper: And my money?"
    )
    assert (asked[2].fields["asked"], asked[2].fields["given"]) == ("And my money?", "It is back, kettle or not.")
    (last,) = task("reply", write=1, turns=1, candidates=0).requests(DIALOGUES[3], shop)
    assert last.fields["dialogue"] == "顾客：雨衣 太小了"


def test_a_shop_with_one_dialogue_has_nothing_to_choose_from(tmp_path):
    one = shop_of(tmp_path, dialogues=DIALOGUES[:1])
    assert choices(DIALOGUES[0], one) == []
    assert len(list(task("reply").requests(DIALOGUES[0], one))) == 4


def test_a_chosen_reply_says_whether_it_is_the_given_one():
    fields = {"dialogue": "Shopper: Hello", "asked": "Hello", "given": "Hi", "product_id": ""}
    labels = ["Bye", "Hi"]
    for logs, label in (([-0.1, -2.0], "Bye"), ([-2.0, -0.1], "Hi")):
        row = completion("reply", "choose", logprobs=logs, labels=labels, prior=[-0.7, -0.7], **fields)
        found = task("reply").parse(row)
        assert (found["text"], found["label"], found["product_id"]) == ("Hello", label, None)
        assert found["fields"]["is_the_given"] == str(label == "Hi").lower()
    # A reply that is likely whatever was asked does not win by that.
    row = completion("reply", "choose", logprobs=[-0.5, -0.9], labels=labels, prior=[-0.1, -2.3], **fields)
    assert task("reply").parse(row)["label"] == "Hi"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "too short"),
        ("Yes!", "too short"),
        ("Where is my KETTLE", "copy of the question"),
        ("It comes today", None),
    ],
)
def test_a_written_reply_says_something_of_its_own(said, reason):
    fields = {"dialogue": "Shopper: Where is my kettle?", "asked": "Where is my kettle?", "given": "Here"}
    found = task("reply").parse(completion("reply", "write", text=f" {said}", **fields, product_id="k1"))
    if reason:
        assert found == Rejection(reason, said)
    else:
        kept = {"dialogue": fields["dialogue"], "given": "Here"}
        assert found == {"text": said, "product_id": "k1", "label": "written", "fields": kept}


# Session.


@pytest.mark.parametrize("candidates", [2, 3, 5])
def test_a_session_offers_other_products_of_the_catalogue_in_the_same_language(shop, candidates):
    seen = 0
    for own in PRODUCTS:
        for ask in task("session", candidates=candidates).requests(product(*own[:3]), shop):
            doc_id, *offered = ask.sources
            assert doc_id == f"product:{own[0]}"
            assert offered == list(ask.options)
            assert own[0] not in offered
            assert {LANGUAGE[i] for i in offered} == {own[1]}
            assert ask.options == {i: TITLE[i] for i in offered}
            assert 2 <= len(offered) <= candidates
            # One is of another category: if such ones win, the choice is no good.
            category = {i: one for i, _, _, _, _, one, _ in PRODUCTS}
            assert any(category[i] != own[5] for i in offered)
            seen += 1
    assert seen


def test_a_session_keeps_to_its_language_though_another_names_the_same_things(tmp_path):
    same = [
        row | {"product_id": f"z{n}", "language": "zh", "title": f"{n}号水壶"} for n, row in enumerate(catalogue()[:3])
    ]
    (ask,) = task("session").requests(RECORDS["session", "en"], shop_of(tmp_path, [*catalogue(), *same]))
    assert {LANGUAGE.get(one) for one in ask.options} == {"en"}
    assert len(ask.options) > 1


def test_a_session_offers_no_title_twice_nor_the_product_s_own(tmp_path):
    (kettle, *_), more = catalogue(), catalogue()[1:]
    doubles = [kettle | {"product_id": i} for i in ("a1", "a2")] + [more[0] | {"product_id": "b1"}]
    shop = shop_of(tmp_path, [kettle, *more, *doubles])
    (ask,) = task("session").requests(RECORDS["session", "en"], shop)
    words = list(ask.options.values())
    assert kettle["title"] not in words
    assert len(set(words)) == len(words) > 1


def test_a_product_that_is_not_in_the_catalogue_or_is_alone_gives_no_session(tmp_path, shop):
    assert list(task("session").requests(product("gone", "en", "Tarrow Red Kettle"), shop)) == []
    alone = shop_of(tmp_path, catalogue()[:2])
    assert list(task("session").requests(RECORDS["session", "en"], alone)) == []


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=2, max_size=6), st.integers(1, 4))
@unhurried
def test_a_session_is_the_product_and_what_it_makes_likeliest_in_order(logs, length):
    labels = [f"k{n}" for n in range(2, 2 + len(logs))]
    values = {"logprobs": [x for x, _ in logs], "prior": [p for _, p in logs], "labels": labels}
    row = completion("session", product="Kettle", product_id="k1", **values)
    found = task("session", length=length).parse(row)
    first, *following = json.loads(found["fields"]["session"])
    assert first == found["product_id"] == "k1"
    assert len(following) == len(set(following)) == min(length, len(logs))
    gain = {label: x - p for label, (x, p) in zip(labels, logs, strict=True)}
    gains = [gain[one] for one in following]
    assert gains == pytest.approx(sorted(gain.values(), reverse=True)[: len(following)], abs=1e-6)
    assert gain[found["label"]] == pytest.approx(gains[0], abs=1e-6)
