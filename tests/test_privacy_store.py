"""The recognisers against the personal data planted in the fictional store."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest

from synthrec.privacy import KINDS, Pseudonymiser
from synthrec.privacy.recognisers import find
from synthrec.sources.cleaning import clean


@pytest.fixture(scope="module")
def texts(store):
    """(file, id) -> the row's texts."""

    def rows(name):
        return [json.loads(line) for line in (store / name).read_text(encoding="utf-8").splitlines()]

    with (store / "reviews.csv").open(encoding="utf-8", newline="") as file:
        found = {("reviews.csv", row["review_id"]): [row["text"]] for row in csv.DictReader(file)}
    found |= {("searches.jsonl", row["search_id"]): [row["query"]] for row in rows("searches.jsonl")}
    turns = {row["dialogue_id"]: [turn["text"] for turn in row["turns"]] for row in rows("dialogues.jsonl")}
    return found | {("dialogues.jsonl", name): said for name, said in turns.items()}


@pytest.fixture(scope="module")
def planted(store):
    return [json.loads(line) for line in (store / "pii_key.jsonl").read_text(encoding="utf-8").splitlines()]


def test_planted_personal_data_is_gone(texts, planted):
    hide = Pseudonymiser(b"a key for the tests, and no other")
    left, all_of = Counter(), Counter(item["kind"] for item in planted)
    for item in planted:
        hidden = " ".join(hide.text(clean(text))[0] for text in texts[item["file"], item["id"]])
        left[item["kind"]] += clean(item["value"]) in hidden
    assert set(all_of) <= set(KINDS)
    assert left.total() == 0


def test_nothing_else_is_taken_for_personal_data(texts, planted):
    values: dict[tuple[str, str], list[str]] = {}
    for item in planted:
        values.setdefault((item["file"], item["id"]), []).append(clean(item["value"]))
    wrong = [
        (where, span)
        for where, said in texts.items()
        for text in said
        for span in find(clean(text))
        if not any(span.text in value or value in span.text for value in values.get(where, []))
    ]
    assert wrong == []
