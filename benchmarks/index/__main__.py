"""The index over a large catalogue: what it finds, what a search costs on one thread, its memory, and upserts.

Four-bit codes with rescoring, a comparison with all, BM25, and the live index that is made of them each run in a
process of their own, over the whole catalogue and over half of it: memory a million products is the slope between the
two, so that what an empty index and its libraries take is not multiplied. `alone.py` says what is counted. What an
index owns is known to some 0.1 MB: a comparison with all owns nothing, and its slope tells the noise.

The office set holds 3,459 products with titles. The others, up to `--products`, are variants of these
(benchmarks/index/shelf.py): near-doubles, which are harder to tell apart than as many different products. Products
and queries are encoded by the encoder that is packaged by default. Vectors are kept in `--run-dir`, a file for each
thousand, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from synthrec import console

NOISE = 100_000  # bytes by which anonymous memory of two equal processes may differ
KINDS = ("coded", "exact", "bm25", "live")  # of alone.py


def main() -> None:
    given = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    from benchmarks.index import made  # libraries read the number of threads when they are loaded

    folder, data = Path(given.run_dir), Path(given.data)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = given.products // 2, given.products
    _, whole = (made.made(data, folder, size) for size in sizes)
    made.ask(data, folder, given.queries)
    result: dict[str, Any] = {"benchmark": "index", "machine": machine(), **whole, "queries": given.queries}
    small, large = (str(made.place(folder, size)) for size in sizes)
    result["memory_at"] = sizes
    result["indexes"] = {
        kind: _grown(sizes, _told("alone", kind, small), _told("alone", kind, large)) for kind in KINDS
    }
    result |= _told("measure", large)
    if given.json:
        print(json.dumps(result))


def _told(name: str, *given: str) -> dict[str, Any]:
    """What a module of this benchmark prints, in a process of its own."""
    console.say(f"measuring: {name} {' '.join(given)}")
    command = [sys.executable, "-m", f"benchmarks.index.{name}", *given]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(told.stdout.splitlines()[-1]))


def _grown(sizes: tuple[int, int], half: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Figures of the whole; memory at both sizes, and its growth: bytes a product, which is MB a million."""
    memory: dict[str, Any] = {}
    for name in ("own", "mapped"):
        memory[f"{name}_bytes"] = at = half[f"{name}_bytes"], whole.pop(f"{name}_bytes")
        memory[f"{name}_mb_per_million"] = (at[1] - at[0]) / (sizes[1] - sizes[0])
    memory["uncertain_mb_per_million"] = NOISE / (sizes[1] - sizes[0])
    return whole | {"memory": memory}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.index", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="../shared/data/amazon_office", help="folder with products.parquet")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--run-dir", default="runs/benchmark-index", help="where vectors and the bundle are kept")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
