"""The index over a large catalogue: what it finds, what a search costs on one thread, its memory, and upserts.

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


def main() -> None:
    given = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    from benchmarks.index.made import made  # libraries read the number of threads when they are loaded

    folder, data = Path(given.run_dir), Path(given.data)
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"benchmark": "index", "machine": machine()}
    result |= made(data, folder, given.products, given.queries)
    console.say("measuring, in a process of its own")
    command = [sys.executable, "-m", "benchmarks.index.measure", str(folder), str(data)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result |= json.loads(told.stdout.splitlines()[-1])
    if given.json:
        print(json.dumps(result))


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
