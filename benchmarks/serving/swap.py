"""Part `swap`: eight clients, and in the middle the bundle is swapped."""

from __future__ import annotations

import time
from typing import Any

import httpx

from benchmarks.serving.bench import Bench
from benchmarks.serving.load import told


def measured(bench: Bench) -> dict[str, Any]:
    """Requests that failed, and waits before the swap and while the other bundle is loaded."""
    seconds = max(30.0, 3 * bench.seconds)
    with bench.endpoint() as endpoint, bench.meanwhile(endpoint.url, seconds) as load:
        time.sleep(seconds / 3)
        begun = time.time()
        swap = httpx.post(f"{endpoint.url}/v1/admin/bundle", json={"version": "two"}, timeout=600)
        swap.raise_for_status()
        ended = time.time()
        rows = load.result()
    before = told([row for row in rows if row.start < begun], begun - rows[0].start)
    during = told([row for row in rows if begun <= row.start <= ended], ended - begun)
    return {
        "failed": sum(row.status != 200 for row in rows),
        "seconds": round(ended - begun, 2),
        "before": before,
        "during": during,
        "p99_ratio": during["p99_ms"] / before["p99_ms"] if during["p99_ms"] and before["p99_ms"] else None,
    }
