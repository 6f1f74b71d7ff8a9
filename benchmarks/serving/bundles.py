"""Two versions of a bundle over a large catalogue, with the embedded encoder in int8; kept in the work folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.index import shelf
from synthrec import bundle, console, schema
from synthrec.compression.encoder import load
from synthrec.compression.export import export
from synthrec.config import Serve
from synthrec.live.index import LiveIndex
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.bm25 import BM25


def made(data: Path, count: int, work: Path) -> Path:
    """The folder of bundles `one` and `two`, beside it `plain/`, the encoder as it was trained."""
    root = work / f"bundles-{count}"
    if (root / "two" / bundle.MANIFEST).is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "one"
    (folder / "model").mkdir(parents=True)
    trained = BiEncoder.load("embedded")
    (work / "plain").mkdir(parents=True, exist_ok=True)
    trained.save(work / "plain")
    export(trained, folder / "model")
    catalogue = schema.table(shelf.products(data, count), schema.CATALOGUE).sort_by("product_id")
    texts = catalogue["text"].to_pylist()
    with console.meter("encode", len(texts), "products") as meter:
        vectors = load(folder / "model").encode(texts, tick=meter.advance)
    told = {"name": "benchmark", "system": "hybrid", "weights": {"en": 0.5, "zh": 0.5}, "metrics": {}, "lineage": {}}
    bundle.write(folder, catalogue, vectors, BM25.build(texts), told)
    shutil.copytree(folder, root / "two")
    return root


def recall(folder: Path, queries: list[str], k: int = 10) -> float:
    """Mean share of the exact k nearest that the served index finds."""
    opened = bundle.load(folder)
    index = LiveIndex(opened, Serve().index)
    ids = opened.catalogue["product_id"].to_pylist()
    vectors = load(opened.model).encode(queries, query=True)
    everything = np.asarray(opened.hybrid.vectors)
    shares = []
    for query, vector in zip(queries, vectors, strict=True):
        best = {ids[i] for i in np.argsort(-(everything @ vector), kind="stable")[:k]}
        shares.append(len(best & {one.product_id for one in index.search(query, vector, k, weight=1.0)}) / k)
    return float(np.mean(shares))
