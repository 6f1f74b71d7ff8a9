"""Pairs that the bi-encoder learns from: a query and its product, the hard negatives beside it, a teacher's scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from synthrec import schema
from synthrec.config import Train
from synthrec.curation import negatives
from synthrec.curation.clean import tidy
from synthrec.retrieval.bm25 import BM25
from synthrec.storage import Folder
from synthrec.tasks.relevance import relevant

if TYPE_CHECKING:
    from synthrec.recommenders.bi_encoder import BiEncoder
    from synthrec.recommenders.cross_encoder import CrossEncoder

PAIR = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("query", "product", "group")])
HITS = 50  # of BM25, that hard negatives are taken from
Rows = list[dict[str, Any]]


def training_pairs(config: Train, prepared: Folder, labels: Rows) -> pa.Table:
    """PAIR rows: synthesised query -> product text; and each product's title -> the rest of its text."""
    products = (prepared / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
    text = {p["product_id"]: p["text"] for p in products}
    rows = [
        {"query": r["text"], "product": text[r["product_id"]], "group": r["product_id"]}
        for r in sorted(labels, key=lambda r: str(r["id"]))
        if r["task"] == "queries" and r["product_id"] in text
    ]
    if config.text_pairs:
        for p in products:
            rest = p["text"].removeprefix(p["title"]).strip(" .")
            if rest:
                rows.append({"query": p["title"], "product": rest, "group": p["product_id"]})
    return pa.Table.from_pylist(rows, schema=PAIR)


def with_negatives(
    pairs: pa.Table, texts: dict[str, str], labels: Rows, encoder: BiEncoder, count: int, margin: float
) -> pa.Table:
    """The pairs with `negatives`, texts, and `negative_groups`, ids: `count` products each, hardest first.

    What the LLM scored as fitting the query is none. Where fewer are found the pair's own product fills up, which is
    no negative of the pair: what is left of the catalogue is too near to the query to be taken for one.

    Args:
        texts: product id -> text, of the whole catalogue.
        labels: LABEL rows; those of the task `relevance` are read.
        encoder: as it is before training.
    """
    places = {product: place for place, product in enumerate(texts)}
    own: dict[str, list[int]] = {}
    for query, group in zip(pairs["query"].to_pylist(), pairs["group"].to_pylist(), strict=True):
        own.setdefault(query, []).append(places[group])
    index = BM25.build(list(texts.values()))
    mined = negatives.mine(
        encoder.encode(list(own), query=True),
        encoder.encode(list(texts.values())),
        list(own.values()),
        count,
        margin,
        _hits(index, list(own)),
        _fitting(list(own), places, labels),
    )
    ids = list(texts)
    rows = {q: [ids[place] for place in some if place >= 0] for q, some in zip(own, mined.negatives, strict=True)}
    both = zip(pairs["query"].to_pylist(), pairs["group"].to_pylist(), strict=True)
    groups = [[*rows[query], *[group] * (count - len(rows[query]))] for query, group in both]
    strings = pa.list_(pa.string())
    pairs = pairs.append_column("negatives", pa.array([[texts[one] for one in some] for some in groups], strings))
    return pairs.append_column("negative_groups", pa.array(groups, strings))


def with_teacher(pairs: pa.Table, teacher: CrossEncoder) -> pa.Table:
    """Pairs that have negatives, with `teacher`: a cross-encoder's scores of the product and of each negative."""
    rows = pairs.select(["query", "product", "negatives"]).to_pylist()
    asked = [(row["query"], text) for row in rows for text in (row["product"], *row["negatives"])]
    scores = teacher.scores(asked).reshape(len(rows), -1)
    return pairs.append_column("teacher", pa.array(list(scores), pa.list_(pa.float32())))


def _hits(index: BM25, queries: Sequence[str]) -> csr_matrix:
    """(queries, products), the scores of the first HITS of each."""
    rows, columns, values = [], [], []
    for row, query in enumerate(queries):
        scores = index.scores(query)
        for place in np.argsort(-scores, kind="stable")[:HITS]:
            if scores[place] > 0:
                rows.append(row)
                columns.append(int(place))
                values.append(float(scores[place]))
    return csr_matrix((values, (rows, columns)), shape=(len(queries), index.size))


def _fitting(queries: Sequence[str], places: dict[str, int], labels: Rows) -> csr_matrix:
    """(queries, products), the LLM's probability that a product fits, where it was asked."""
    numbers = {tidy(query): number for number, query in enumerate(queries)}
    found = {
        (numbers[tidy(row["text"])], places[row["product_id"]]): relevant(row["scores"])
        for row in labels
        if row["task"] == "relevance" and tidy(row["text"]) in numbers and row["product_id"] in places
    }
    rows, columns = zip(*found, strict=True) if found else ((), ())
    return csr_matrix((list(found.values()), (rows, columns)), shape=(len(queries), len(places)))
