"""Part `overload`: four times as many requests a second as the service can answer."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import psutil

from benchmarks.serving.bench import CLIENTS, Bench
from benchmarks.serving.load import Row, p, told
from benchmarks.serving.systems import Endpoint

TIMES = 4
SATURATING = 12  # clients that keep the service busy and still find a place
AFTER_SECONDS = 15.0


def measured(bench: Bench) -> dict[str, Any]:
    """Normal is the load of eight clients. `normal_half` is open-loop, too, at half the capacity."""
    seconds = bench.overload_seconds
    with bench.endpoint() as endpoint:
        capacity = told(bench.load(endpoint.url, SATURATING, bench.seconds), bench.seconds)["rps"]
        normal = bench.load(endpoint.url, CLIENTS, bench.seconds)
        half = bench.arrivals(endpoint.url, capacity / 2, bench.seconds)
        with Memory(endpoint) as memory:
            rows = bench.arrivals(endpoint.url, TIMES * capacity, seconds)
            ended = max(row.start for row in rows)
            after = bench.load(endpoint.url, CLIENTS, AFTER_SECONDS)
    good, busy = ([row for row in rows if row.status == status] for status in (200, 503))
    usual, usual_half, now = (p([row for row in some if row.status == 200], 99) for some in (normal, half, rows))
    return {
        "capacity_rps": capacity,
        "offered_rps": round(len(rows) / seconds, 1),
        "late_p99_ms": p([Row(0, row.late, 0) for row in rows], 99),
        "accepted_rps": round(len(good) / seconds, 1),
        "normal": told(normal, bench.seconds),
        "normal_half": told(half, bench.seconds),
        "p99_ms": now,
        "p99_ratio": now / usual if now and usual else None,
        "p99_ratio_half": now / usual_half if now and usual_half else None,
        "busy_p50_ms": p(busy, 50),
        "busy_p99_ms": p(busy, 99),
        "statuses": dict(Counter(str(row.status) for row in rows)),
        "crashes": sum(row.status not in (200, 503) for row in rows + after),
        "memory_mb": memory.told(),
        "recovered_seconds": recovered(normal, after, ended),
    }


def recovered(normal: list[Row], after: list[Row], ended: float) -> float | None:
    """Seconds from the end of the overload until a second's p99 is within what a second's p99 normally is at most.

    None: it never was.
    """
    usual = max(wait for _, wait in _by_second(normal))
    for start, wait in _by_second(after):
        if wait <= usual:
            return round(start - ended, 2)
    return None


def _by_second(rows: list[Row]) -> list[tuple[float, float]]:
    """(start, p99 of the waits in ms) of each whole second; one with a failure has no p99, so an endless wait."""
    first, last = min(row.start for row in rows), max(row.start for row in rows)
    found = []
    for number in range(max(1, int(last - first))):
        mine = [row for row in rows if first + number <= row.start < first + number + 1]
        wait = p(mine, 99) if all(row.status == 200 for row in mine) else None
        found.append((first + number, float("inf") if wait is None else wait))
    return found


class Memory:
    """Watches the resident memory of an endpoint's processes, twice a second, for the time of a `with` block."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._processes = endpoint.processes()
        self._seen: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._seen.append(self._now())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._seen.append(self._now())

    def told(self) -> dict[str, dict[str, float]]:
        """Kind of process -> MB before, most, after."""
        seen = {kind: [one[kind] for one in self._seen] for kind in self._processes}
        return {kind: {"before": some[0], "most": max(some), "after": some[-1]} for kind, some in seen.items()}

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._seen.append(self._now())

    def _now(self) -> dict[str, float]:
        return {kind: resident(some) for kind, some in self._processes.items()}


def resident(processes: list[psutil.Process]) -> float:
    """MB, of those that live."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return round(total / 1e6, 1)
