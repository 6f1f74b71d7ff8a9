"""Requests a second of /v1/search (hybrid) over a large catalogue, behind Ray Serve and under bare uvicorn, beside
infinity-emb, which only embeds the same queries with the same weights; and what a swap of the bundle costs under load.

All take turns on this machine, the client in a process of its own. The peer is `infinity_emb` of an environment of its
own (`--infinity`); without it the figures against it are null.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.index import shelf
from benchmarks.machine import machine
from benchmarks.serving import bundles, systems
from benchmarks.serving.load import told
from synthrec import console

PATHS = {"ray": "/v1/search", "uvicorn": "/v1/search", "infinity": "/embeddings"}


def main() -> None:
    given = _arguments()
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    root = bundles.made(Path(given.data), given.products, work)
    queries = shelf.queries(Path(given.data), 2000)
    result: dict[str, Any] = {"benchmark": "serving", "machine": machine(), "products": given.products}
    result["index_recall"] = bundles.recall(root / "one", queries[:200])
    rounds: list[dict[str, Any]] = []
    for number in range(given.rounds):
        console.say(f"round {number + 1} of {given.rounds}")
        rounds.append({name: _measured(name, root, work, queries, given) for name in _systems(given)})
    result["rounds"] = rounds
    result["swap"] = _swapped(root, work, queries, given)
    result["swap_failed"] = result["swap"]["failed"]
    most = str(max(given.clients))
    result["over_uvicorn"] = _ratio(rounds, "ray", "uvicorn", most)
    result["rps_over_infinity"] = _ratio(rounds, "ray", "infinity", most) if given.infinity else None
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with products.parquet")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--work", default="runs/benchmark-serving", help="keeps the bundles, which take minutes")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; medians are told")
    parser.add_argument("--infinity", default="", help="the command infinity_emb of another environment")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def _systems(given: argparse.Namespace) -> list[str]:
    return ["ray", "uvicorn", *(["infinity"] if given.infinity else [])]


def _measured(name: str, root: Path, work: Path, queries: list[str], given: argparse.Namespace) -> dict[str, Any]:
    log = work / f"{name}.log"
    with tempfile.TemporaryDirectory() as folder:
        if name == "infinity":
            bodies: list[Any] = [{"model": str(work / "plain"), "input": [query]} for query in queries]
            started = systems.infinity(Path(given.infinity), work / "plain", log)
        else:
            bodies = [{"query": query} for query in queries]
            started = systems.ours(name, root, f"sqlite:///{folder}/store.sqlite", log)
        with started as base:
            _load(base + PATHS[name], bodies, max(given.clients), 5, folder)  # warm
            found = {str(n): _load(base + PATHS[name], bodies, n, given.seconds, folder) for n in given.clients}
    console.say(f"  {name}: " + ", ".join(f"{n} clients {one['rps']}/s" for n, one in found.items()))
    return found


def _load(url: str, bodies: list[Any], clients: int, seconds: float, folder: str, *more: str) -> Any:
    path = Path(folder) / "bodies.json"
    path.write_text(json.dumps(bodies))
    command = [sys.executable, "-m", "benchmarks.serving.load", url, str(path)]
    command += ["--clients", str(clients), "--seconds", str(seconds), *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def _swapped(root: Path, work: Path, queries: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Eight clients; in the middle the bundle is swapped. Waits before it and while it loads."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = [{"query": query} for query in queries]
        with systems.ours("ray", root, f"sqlite:///{folder}/store.sqlite", work / "ray.log") as base:
            _load(base + "/v1/search", bodies, 8, 5, folder)
            seconds = max(30.0, 3 * given.seconds)
            rows: list[tuple[float, float, int]] = []
            thread = threading.Thread(
                target=lambda: rows.extend(_load(base + "/v1/search", bodies, 8, seconds, folder, "--rows"))
            )
            thread.start()
            time.sleep(seconds / 3)
            begun = time.time()
            httpx.post(f"{base}/v1/admin/bundle", json={"version": "two"}, timeout=600).raise_for_status()
            ended = time.time()
            thread.join()
    before = told([row for row in rows if row[0] < begun], seconds / 3)
    during = told([row for row in rows if begun <= row[0] <= ended], ended - begun)
    ratio = during["p99_ms"] / before["p99_ms"] if during["p99_ms"] and before["p99_ms"] else None
    failed = sum(status != 200 for _, _, status in rows)
    took = round(ended - begun, 2)
    return {"failed": failed, "seconds": took, "before": before, "during": during, "p99_ratio": ratio}


def _ratio(rounds: list[dict[str, Any]], ours: str, theirs: str, clients: str) -> float:
    """Median over the rounds: what is compared ran within minutes of each other."""
    return statistics.median(one[ours][clients]["rps"] / one[theirs][clients]["rps"] for one in rounds)


if __name__ == "__main__":
    main()
