"""Shopper queries from products: by which aspects they are asked for, and what an answer means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import LANGUAGES, completion, product, task

from synthrec import schema
from synthrec.tasks import Rejection
from synthrec.tasks.queries import LONGEST_CLAUSE, aspects

unhurried = settings(deadline=None)  # the machine may be busy


def test_english_aspects_are_attributes_and_clauses_long_enough_to_mean_something():
    description = "Boils a litre in two minutes; stays warm all night. Red. It holds 1.5 litres of water!"
    fields = {"title": "Kettle", "attributes": "colour: red; base: 360: swivel", "description": description}
    assert aspects("en", fields) == [
        "colour: red",
        "base: 360: swivel",
        "Boils a litre in two minutes",
        "stays warm all night",
        "It holds 1.5 litres of water!",
    ]


def test_chinese_aspects_are_split_at_chinese_signs_and_take_a_chinese_colon():
    description = "一升水两分钟烧开，夜里也安静。红色！装得下1.5升水；好"
    fields = {"title": "水壶", "attributes": "颜色: 红色; 底座: 360: 旋转", "description": description}
    assert aspects("zh", fields) == [
        "颜色：红色",
        "底座：360: 旋转",
        "一升水两分钟烧开",
        "夜里也安静",
        "装得下1.5升水",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_attributes_or_clauses_the_category_is_the_aspect_and_without_one_the_title(language):
    bare = {"title": "Kettle", "attributes": "", "description": "Red."}
    assert aspects(language, bare | {"category": "Kitchen"}) == ["Kitchen"]
    assert aspects(language, bare) == ["Kettle"]
    assert aspects(language, {"title": "Kettle"}) == ["Kettle"]


def test_aspects_of_a_language_without_rules_are_read_like_english():
    fields = {"title": "Kessel", "attributes": "Farbe: rot", "description": "Kocht einen Liter in zwei Minuten. Rot."}
    assert aspects("de", fields) == ["Farbe: rot", "Kocht einen Liter in zwei Minuten"]


@given(
    language=st.sampled_from(["en", "zh", "de"]),
    fields=st.fixed_dictionaries(
        {"title": st.text(min_size=1)},
        optional={k: st.text() for k in ("attributes", "description", "category")},
    ),
)
@unhurried
def test_there_is_always_an_aspect_and_none_twice(language, fields):
    found = aspects(language, fields)
    assert found
    assert all(found)
    assert len(set(found)) == len(found)
    allowed = [fields["title"], fields.get("category"), fields.get("attributes", "")]
    assert all(len(a) <= max(LONGEST_CLAUSE, *(len(x or "") for x in allowed)) for a in found)


def test_each_sample_of_a_product_is_asked_for_by_another_aspect():
    text, attributes = "Boils a litre in two minutes. Stays warm all night.", "colour: red; lid: glass"
    record = product("k9", "en", "Kettle", text, attributes)
    asked = list(task("queries", per_product=3).requests(record, None))
    assert [ask.sample for ask in asked] == [0, 1, 2]
    assert len({ask.fields["aspect"] for ask in asked}) == 3
    assert {ask.fields["aspect"] for ask in asked} <= set(aspects("en", schema.strings(record["fields"])))
    fewer = list(task("queries", per_product=2).requests(record, None))
    assert fewer == asked[:2]  # asking for more later leaves what is paid for as it was
    # Which aspects are first is the seed's to say, not the shop's order of attributes.
    firsts = {next(task("queries", seed).requests(record, None)).fields["aspect"] for seed in range(12)}
    assert len(firsts) > 1


@pytest.mark.parametrize(
    ("said", "kept"),
    [(" quiet kettle", "quiet kettle"), (' "quiet kettle." ', "quiet kettle"), ("“安静的水壶”", "安静的水壶")],
)
def test_a_written_query_is_a_label_without_the_quotes_around_it(said, kept):
    row = completion("queries", text=said, product_id="k1", product="Kettle", aspect="quiet")
    assert task("queries").parse(row) == {"text": kept, "product_id": "k1", "label": "quiet"}


@pytest.mark.parametrize("said", ["", "  ", ' "" ', "...", "‘’"])
def test_an_answer_that_says_nothing_is_a_rejection(said):
    row = completion("queries", text=said, product_id="k1", product="Kettle", aspect="quiet")
    assert task("queries").parse(row) == Rejection("empty answer")
