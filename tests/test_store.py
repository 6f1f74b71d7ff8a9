"""The example shop in examples/store keeps its promises: sizes, references, planted personal data, a clean test set."""

import csv
import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stdnum import luhn
from stdnum.cn import ric

STORE = Path(__file__).parents[1] / "examples" / "store"
GRADES = "ESCI"


def jsonl(name):
    return [json.loads(line) for line in (STORE / name).read_text(encoding="utf-8").splitlines()]


class Store:
    def __init__(self):
        self.products = jsonl("products.jsonl")
        self.searches = jsonl("searches.jsonl")
        self.dialogues = jsonl("dialogues.jsonl")
        self.judgments = jsonl("judgments.jsonl")
        self.key = jsonl("pii_key.jsonl")
        with (STORE / "reviews.csv").open(encoding="utf-8", newline="") as file:
            self.reviews = list(csv.DictReader(file))
        self.table = pq.read_table(STORE / "interactions.parquet")
        self.interactions = self.table.to_pylist()
        self.language = {row["product_id"]: row["language"] for row in self.products}
        self.texts = {  # file -> id of the row -> its texts
            "reviews.csv": {row["review_id"]: [row["text"]] for row in self.reviews},
            "searches.jsonl": {row["search_id"]: [row["query"]] for row in self.searches},
            "dialogues.jsonl": {row["dialogue_id"]: [t["text"] for t in row["turns"]] for row in self.dialogues},
        }


@pytest.fixture(scope="module")
def store():
    return Store()


def when(row):
    return datetime.fromisoformat(row["timestamp"])


def test_sizes(store):
    assert len(store.products) >= 240
    assert len({row["brand"] for row in store.products}) >= 25
    assert len(store.reviews) >= 800
    assert len(store.searches) >= 600
    assert len(store.dialogues) >= 40
    assert len(store.judgments) >= 80
    assert 6000 <= len(store.interactions) <= 9000
    shoppers = Counter(row["user_id"] for row in store.interactions)
    assert len(shoppers) >= 300
    assert min(shoppers.values()) >= 5
    for language in ("en", "zh"):
        categories = Counter(row["category"] for row in store.products if row["language"] == language)
        assert sum(count >= 10 for count in categories.values()) >= 8


def test_languages_are_balanced(store):
    for rows in (store.products, store.reviews, store.searches, store.dialogues, store.judgments):
        counts = Counter(row["language"] for row in rows)
        assert set(counts) == {"en", "zh"}
        assert 0.45 <= counts["en"] / len(rows) <= 0.55


def test_ids_and_texts_are_unique(store):
    for rows, name in (
        (store.products, "product_id"),
        (store.reviews, "review_id"),
        (store.searches, "search_id"),
        (store.dialogues, "dialogue_id"),
        (store.judgments, "query_id"),
        (store.products, "title"),
        (store.products, "description"),
        (store.reviews, "text"),
        (store.judgments, "query"),
    ):
        assert max(Counter(row[name] for row in rows).values()) == 1, name
    assert len({(row["user_id"], row["product_id"]) for row in store.reviews}) == len(store.reviews)


def test_references_exist_and_share_the_language(store):
    """A shopper has one language, and everything this shopper touches is in it."""
    touched = [(row["product_id"], row["language"], row["user_id"]) for row in store.reviews]
    touched += [(i, row["language"], row["user_id"]) for row in store.searches for i in row["clicks"]]
    touched += [(row["product_id"], row["language"], row["user_id"]) for row in store.dialogues if row["product_id"]]
    for product, language, _ in touched:
        assert store.language[product] == language, product
    languages = defaultdict(set)
    for rows in (store.reviews, store.searches, store.dialogues):
        for row in rows:
            languages[row["user_id"]].add(row["language"])
    for row in store.interactions:
        languages[row["user_id"]].add(store.language[row["product_id"]])
    assert all(len(found) == 1 for found in languages.values())
    assert set(languages) == {row["user_id"] for row in store.interactions}


def test_judgments(store):
    for row in store.judgments:
        graded = [product for grade in GRADES for product in row[grade]]
        assert row["E"], row
        assert len(graded) == len(set(graded)), row
        assert {store.language[product] for product in graded} == {row["language"]}, row


def test_no_judged_query_is_in_the_search_log(store):
    judged = {row["query"].strip().casefold() for row in store.judgments}
    assert not judged & {row["query"].strip().casefold() for row in store.searches}


def test_interactions_make_sense(store):
    assert store.table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    times = [row["timestamp"] for row in store.interactions]
    assert times == sorted(times)
    assert {row["event"] for row in store.interactions} == {"view", "cart", "purchase"}
    first = {}
    for row in store.interactions:
        first.setdefault((row["user_id"], row["product_id"], row["event"]), row["timestamp"])
    for (user, product, event), time in first.items():
        before = {"cart": "view", "purchase": "cart"}.get(event)
        assert before is None or first[user, product, before] < time, (user, product, event)
    for row in store.reviews:
        assert first[row["user_id"], row["product_id"], "purchase"] < when(row), row["review_id"]


def test_clicks_are_views(store):
    views = defaultdict(list)
    for row in store.interactions:
        if row["event"] == "view":
            views[row["user_id"], row["product_id"]].append(row["timestamp"])
    for row in store.searches:
        for product in row["clicks"]:
            seen = [time - when(row) for time in views[row["user_id"], product]]
            assert any(timedelta() < after < timedelta(hours=1) for after in seen), row


def test_every_planted_item_stands_in_its_row(store):
    for item in store.key:
        assert any(item["value"] in text for text in store.texts[item["file"]][item["id"]]), item
    assert max(Counter(item["value"] for item in store.key).values()) == 1


def test_planted_kinds(store):
    kinds = {"address", "bank_card", "email", "order_no", "phone"}
    named = [*store.reviews, *store.searches, *store.dialogues]
    chinese = {next(iter(row.values())) for row in named if row["language"] == "zh"}  # the id comes first
    counts = Counter((item["kind"], item["id"] in chinese) for item in store.key)
    assert set(counts) == {(kind, zh) for kind in kinds for zh in (True, False)} | {("resident_id", True)}
    assert min(counts.values()) >= 10
    for item in store.key:
        if item["kind"] == "resident_id":
            ric.validate(item["value"].replace(" ", ""))
        if item["kind"] == "bank_card":
            luhn.validate(item["value"].replace(" ", "").replace("-", ""))
        if item["kind"] == "email":
            assert item["value"].lower().endswith((".example", "example.com", "example.org", "example.net")), item


def test_no_marker_is_left():
    for path in STORE.iterdir():
        if path.suffix in (".jsonl", ".csv"):
            assert "{{" not in path.read_text(encoding="utf-8"), path.name
