"""Typed answers: what a schema allows is read as it was written, all else is refused with its reason."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.tasks import Rejection
from synthrec.tasks.typed import Typed, flat

unhurried = settings(deadline=None)  # the machine may be busy

FACTS = Typed({"what": "string", "tags": "strings", "size": "number", "count": "integer", "new": "boolean"})
GOOD = {"what": "coat", "tags": ["dry", "warm"], "size": 1.5, "count": 2, "new": True}

VALUES = {
    "string": st.text(min_size=1, max_size=80),
    "strings": st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=4),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "integer": st.integers(-(2**60), 2**60),
    "boolean": st.booleans(),
}
NAMES = st.text(st.sampled_from("ab_ 品") | st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1) | (
    st.sampled_from(["title", "schema", "copy", "_x", "model_config", "model_fields", "for", "json", "f0", "f1"])
)
KINDS = st.sampled_from(sorted(VALUES)) | st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True)
FIELDS = st.dictionaries(NAMES, KINDS, min_size=1, max_size=5)


def drawn(data, fields):
    return {
        name: data.draw(VALUES[kind] if isinstance(kind, str) else st.sampled_from(kind))
        for name, kind in fields.items()
    }


@given(fields=FIELDS, data=st.data())
@unhurried
def test_what_the_schema_allows_is_read_as_it_was_written(fields, data):
    typed, answer = Typed(fields), drawn(data, fields)
    jsonschema.validate(answer, json.loads(typed.schema))
    assert typed.read(f" {json.dumps(answer, ensure_ascii=data.draw(st.booleans()))}\n") == answer
    told = flat(answer)
    assert all(isinstance(value, str) for value in told.values())
    assert {k: v if isinstance(answer[k], str) else json.loads(v) for k, v in told.items()} == answer


@given(fields=FIELDS, data=st.data())
@unhurried
def test_a_field_too_few_or_too_many_is_refused_by_both(fields, data):
    typed, answer = Typed(fields), drawn(data, fields)
    gone = data.draw(st.sampled_from(sorted(fields)))
    for wrong in ({k: v for k, v in answer.items() if k != gone}, answer | {gone + "+": 1}):
        if wrong.keys() == fields.keys():
            continue
        found = typed.read(json.dumps(wrong))
        assert isinstance(found, Rejection)
        assert found.reason == "not of the schema"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json.loads(typed.schema))


@given(st.text(max_size=40) | st.sampled_from(["{", "[]", "null", "3", '{"what": 1}', "\ud800", "NaN", "{}{}"]))
@unhurried
def test_any_text_is_an_answer_or_refused(text):
    found = FACTS.read(text)
    assert isinstance(found, Rejection)
    assert found.reason in ("not JSON", "not of the schema")
    assert found.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("what", ""),
        ("what", "x" * 81),
        ("what", 3),
        ("what", None),
        ("tags", []),
        ("tags", "dry"),
        ("tags", ["a", "b", "c", "d", "e"]),
        ("tags", [""]),
        ("size", "big"),
        ("size", float("nan")),  # JSON has none, but Python writes and reads it
        ("size", float("inf")),
        ("count", 1.5),
        ("new", "perhaps"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(name, value):
    assert FACTS.read(json.dumps(GOOD)) == GOOD
    found = FACTS.read(json.dumps(GOOD | {name: value}))
    assert isinstance(found, Rejection)
    assert found.reason == "not of the schema"
    assert found.detail.startswith(name)


def test_only_the_values_allowed_are_read():
    typed = Typed({"for": ["adults", "children"]})
    assert typed.read('{"for": "adults"}') == {"for": "adults"}
    found = typed.read('{"for": "animals"}')
    assert isinstance(found, Rejection)
    assert found.detail.startswith("for: ")


def test_the_schema_says_no_more_than_engines_need():
    """Titles say nothing, and some grammars do not know them; a field that is called title stays."""
    told = json.loads(Typed({"title": "string", "n": "integer"}).schema)
    assert told["required"] == ["title", "n"]
    assert list(told["properties"]) == ["title", "n"]  # in this order the LLM writes them
    assert told["additionalProperties"] is False
    assert "title" not in told
    assert all("title" not in one for one in told["properties"].values())
