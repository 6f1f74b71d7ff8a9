"""Part `faults`: each kind of process killed in turn, under eight clients that search and two that write."""

from __future__ import annotations

import random
import time
from typing import Any

import psutil

from benchmarks.serving.bench import CLIENTS, Bench
from benchmarks.serving.load import Row, p
from benchmarks.serving.systems import Endpoint, answers
from benchmarks.serving.writing import Writers, lost
from synthrec import console

SETTINGS: dict[str, Any] = {"replicas": (2, 2), "encoder": "apart", "encoder_replicas": (2, 2), "cpus": 0.25}
WINDOW = 10.0  # seconds from a kill on in which failures are counted
LEAD = 5.0  # seconds of load before a kill
PATIENCE = 120.0  # seconds for what was killed to be there again


def measured(bench: Bench) -> dict[str, Any]:
    """Two replicas of each deployment, the encoder apart. A request that fails is not asked again."""
    kinds: dict[str, Any] = {}
    with bench.endpoint(**SETTINGS) as endpoint:
        with Writers(endpoint) as writers:
            for kind in sorted(endpoint.processes()):
                kinds[kind] = _killed(bench, endpoint, kind)
                console.say(f"  {kind}: {kinds[kind]['error_rate']:.2%} failed")
        gone = lost(endpoint, writers)
    # A deployment has other replicas; what Ray has one of on a node has not.
    spared = [one["error_rate"] for one in kinds.values() if one["of"] > 1]
    return {
        "kinds": kinds,
        "error_rate": max(one["error_rate"] for one in kinds.values()),
        "error_rate_replicas": max(spared),
        "writes": writers.told(),
        "writes_lost": gone["events"] + gone["products"],
        "lost": gone,
    }


def _killed(bench: Bench, endpoint: Endpoint, kind: str) -> dict[str, Any]:
    """SIGKILL to one of a kind, at a random moment; then until it is there again."""
    there = endpoint.processes()[kind]
    with bench.meanwhile(endpoint.url, LEAD + 1 + WINDOW, CLIENTS) as load:
        time.sleep(LEAD + random.random())  # noqa: S311
        there[0].kill()
        killed = time.time()
        back = _back(endpoint, kind, there, killed)
        rows = load.result()
    return {"of": len(there), "back_seconds": back, **around(rows, killed)}


def around(rows: list[Row], killed: float) -> dict[str, Any]:
    """Of requests that were under way at the kill or began within the window after it."""
    mine = [row for row in rows if row.start + row.seconds >= killed and row.start < killed + WINDOW]
    failed = [row for row in mine if row.status != 200]
    return {
        "requests": len(mine),
        "failed": len(failed),
        "error_rate": len(failed) / len(mine) if mine else 1.0,
        "last_failure_seconds": round(max(row.start for row in failed) - killed, 2) if failed else None,
        "p99_ms": p([row for row in mine if row.status == 200], 99),
    }


def _back(endpoint: Endpoint, kind: str, before: list[psutil.Process], killed: float) -> float | None:
    """Seconds until there are as many again and the endpoint answers; None: not for as long as this waits."""
    while time.time() < killed + PATIENCE:
        now = endpoint.processes().get(kind, [])
        if len(now) >= len(before) and before[0] not in now and answers(f"{endpoint.url}/readyz"):
            return round(time.time() - killed, 2)
        time.sleep(0.5)
    return None
