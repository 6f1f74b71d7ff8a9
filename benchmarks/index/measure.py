"""The live index at its work: `python -m benchmarks.index.measure FOLDER` prints one JSON object.

FOLDER is a bundle, its queries beside it. In a process of its own, on one thread, so that time is the index's alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index.alone import CLOSE, SETTINGS, Floats, K, Search, speed
from synthrec import bundle
from synthrec.bundle import Bundle
from synthrec.compression.encoder import Encoder, load
from synthrec.live.index import LiveIndex
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.vectors import top
from synthrec.sources.documents import product_row
from synthrec.sources.records import Product
from synthrec.stores import Change

FILTERS = Filters(attributes={"colour": ("black", "blue")}, price=(5.0, 40.0))
UPSERTS = 20


def main(folder: Path) -> None:
    queries = json.loads((folder.parent / "queries.json").read_text(encoding="utf-8"))
    vectors = np.load(folder.parent / "queries.npy", allow_pickle=False)
    opened = bundle.load(folder)
    index = LiveIndex(opened, SETTINGS)
    result: dict[str, Any] = {"ms_per_query": speeds(index, queries, vectors)}
    result["filter_lets_through"] = float(np.mean([_passes(row) for row in opened.catalogue.to_pylist()]))
    result["hybrid_agreement"] = agreement(index, opened, queries, vectors)
    result |= upserts(index, load(opened.model), opened)
    print(json.dumps(result))


def speeds(index: LiveIndex, queries: list[str], vectors: Floats) -> dict[str, Any]:
    kinds: dict[str, Search] = {
        "vector": lambda query, vector: index.search(query, vector, K, weight=1),
        "hybrid": lambda query, vector: index.search(query, vector, K),
        "filtered": lambda query, vector: index.search(query, vector, K, FILTERS),
    }
    return {name: speed(name, search, queries, vectors) for name, search in kinds.items()}


def agreement(index: LiveIndex, opened: Bundle, queries: list[str], vectors: Floats) -> float:
    """Share of the first ten of a hybrid search that are among the first ten by `Hybrid.scores`, but for ties."""
    shares = []
    for query, vector in zip(queries, vectors, strict=True):
        places, scores = top(opened.hybrid.scores(query, vector), K)
        want = {opened.catalogue["product_id"][place].as_py() for place in places.tolist()}
        found = index.search(query, vector, K)
        shares.append(sum(one.product_id in want or one.score >= scores[-1] - CLOSE for one in found) / K)
    return float(np.mean(shares))


def upserts(index: LiveIndex, encoder: Encoder, opened: Bundle) -> dict[str, Any]:
    """Seconds from a new product's text to its being found: encoded, applied, searched; then while a snapshot is made.

    The store and HTTP are not in it: `benchmarks.serving` has them.
    """
    quiet = [_found_after(index, encoder, number) for number in range(UPSERTS)]
    taken = np.arange(min(SETTINGS.delta, opened.catalogue.num_rows))
    rows = opened.catalogue.take(taken).to_pylist()
    again = [dict(row, attributes=dict(row["attributes"])) for row in rows]
    changes = [Change(index.revision + 1 + n, row["product_id"], row) for n, row in enumerate(again)]
    start = time.perf_counter()
    index.apply(changes, np.asarray(opened.hybrid.vectors[taken]))
    meanwhile = _found_after(index, encoder, UPSERTS)
    index.settle()
    fold = time.perf_counter() - start
    return {
        "upsert_found_s": {"p50": float(np.median(quiet)), "most": max(quiet), "while_folding": meanwhile},
        "fold_s": fold,
    }


def _found_after(index: LiveIndex, encoder: Encoder, number: int) -> float:
    name = f"new-{number}"
    row = product_row(Product(product_id=name, title=f"Quillon bookend number {number} of walnut", price=9.0))
    start = time.perf_counter()
    vector = encoder.encode([row["text"]])
    index.apply([Change(index.revision + 1, name, row)], vector)
    found = index.search(row["text"], vector[0], K)
    if found[0].product_id != name:
        raise RuntimeError(f"{name} was applied, and {found[0].product_id} was found")
    return time.perf_counter() - start


def _passes(row: dict[str, Any]) -> bool:
    low, high = FILTERS.price
    assert low is not None
    assert high is not None
    return dict(row["attributes"])["colour"] in FILTERS.attributes["colour"] and low <= row["price"] <= high


if __name__ == "__main__":
    main(Path(sys.argv[1]))
