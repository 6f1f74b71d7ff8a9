"""Ids say what made a row: they change with all that shapes it, and with nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import LANGUAGES, MODEL, RECORDS, SETTINGS, review, shop_of, task

from synthrec import schema
from synthrec.config import OwnTask
from synthrec.synthesis import requests
from synthrec.tasks import TASKS
from synthrec.tasks.own import own_task

EACH = pytest.mark.parametrize(("name", "language"), [(n, la) for n in SETTINGS for la in LANGUAGES])
unhurried = settings(deadline=None)  # the machine may be busy


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_of(tmp_path_factory.mktemp("shop"))


def ids_of(one, record, shop, model=MODEL):
    return [row["id"] for row in requests.of_record(one, record, shop, model)]


CHANGES = {  # settings that shape an answer
    "queries": ({"temperature": 0.8}, {"top_p": 0.5}, {"max_tokens": 21}),
    "profile": ({"temperature": 0.8}, {"max_tokens": 21}),
    "brand": ({"temperature": 0.8}, {"max_tokens": 21}),
    "reply": ({"temperature": 0.8}, {"max_tokens": 21}),
}
RETOLD = {  # the same record with other words in it
    "queries": lambda r: r | {"fields": [(k, v + "!" if k == "title" else v) for k, v in r["fields"]]},
    "relevance": lambda r: r | {"text": r["text"] + "!"},
    "sentiment": lambda r: r | {"text": r["text"] + "!"},
    "intent": lambda r: r | {"fields": [(k, v.replace('"]', '!"]')) for k, v in r["fields"]]},
    "profile": lambda r: r | {"fields": [(k, v.replace('"]', '!"]')) for k, v in r["fields"]]},
    "brand": lambda r: r | {"fields": [(k, v + "!" if k == "brand" else v) for k, v in r["fields"]]},
    "reply": lambda r: r | {"text": r["text"].replace("shopper: ", "shopper: Hm ")},
    "session": None,  # its words are the catalogue's
}


@EACH
def test_request_ids_change_with_all_that_shapes_an_answer(shop, monkeypatch, name, language):
    record = RECORDS[name, language]
    base = ids_of(task(name), record, shop)
    assert len(set(base)) == len(base) > 0
    assert ids_of(task(name), record, shop) == base
    changed = {
        "model": ids_of(task(name), record, shop, "llamacpp:other.gguf"),
        "seed": ids_of(task(name, seed=14), record, shop),
    }
    reworded = task(name)
    reworded.templates = {key: text + " " for key, text in reworded.templates.items()}
    changed["prompt"] = ids_of(reworded, record, shop)
    if name not in ("intent", "brand", "session"):  # these go by the searches' and the products' ids
        key = "doc_id" if "doc_id" in record else "id"
        changed["record"] = ids_of(task(name), record | {key: "another"}, shop)
    for setting in CHANGES.get(name, ()):
        changed[str(setting)] = ids_of(task(name, **setting), record, shop)
    if RETOLD[name]:
        changed["text"] = ids_of(task(name), RETOLD[name](record), shop)
    with monkeypatch.context() as patch:
        patch.setattr(TASKS[name], "version", TASKS[name].version + 1)
        changed["version"] = ids_of(task(name), record, shop)
    for what, found in changed.items():
        assert found, what
        assert not set(found) & set(base), what


@EACH
def test_request_ids_do_not_change_with_anything_else(shop, name, language):
    record = RECORDS[name, language]
    base = ids_of(task(name), record, shop)
    assert ids_of(task(name), record | {"timestamp": "2025-01-01", "kind": "other"}, shop) == base
    limit = next(key for key in type(SETTINGS[name]).model_fields if key.startswith("max_") and key != "max_tokens")
    assert task(name, **{limit: 1}).limit == 1
    assert ids_of(task(name, **{limit: 1}), record, shop) == base
    reworded = task(name)  # the prompt in the other language is none of its business
    other = "zh" if language == "en" else "en"
    reworded.templates = {(f, la): "{text}" if la == other else text for (f, la), text in reworded.templates.items()}
    assert ids_of(reworded, record, shop) == base
    # Asking for more leaves what is paid for as it was.
    more = {"queries": {"per_product": 50}, "relevance": {"candidates": 3}, "reply": {"write": 5}}.get(name, {})
    assert set(base) <= set(ids_of(task(name, **more), record, shop))


@EACH
def test_one_question_s_prompt_is_none_of_another_s_business(shop, name, language):
    one = task(name)
    for facet in {facet for facet, _ in one.templates}:
        reworded = task(name)
        reworded.templates = reworded.templates | {(facet, language): "Something else: {text}"}
        rows = [list(requests.of_record(t, RECORDS[name, language], shop, MODEL)) for t in (one, reworded)]
        for before, after in zip(*rows, strict=True):
            assert (before["id"] == after["id"]) == (before["prompt"] == after["prompt"]) == (before["facet"] != facet)
        assert one.identity() != reworded.identity()


def test_the_options_are_part_of_a_request_s_id():
    def ids(labels):
        one = own_task("mine", OwnTask(reads="review", prompt={"en": "{text}"}, labels=labels), 13)
        return ids_of(one, review(1, "en", "Fine"), None)

    every = [ids(labels) for labels in (["a", "b"], ["b", "a"], ["a", "c"], {"en": ["a", "b"]}, ["a", "b", "c"])]
    assert every[0] == every[3]  # the same labels by the same words
    assert len({tuple(one) for one in every}) == 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_choices_stand_as_words_do_in_their_language(shop, language):
    rows = list(requests.of_record(task("sentiment"), RECORDS["sentiment", language], shop, MODEL))
    assert [row["facet"] for row in rows] == ["", "aspect"]
    assert rows[0]["labels"] == ["positive", "negative"]
    assert rows[0]["choices"] == {"en": [" good", " bad"], "zh": ["好", "差"]}[language]


PARTS = st.lists(st.text("ab|\0茶", max_size=4), max_size=5)


@given(one=PARTS, other=PARTS)
@unhurried
def test_row_ids_tell_parts_apart(one, other):
    assert (schema.row_id(*one) == schema.row_id(*other)) == (one == other)


@given(parts=st.lists(st.text(max_size=6), min_size=2, max_size=5), sign=st.sampled_from("|,:/ \n\t\0\x1f"))
@unhurried
def test_no_sign_in_a_part_is_taken_for_its_end(parts, sign):
    assert schema.row_id(*parts) != schema.row_id(sign.join(parts))


@given(parts=st.lists(st.text(max_size=6), min_size=2, max_size=5), cut=st.data())
@unhurried
def test_row_ids_know_where_one_part_ends(parts, cut):
    whole = "".join(parts)
    bounds = sorted(cut.draw(st.lists(st.integers(0, len(whole)), min_size=len(parts) - 1, max_size=len(parts) - 1)))
    again = [whole[a:b] for a, b in zip([0, *bounds], [*bounds, len(whole)], strict=True)]
    assert (schema.row_id(*parts) == schema.row_id(*again)) == (parts == again)
    assert re.fullmatch(r"[0-9a-f]{32}", schema.row_id(*parts))
