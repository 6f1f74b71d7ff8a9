"""What else a bundle answers with, where the run has it: a reranker, a classifier, past replies, brands."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from synthrec import bundle, console, schema
from synthrec.compression.encoder import Encoder, load
from synthrec.pipeline import Context
from synthrec.recommenders.brands import Brands
from synthrec.recommenders.replies import Replies
from synthrec.retrieval.hybrid import Scores
from synthrec.retrieval.tokens import words
from synthrec.sources.cleaning import clean

TRAINED = {"cross_encoder": "reranker", "classifier": "classifier"}  # recommender -> folder of the bundle


def write(context: Context, catalogue: pa.Table, vectors: Scores, folder: Path) -> dict[str, Any]:
    """Write the parts that the run has into a bundle whose `model` is there; returns what there is of each.

    Args:
        vectors: of the catalogue's products, by that model.
    """
    for name in (*TRAINED.values(), "replies", "brands"):
        shutil.rmtree(folder / name, ignore_errors=True)
    encoder = load(folder / "model")
    found: dict[str, Any] = {}
    for name in context.config.train.models:
        figures = context.manifests[f"train_{name}"]["figures"]
        if figures["trained"]:
            with (context.inputs[f"train_{name}"] / "model").fetched() as model:
                shutil.copytree(model, folder / TRAINED[name], ignore=shutil.ignore_patterns(".*"))
            found[TRAINED[name]] = {key: value for key, value in figures.items() if key not in ("trained", "loss")}
    if count := _replies(context, encoder, folder / "replies"):
        found["replies"] = count
    if context.config.package.brands and (count := _brands(context, catalogue, vectors, encoder, folder / "brands")):
        found["brands"] = count
    if count := _queries(context, folder / bundle.QUERIES):
        found["queries"] = count
    return found


def _replies(context: Context, encoder: Encoder, out: Path) -> int:
    """Returns how many there are."""
    most = context.config.package.max_replies
    if not most:
        return 0
    corpus = context.inputs["prepare"] / "corpus"
    dialogues = corpus.read_table(schema.CORPUS, ["doc_id", "text", "timestamp"], pads.field("kind") == "dialogue")
    found = answers(dialogues.sort_by([("timestamp", "ascending"), ("doc_id", "ascending")]).to_pylist())[-most:]
    if found and context.config.storage.encrypt:
        console.warn("past replies are left out: the run is encrypted, and a bundle is not")
        return 0
    found = [row for row in found if words(clean(row[1]))]  # "??" asks nothing that could be found again
    if found:
        ids, asked, replies = (list(column) for column in zip(*found, strict=True))
        Replies.build(ids, asked, replies, encoder.encode).save(out)
    return len(found)


def answers(dialogues: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(id, what a shopper asked, what the agent replied) of CORPUS rows of dialogues."""
    found = []
    for row in dialogues:
        turns = [line.partition(": ")[::2] for line in row["text"].split("\n")]
        for place, ((role, asked), (next_role, reply)) in enumerate(pairwise(turns)):
            if (role, next_role) == ("shopper", "agent") and asked and reply:
                found.append((f"{row['doc_id']}#{place}", asked, reply))
    return found


def _brands(context: Context, catalogue: pa.Table, vectors: Scores, encoder: Encoder, out: Path) -> int:
    """Returns how many there are. A title's vector is its product's, which is there already."""
    titles: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    names = zip(catalogue["brand"].to_pylist(), catalogue["title"].to_pylist(), vectors, strict=True)
    for brand, title, vector in names:
        if brand:
            titles.setdefault(brand, []).append(title)
            known.setdefault(title, vector)

    def encode(texts: Sequence[str]) -> Scores:
        new = [text for text in texts if text not in known]
        known.update(zip(new, encoder.encode(new) if new else (), strict=True))
        return np.stack([known[text] for text in texts])

    titles = {brand: some for brand, some in titles.items() if words(clean(" ".join([brand, *some])))}
    if titles:
        Brands.build(_profiles(context), titles, encode).save(out)
    return len(titles)


def _queries(context: Context, out: Path) -> int:
    """Returns how many there are."""
    where = pads.field("task") == "queries"
    labels = (context.inputs["curate"] / "labels").read_table(schema.LABEL, ["id", "product_id", "text"], where)
    out.unlink(missing_ok=True)
    if labels.num_rows:
        rows = labels.sort_by("id").select(["product_id", "text"])
        pq.write_table(rows.group_by(["product_id", "text"], use_threads=False).aggregate([]), out, compression="zstd")
    return labels.num_rows


def _profiles(context: Context) -> dict[str, str]:
    """What the LLM wrote of each brand, where it was asked: its sentence, else what it is known for."""
    where = pads.field("task") == "brand"
    labels = (context.inputs["curate"] / "labels").read_table(schema.LABEL, where=where).sort_by("id").to_pylist()
    found: dict[str, str] = {}
    for row in sorted(labels, key=lambda row: row["facet"] != "sentence"):
        found.setdefault(schema.strings(row["fields"])["brand"], row["text"])
    return found
