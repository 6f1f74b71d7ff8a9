"""Curated labels in the layouts that other tools read: BEIR, sentence-transformers, plain Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from synthrec import schema
from synthrec.storage import Folder

Rows = list[dict[str, Any]]

PAIR = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("anchor", "positive")])
TRIPLET = pa.schema([*PAIR, pa.field("negative", pa.string(), nullable=False)])


def beir(out: Folder, catalogue: Rows, labels: Rows) -> dict[str, int]:
    """corpus.jsonl, queries.jsonl and qrels/train.tsv (Thakur et al. 2021). A text that is asked twice is one query."""
    queries: dict[str, str] = {}
    judged: dict[tuple[str, str], int] = {}
    for row in labels:
        if row["task"] == "queries":
            judged[queries.setdefault(row["text"], row["id"]), row["product_id"]] = 1
    for row in labels:
        if row["task"] == "relevance" and row["text"] in queries:
            judged.setdefault((queries[row["text"]], row["product_id"]), int(row["label"] in ("E", "S")))
    documents = ({"_id": p["product_id"], "title": p["title"], "text": p["text"]} for p in catalogue)
    _write_lines(out, "corpus.jsonl", map(_json, documents))
    _write_lines(out, "queries.jsonl", (_json({"_id": one, "text": text}) for text, one in queries.items()))
    pairs = (f"{query}\t{product}\t{grade}" for (query, product), grade in sorted(judged.items()))
    _write_lines(out / "qrels", "train.tsv", _headed("query-id\tcorpus-id\tscore", pairs))
    return {"documents": len(catalogue), "queries": len(queries), "judgments": len(judged)}


def pairs(out: Folder, catalogue: Rows, labels: Rows) -> dict[str, int]:
    """pairs.parquet with `anchor` and `positive`, as MultipleNegativesRankingLoss reads it."""
    text = {p["product_id"]: p["text"] for p in catalogue}
    rows = [{"anchor": r["text"], "positive": text[r["product_id"]]} for r in labels if r["task"] == "queries"]
    out.make().write_table("pairs.parquet", pa.Table.from_pylist(rows, schema=PAIR))
    return {"pairs": len(rows)}


def triplets(out: Folder, catalogue: Rows, labels: Rows) -> dict[str, int]:
    """triplets.parquet: each query, its product, and each rival that the LLM scored as not fitting."""
    text = {p["product_id"]: p["text"] for p in catalogue}
    own: dict[str, set[str]] = {}
    for row in labels:
        if row["task"] == "queries":
            own.setdefault(row["text"], set()).add(row["product_id"])
    rows = []
    for row in labels:
        if row["task"] == "relevance" and row["label"] == "I":
            mine = own.get(row["text"], set())
            for product in sorted(mine) if row["product_id"] not in mine else ():
                rows.append({"anchor": row["text"], "positive": text[product], "negative": text[row["product_id"]]})
    out.make().write_table("triplets.parquet", pa.Table.from_pylist(rows, schema=TRIPLET))
    return {"triplets": len(rows)}


def parquet(out: Folder, catalogue: Rows, labels: Rows) -> dict[str, int]:
    """labels.parquet and catalogue.parquet, with the schemas that the stages hand over."""
    out.make().write_table("labels.parquet", schema.table(labels, schema.LABEL))
    out.write_table("catalogue.parquet", schema.table(catalogue, schema.CATALOGUE))
    return {"labels": len(labels), "products": len(catalogue)}


LAYOUTS: dict[str, Callable[[Folder, Rows, Rows], dict[str, int]]] = {
    "beir": beir,
    "pairs": pairs,
    "triplets": triplets,
    "parquet": parquet,
}


def _json(row: dict[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _headed(head: str, lines: Iterator[str]) -> Iterator[str]:
    yield head
    yield from lines


def _write_lines(out: Folder, name: str, lines: Iterator[str]) -> None:
    with out.make().writing(name) as stream:
        for line in lines:
            stream.write(f"{line}\n".encode())
