"""What encryption at rest costs: MB/s of a Parquet file written, read whole, and read by one column, plain and sealed.

Plain and sealed take turns, in changing order, so that other work on the machine slows both; the median is
given. The file is in the page cache: a disk would hide some of the cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.machine import machine
from synthrec.storage import Folder

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("text", pa.string()), pa.field("n", pa.int64())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    given = parser.parse_args()
    os.environ["SYNTHREC_BENCHMARK_KEY"] = os.urandom(32).hex()
    with tempfile.TemporaryDirectory() as where:
        result = {"benchmark": "sealed", "machine": machine(), "rows": given.rows, **measured(where, given)}
    for name, one in result["figures"].items():
        print(f"{name}: plain {one['plain']:.0f} MB/s, sealed {one['sealed']:.0f} MB/s, {one['ratio']:.2f} of it")
    if given.json:
        print(json.dumps(result))


def measured(where: str, given: argparse.Namespace) -> dict[str, Any]:
    words = np.random.default_rng(13).integers(0, 30_000, (given.rows, 20))
    texts = [" ".join(map(str, row)) for row in words.tolist()]
    table = pa.table({"id": [f"{i:032x}" for i in range(given.rows)], "text": texts, "n": range(given.rows)}, SCHEMA)
    folders = {
        "plain": Folder.open(f"{where}/plain"),
        "sealed": Folder.open(f"{where}/sealed", "env:SYNTHREC_BENCHMARK_KEY"),
    }
    work: dict[str, Callable[[Folder], Any]] = {
        "write": lambda folder: folder.write_table("t.parquet", table),
        "read": lambda folder: folder.read_table(SCHEMA),
        "read a column": lambda folder: folder.read_table(SCHEMA, ["n"]),
    }
    took: dict[tuple[str, str], list[float]] = {}
    for number in range(given.rounds):
        for name, do in work.items():
            for kind, folder in list(folders.items())[:: 1 if number % 2 else -1]:  # who follows whom changes
                start = time.perf_counter()
                do(folder)
                took.setdefault((name, kind), []).append(time.perf_counter() - start)
    size = folders["plain"].describe()[0]["bytes"] / 1e6
    figures = {}
    for name in work:
        speed = {kind: size / statistics.median(took[name, kind]) for kind in folders}
        figures[name] = speed | {"ratio": speed["sealed"] / speed["plain"]}
    return {"megabytes": size, "figures": figures}


if __name__ == "__main__":
    main()
