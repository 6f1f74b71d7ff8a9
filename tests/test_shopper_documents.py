"""Documents of shoppers and brands: the same however the shop's files are cut, and usable by every task."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from conftest import TEST_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import MODEL, SETTINGS, document, task

from synthrec import schema
from synthrec.privacy import Pseudonymiser
from synthrec.sources import documents, groups, records
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.tasks import Shop

unhurried = settings(deadline=None, max_examples=25)  # the machine may be busy
START = datetime(2025, 1, 1, tzinfo=UTC)
TABLES = {"corpus": schema.CORPUS, "interactions": schema.INTERACTIONS, "catalogue": schema.CATALOGUE}


def search(number, text="red kettle", user="u-1", day=0, language="en"):
    time = None if day is None else START + timedelta(days=day)
    return "corpus", document("search", f"s{number}", language, text, user_id=user, timestamp=time)


def review(number, text="Boils fast", user="u-1", day=0, language="en"):
    made = document("review", f"r{number}", language, text, user_id=user, timestamp=START + timedelta(days=day))
    return "corpus", made | {"product_id": "k1"}


def event(product_id, user="u-1", day=0, kind="purchase"):
    time = START + timedelta(days=day)
    return "interactions", {"user_id": user, "product_id": product_id, "event": kind, "timestamp": time}


def product(number, brand="Tarrow", category="Kitchen", language="en"):
    made = {"product_id": f"k{number}", "language": language, "title": f"Pan {number}", "text": f"Pan {number}"}
    return "catalogue", made | {"brand": brand, "category": category}


def grouped(parts, count=1):
    """doc_id -> CORPUS row that parts of (table, row) pairs give, through so many buckets."""
    with tempfile.TemporaryDirectory() as folder:
        out, buckets = Folder.open(f"{folder}/out"), Folder.open(f"{folder}/buckets")
        for number, part in enumerate(parts):
            for table, kind in TABLES.items():
                rows = [row for name, row in part if name == table]
                if rows:
                    (out / table).write_table(f"part{number}.parquet", schema.table(rows, kind))
        given = set((out / "corpus").files())
        for number in range(len(parts)):
            for _ in range(2):  # as Ray may do, when a worker dies
                groups.scatter({"part": f"part{number}"}, out, buckets, count)
        told = Counter()
        for number in range(count):
            told.update(json.loads(groups.gather({"bucket": f"{number:05d}"}, out, buckets)["kinds"]))
        made = [pq.read_table(f"{out}/corpus/{name}") for name in set((out / "corpus").files()) - given]
        assert all(table.schema.equals(schema.CORPUS) for table in made)
        rows = [row for table in made for row in table.to_pylist()]
        assert Counter(row["kind"] for row in rows) == told
    found = {row["doc_id"]: row for row in rows}
    assert len(found) == len(rows)  # a shopper is in one bucket
    return found


def history(row):
    return {key: json.loads(value) for key, value in schema.strings(row["fields"]).items()}


# Shoppers.


def test_a_shopper_is_all_that_was_searched_bought_and_said_in_order_of_time():
    parts = [
        [search(2, "blue kettle", day=5), event("k2", day=2), review(1, "Loud", day=4), event("k3", kind="view")],
        [
            search(1, "red kettle", day=1),
            event("k1", day=1),
            review(2, "Boils fast", day=3),
            search(3, day=2, user="x"),
        ],
    ]
    found = grouped(parts)
    assert set(found) == {"shopper:u-1", "shopper:x"}
    row = found["shopper:u-1"]
    assert (row["kind"], row["user_id"], row["language"]) == ("shopper", "u-1", "en")
    assert row["timestamp"] == START + timedelta(days=5)
    assert history(row) == {
        "searches": [["search:s1", "red kettle"], ["search:s2", "blue kettle"]],
        "purchases": ["k1", "k2"],
        "reviews": [["review:r2", "k1", "Boils fast"], ["review:r1", "k1", "Loud"]],
    }
    assert row["text"].split("\n") == ["red kettle", "blue kettle", "Boils fast", "Loud"]


def test_a_search_of_nobody_is_a_history_of_its_own_and_a_review_of_nobody_none():
    found = grouped([[search(1, user=None), search(2, "coat", user=None, day=None), review(1, user=None)]])
    assert {one: history(row)["searches"] for one, row in found.items()} == {
        "shopper:search:s1": [["search:s1", "red kettle"]],
        "shopper:search:s2": [["search:s2", "coat"]],
    }
    assert {row["user_id"] for row in found.values()} == {None}


def test_of_each_kind_the_latest_are_kept():
    assert groups.LATEST == 50
    rows = [search(n, f"query {n}", day=n) for n in range(70)] + [event(f"k{n}", day=n) for n in range(51)]
    rows += [review(n, f"text {n}", day=n) for n in range(3)]
    rows += [search(100, "of no time", day=None)]  # older than all others, for all we know
    (row,) = grouped([rows[::-1]]).values()
    found = history(row)
    assert [text for _, text in found["searches"]] == [f"query {n}" for n in range(20, 70)]
    assert found["purchases"] == [f"k{n}" for n in range(1, 51)]
    assert len(found["reviews"]) == 3


@pytest.mark.parametrize(
    ("rows", "language"),
    [
        ([search(1), search(2, language="zh"), review(1, language="zh")], "zh"),
        ([search(1, language="zh"), search(2)], "en"),  # as many of each: the first of the alphabet
        ([event("k1")], "en"),
    ],
)
def test_a_shopper_s_language_is_that_of_most_texts(rows, language):
    (row,) = grouped([rows]).values()
    assert row["language"] == language


def test_what_was_bought_at_one_moment_stands_in_one_order_whatever_the_files():
    rows = [event(one) for one in ("k3", "k1", "k2")]
    first, turned, apart = (grouped(parts) for parts in ([rows], [rows[::-1]], [[row] for row in rows]))
    assert first == turned == apart
    assert history(first["shopper:u-1"])["purchases"] == ["k1", "k2", "k3"]


# Brands.


def test_a_brand_is_its_products_in_one_language():
    rows = [product(2), product(1, category="Dining"), product(3), product(4, "塔柔", "厨房", "zh")]
    rows += [product(5, "塔柔", "茶具", "zh"), product(6, "Tarrow", "Kitchen", "zh"), product(7, None)]
    found = grouped([rows])
    assert set(found) == {"brand:en:Tarrow", "brand:zh:塔柔", "brand:zh:Tarrow"}
    english, chinese = found["brand:en:Tarrow"], found["brand:zh:塔柔"]
    assert (english["kind"], english["language"], english["text"]) == ("brand", "en", "Tarrow")
    assert schema.strings(english["fields"]) == {
        "brand": "Tarrow",
        "categories": "Dining, Kitchen",
        "products": '["k1", "k2", "k3"]',
    }
    assert schema.strings(chinese["fields"])["categories"] == "厨房、茶具"


# However the files are cut.

USERS = st.sampled_from(["u-1", "u-2", "u-3"])
DAYS = st.integers(0, 3)
ROWS = st.lists(
    st.builds(search, st.integers(0, 99), user=USERS | st.none(), day=DAYS | st.none())
    | st.builds(review, st.integers(0, 99), user=USERS | st.none(), day=DAYS)
    | st.builds(event, st.sampled_from(["k1", "k2", "k3"]), USERS, DAYS, st.sampled_from(["purchase", "view"]))
    | st.builds(product, st.integers(0, 99), st.sampled_from(["Tarrow", "Oakrun", None])),
    max_size=16,
    unique_by=lambda pair: pair[1].get("doc_id") or json.dumps(pair[1], default=str, sort_keys=True),
)


@given(rows=ROWS, data=st.data())
@unhurried
def test_neither_parts_nor_their_order_nor_buckets_change_a_document(rows, data):
    expected = grouped([rows])
    turned = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    assert grouped([turned[:cut], turned[cut:]], data.draw(st.integers(2, 5))) == expected
    events = [row for _, row in rows if row.get("kind") in ("search", "review") and row["user_id"]]
    buyers = {row["user_id"] for _, row in rows if row.get("event") == "purchase"}
    nobody = sum(row.get("kind") == "search" and row["user_id"] is None for _, row in rows)
    shoppers = [row for row in expected.values() if row["kind"] == "shopper"]
    assert len(shoppers) == len({row["user_id"] for row in events} | buyers) + nobody


# The example store, as prepare publishes it.


@pytest.fixture(scope="module")
def published(store, tmp_path_factory):
    """The fictional shop's folder of prepare, made without Ray."""
    out = Folder.open(str(tmp_path_factory.mktemp("store") / "out"))
    hide = Pseudonymiser(TEST_KEY.encode(), ("email", "phone"))
    raw = {
        n: [json.loads(line) for line in (store / f"{n}.jsonl").open()] for n in ("products", "dialogues", "searches")
    }
    with (store / "reviews.csv").open(encoding="utf-8", newline="") as file:
        raw["reviews"] = list(csv.DictReader(file))
    raw["interactions"] = pq.read_table(store / "interactions.parquet").to_pylist()
    for kind, rows in raw.items():
        model, tables = records.KINDS[kind], {name: [] for name in TABLES}
        for row in rows:
            known = {key: row[key] for key in model.model_fields if key in row}
            for table, value in documents.rows(model.model_validate(known), hide, Counter()):
                tables[table].append(value)
        for table, values in tables.items():
            if values:
                (out / table).write_table(f"{kind}.parquet", schema.table(values, TABLES[table]))
        groups.scatter({"part": kind}, out, out / "buckets", 3)
    for number in range(3):
        groups.gather({"bucket": f"{number:05d}"}, out, out / "buckets")
    return out


@pytest.mark.parametrize("name", [n for n in SETTINGS if n != "relevance"])
def test_every_task_asks_well_of_all_the_store_s_records(published, name):
    one, shop = task(name), Shop(published)
    corpus = published / "corpus"
    rows, asked = [], Counter()
    for file in corpus.files(".parquet"):
        for batch in requests.batches(corpus, file, one, None):
            for record in batch:
                made = list(requests.of_record(one, record, shop, MODEL))
                asked[record["language"], bool(made)] += 1
                rows += made
    assert len({row["id"] for row in rows}) == len(rows)  # no question is asked twice
    assert asked["en", True] > 3
    assert asked["zh", True] > 3
    assert {(row["facet"], row["language"]) for row in rows} == set(one.templates)
    for row in rows:
        prompt = one.render(row["language"], row["facet"], row["fields"])
        assert len(prompt) < 2500  # with its answer well within engine.context
        if row["choices"] is not None:
            assert 2 <= len(row["choices"]) == len(row["labels"]) == len(set(row["labels"]))
            assert all(word.strip() for word in row["choices"])
    assert schema.table(rows, schema.REQUEST).schema.equals(schema.REQUEST)
