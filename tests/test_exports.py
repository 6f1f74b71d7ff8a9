"""Exports, read back by the formats' own rules."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest

from synthrec import exports, schema
from synthrec.storage import Folder

CATALOGUE = [
    {"product_id": i, "language": "en", "title": f"Pan {i}", "text": f"Pan {i}, steel. With\ttab"}
    for i in ("a", "b", "c", "d", "e")
]


def label(number, task, text, product, name=""):
    row = {"id": f"{number:032x}", "request_id": "r", "task": task, "language": "en", "text": text, "model": "m"}
    return row | {"product_id": product, "label": name, "facet": "", "prompt": "p"}


LABELS = [
    label(1, "queries", "egg pan", "a"),
    label(2, "queries", "egg pan", "b"),  # two products were asked for with the same words
    label(3, "queries", "平底锅", "c"),
    label(4, "relevance", "egg pan", "a", "E"),
    label(5, "relevance", "egg pan", "b", "I"),  # its own product: no negative
    label(6, "relevance", "egg pan", "c", "I"),
    label(7, "relevance", "a query that was refused", "c", "I"),
    label(9, "relevance", "egg pan", "d", "S"),  # answers the query too
    label(10, "relevance", "egg pan", "e", "C"),  # goes with it: no answer, and too near for a negative
    label(8, "sentiment", "Nice pan", "a", "positive"),
]


@pytest.fixture
def out(tmp_path):
    return Folder.open(str(tmp_path / "out"))


def lines(out, name):
    return [json.loads(line) for line in out.read_bytes(name).decode().splitlines()]


def test_beir_is_three_files_that_name_each_other(out):
    counts = exports.beir(out, CATALOGUE, LABELS)
    corpus, queries = lines(out, "corpus.jsonl"), lines(out, "queries.jsonl")
    head, *rows = csv.reader(out.read_bytes("qrels/train.tsv").decode().splitlines(), delimiter="\t")
    assert head == ["query-id", "corpus-id", "score"]
    assert [row["_id"] for row in corpus] == ["a", "b", "c", "d", "e"]
    assert {row["text"] for row in queries} == {"egg pan", "平底锅"}
    name = {row["_id"]: row["text"] for row in queries}
    judged = {(name[query], product): int(score) for query, product, score in rows}
    grades = {"a": 1, "b": 1, "c": 0, "d": 1, "e": 0}
    assert judged == {("egg pan", product): grade for product, grade in grades.items()} | {("平底锅", "c"): 1}
    assert counts == {"documents": 5, "queries": 2, "judgments": 6}


def test_pairs_and_triplets(out):
    assert exports.pairs(out, CATALOGUE, LABELS) == {"pairs": 3}
    rows = pq.read_table(f"{out.path}/pairs.parquet").to_pylist()
    assert rows[0] == {"anchor": "egg pan", "positive": CATALOGUE[0]["text"]}
    assert exports.triplets(out, CATALOGUE, LABELS) == {"triplets": 2}
    rows = pq.read_table(f"{out.path}/triplets.parquet").to_pylist()
    assert {(row["positive"][:5], row["negative"][:5]) for row in rows} == {("Pan a", "Pan c"), ("Pan b", "Pan c")}


def test_triplets_stand_in_the_order_that_losses_read(out):
    """The loss reads columns by their order: an anchor, its positive, its negative."""
    exports.triplets(out, CATALOGUE, LABELS)
    assert pq.read_schema(f"{out.path}/triplets.parquet").names == ["anchor", "positive", "negative"]


def test_parquet_keeps_the_declared_schemas(out):
    exports.parquet(out, CATALOGUE, LABELS)
    assert pq.read_schema(f"{out.path}/labels.parquet").equals(schema.LABEL)
    assert pq.read_table(f"{out.path}/catalogue.parquet").num_rows == 5
