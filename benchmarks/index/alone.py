"""One index by itself, in a process of its own: `python -m benchmarks.index.alone KIND FOLDER` prints a JSON object.

KIND is `exact` (every vector is compared), `coded` (four-bit codes, then compared), `bm25`, or `live`: all that a
replica holds of a catalogue, asked by meaning alone. FOLDER is a bundle, `queries.npy` and `queries.json` beside it.

`open_s` is what a replica does at its start: codes are learned and made, BM25 is read.

Memory is that of this process once the index has answered, less that before it was opened, when every library had
worked already: `own`, anonymous memory; and `mapped`, the pages of the vectors' file that are in memory, all of which
making codes reads, which the replicas of a node share, and which the system may drop and read again.
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
import pyarrow as pa
from numpy.typing import NDArray

from synthrec import bundle, console
from synthrec.config import Index
from synthrec.live.index import LiveIndex
from synthrec.retrieval import postings
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.postings import Matrix
from synthrec.retrieval.tokens import words
from synthrec.retrieval.vectors import Coded, Exact, top
from synthrec.sources.cleaning import clean

K = 10
SETTINGS = Index(exact=0)  # codes, however small the catalogue
CLOSE = 1e-5  # cosines that differ by less are equal: near-doubles tie, and rounding must not decide
WARM = 50  # searches before any is counted

Floats = NDArray[np.float32]
Search = Callable[[str, Floats], Any]


def main(kind: str, folder: Path) -> None:
    queries = json.loads((folder.parent / "queries.json").read_text(encoding="utf-8"))
    asked = np.load(folder.parent / "queries.npy", allow_pickle=False)
    _libraries()
    before, start = own(), time.perf_counter()
    search = opened(kind, folder)
    result: dict[str, Any] = {"open_s": time.perf_counter() - start}
    result["ms_per_query"] = speed(kind, search, queries, asked)
    result |= {"own_bytes": own() - before, "mapped_bytes": mapped(folder / "vectors.npy")}
    result["recall@10"] = recall(search, np.load(folder / "vectors.npy"), queries, asked)
    print(json.dumps(result))


def opened(kind: str, folder: Path) -> Search:
    """Read, or made, from a bundle as a replica does it. What it returns gives positions, best first."""
    if kind == "bm25":
        held = Matrix.of(BM25.load(folder / "bm25"))
        return lambda query, _: _by_words(held, query)
    if kind == "live":
        index = LiveIndex(bundle.load(folder), SETTINGS)
        return lambda query, vector: [_place(one.product_id) for one in index.search(query, vector, K, weight=1)]
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    made = Exact(vectors) if kind == "exact" else Coded(vectors)
    return lambda _, vector: made.search(vector[None], K)[0][0]


def speed(name: str, search: Search, queries: list[str], vectors: Floats) -> dict[str, float]:
    """By the clock (median, 99th percentile) and in the processor's time (mean), which other work hardly changes."""
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


def recall(search: Search, vectors: Floats, queries: list[str], asked: Floats) -> float:
    """How many of the first ten are as near as the tenth of a comparison with all, of ten.

    Of BM25, which does not look for the nearest, it tells how alike the two rankings are, not how good.
    """
    shares = []
    for query, vector in zip(queries, asked, strict=True):
        cosines = vectors @ vector
        least = top(cosines, K)[1][-1]
        shares.append(float(np.count_nonzero(cosines[search(query, vector)] >= least - CLOSE)) / K)
    return float(np.mean(shares))


def own() -> int:
    """Bytes of anonymous memory; what was freed is given back first."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def mapped(file: Path) -> int:
    """Bytes of a file that are mapped into this process, and in memory."""
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    inside, total = False, 0
    for line in text.splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):  # the head of a mapping: its addresses, and the file's path last
            inside = bool(rest) and rest[-1] == str(file.resolve())
        elif inside and name == "Rss:":
            total += 1024 * int(rest[0])
    return total


def _libraries() -> None:
    """Have all that is measured work once, on little: dictionaries are read, and buffers taken, at first use."""
    words("a red kettle 不锈钢水壶")
    some = np.random.default_rng(0).standard_normal((1_000, 32)).astype(np.float32)
    for made in (Exact(some), Coded(some)):
        made.search(some[:1], K)


def _by_words(held: Matrix, query: str) -> NDArray[np.int64]:
    scores = np.zeros(held.size, np.float32)
    postings.add(scores, words(clean(query)), held)
    places, found = top(scores, K)
    return places[found > 0]


def _place(product_id: str) -> int:
    """`shelf.products` numbers them in order."""
    return int(product_id.removeprefix("p"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
