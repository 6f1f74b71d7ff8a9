"""What a search costs and finds: `python -m benchmarks.index.measure FOLDER DATA` prints one JSON object.

In a process of its own, on one thread, so that memory and time are the index's alone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index import shelf
from synthrec import bundle, console
from synthrec.bundle import Bundle
from synthrec.compression.encoder import Encoder, load
from synthrec.config import Index
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.live import LiveIndex
from synthrec.retrieval.vectors import Exact, top
from synthrec.sources.documents import product_row
from synthrec.sources.records import Product
from synthrec.stores import Change

K = 10
SETTINGS = Index(exact=0)  # codes, however small the catalogue
FILTERS = Filters(attributes={"colour": ("black", "blue")}, price=(5.0, 40.0))
WARM = 50  # searches before any is counted
UPSERTS = 20
CLOSE = 1e-5  # cosines that differ by less are equal: near-doubles tie, and rounding must not decide

Floats = NDArray[np.float32]
Search = Callable[[str, Floats], object]


def main(folder: Path, data: Path) -> None:
    vectors = np.load(folder / "queries.npy", allow_pickle=False)
    queries = shelf.queries(data, len(vectors))
    before = resident()
    opened = bundle.load(folder / "bundle")
    start = time.perf_counter()
    index = LiveIndex(opened, SETTINGS)
    result: dict[str, Any] = {"build_s": time.perf_counter() - start}
    console.say(f"    built in {result['build_s']:.1f}s")
    result["ms_per_query"] = speeds(index, queries, vectors)
    held = {name: (size - before[name]) / index.size for name, size in resident().items()}
    result["resident_bytes_per_product"] = held | {"all": sum(held.values())}
    result["filter_lets_through"] = float(np.mean([_passes(row) for row in opened.catalogue.to_pylist()]))
    result["index_recall"] = recall(index, opened, queries, vectors)
    result["hybrid_agreement"] = agreement(index, opened, queries, vectors)
    result |= upserts(index, load(opened.model), opened)
    print(json.dumps(result))


def resident() -> dict[str, int]:
    """Bytes of this process in memory: its own, and pages of files, which the system may drop.

    What was freed is given back first. Libraries' own, of some megabytes, tell only of a small catalogue.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    names = {"RssAnon": "own", "RssFile": "mapped"}
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[key].split()[0]) * 1024 for key, name in names.items()}


def speeds(index: LiveIndex, queries: list[str], vectors: Floats) -> dict[str, Any]:
    """By the clock (median, 99th percentile) and in the processor's time (mean), which other work hardly changes."""
    kinds: dict[str, Search] = {
        "vector": lambda query, vector: index.search(query, vector, K, weight=1),
        "hybrid": lambda query, vector: index.search(query, vector, K),
        "filtered": lambda query, vector: index.search(query, vector, K, FILTERS),
    }
    return {name: _speed(name, search, queries, vectors) for name, search in kinds.items()}


def _speed(name: str, search: Search, queries: list[str], vectors: Floats) -> dict[str, float]:
    pairs = list(zip(queries, vectors, strict=True))
    for query, vector in pairs[:WARM]:
        search(query, vector)
    clock, began = [], time.process_time()
    for query, vector in pairs:
        start = time.perf_counter()
        search(query, vector)
        clock.append(1000 * (time.perf_counter() - start))
    processor = 1000 * (time.process_time() - began) / len(pairs)
    console.say(f"    {name}: {processor:.2f} ms of the processor a query")
    return {"p50": float(np.median(clock)), "p99": float(np.percentile(clock, 99)), "processor": processor}


def recall(index: LiveIndex, opened: Bundle, queries: list[str], vectors: Floats) -> float:
    """Share of the first ten that are as near as the tenth of a comparison with all."""
    exact, shares = Exact(np.asarray(opened.hybrid.vectors)), []
    for query, vector in zip(queries, vectors, strict=True):
        least = exact.search(vector[None], K)[1][0, -1]
        found = index.search(query, vector, K, weight=1)
        shares.append(sum(one.score >= least - CLOSE for one in found) / K)
    return float(np.mean(shares))


def agreement(index: LiveIndex, opened: Bundle, queries: list[str], vectors: Floats) -> float:
    """Share of the first ten of a hybrid search that are among the first ten by `Hybrid.scores`, ties as above."""
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
    main(Path(sys.argv[1]), Path(sys.argv[2]))
