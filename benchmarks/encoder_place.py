"""Where the encoder is cheapest: in the replica that answers, or in a deployment of its own, asked through a handle.

Both are the endpoint itself behind Ray Serve on this host, with one replica that answers (and, apart, one that
encodes), the same bundle, and eight clients that ask /v1/search with a query each. They take turns; ratios are of one
round. `processor_ms` is what Ray and the replicas together took a request, clients not counted, which other work on
the machine changes less than it changes requests a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.index import shelf
from benchmarks.machine import machine
from benchmarks.serving import bundles, systems
from synthrec import console
from synthrec.compression.encoder import load

PLACES = {"inside": "ray", "apart": "apart"}  # by how benchmarks.serving.serve calls them
CLIENTS, WARM_SECONDS = 8, 3
ALONE = 200  # queries encoded one by one


def main() -> None:
    given = _arguments()
    work = Path(given.work)
    root = bundles.made(Path(given.data), given.products, work)  # makes the folder, too
    queries = shelf.queries(Path(given.data), 2_000)
    result: dict[str, Any] = {"benchmark": "encoder_place", "machine": machine(), "products": given.products}
    result |= {"clients": CLIENTS, "seconds": given.seconds, "encode_one_ms": alone(root / "one", queries)}
    rounds = []
    for number in range(given.rounds):
        order = list(PLACES) if number % 2 == 0 else list(reversed(PLACES))
        rounds.append({place: measured(place, root, work, queries, given.seconds) for place in order})
    result["rounds"] = rounds
    for name in ("rps", "p50_ms", "p99_ms", "processor_ms"):
        result[f"{name}_apart_over_inside"] = statistics.median(
            one["apart"][name] / one["inside"][name] for one in rounds
        )
    if given.json:
        print(json.dumps(result))


def alone(folder: Path, queries: list[str]) -> dict[str, float]:
    """Milliseconds of one query's encoding in this process, on as many threads as the encoder takes."""
    encoder, clock = load(folder / "model"), []
    encoder.encode(queries[:8], query=True)
    began = time.process_time()
    for query in queries[:ALONE]:
        start = time.perf_counter()
        encoder.encode([query], query=True)
        clock.append(1000 * (time.perf_counter() - start))
    return {"p50": statistics.median(clock), "processor": 1000 * (time.process_time() - began) / len(clock)}


def measured(place: str, root: Path, work: Path, queries: list[str], seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies.json"
        bodies.write_text(json.dumps([{"query": query} for query in queries]))
        store = f"sqlite:///{folder}/store.sqlite"
        with systems.ours(PLACES[place], root, store, work / f"{place}.log") as base:
            asked(base, bodies, WARM_SECONDS)
            before = processor()
            found = asked(base, bodies, seconds)
            spent = processor() - before
    if found["failed"] or not found["rps"]:
        raise SystemExit(f"{place}: {found['failed']} requests failed; see {work / place}.log")
    found["processor_ms"] = 1000 * spent / (found["rps"] * seconds)
    console.say(
        f"  {place}: {found['rps']}/s, p50 {found['p50_ms']} ms, {found['processor_ms']:.1f} ms of the processor"
    )
    return found


def asked(base: str, bodies: Path, seconds: float) -> dict[str, float]:
    """The load, in a process of its own, which has ended when this returns."""
    command = [sys.executable, "-m", "benchmarks.serving.load", f"{base}/v1/search", str(bodies)]
    command += ["--clients", str(CLIENTS), "--seconds", str(seconds)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def processor() -> float:
    """Seconds of the processor that the server's processes have taken: all that this one has started and still runs."""
    total = 0.0
    for one in psutil.Process().children(recursive=True):
        try:
            took = one.cpu_times()
        except psutil.Error:
            continue
        total += took.user + took.system
    return total


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder with products.parquet")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument(
        "--work", default="runs/benchmark-serving", help="keeps the bundles, as benchmarks.serving does"
    )
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
