"""Part `place`: the encoder in the replica that answers, or in a deployment of its own, asked through a handle."""

from __future__ import annotations

import statistics
from typing import Any

import psutil

from benchmarks.serving.bench import CLIENTS, Bench
from benchmarks.serving.load import told
from benchmarks.serving.systems import Endpoint

PLACES = ("inside", "apart")


def measured(bench: Bench) -> dict[str, Any]:
    """One replica of each deployment, in turns.

    `processor_ms` is what replicas and proxy took a request: other work on the machine changes it less than the rates.
    """
    rounds = []
    for number in range(bench.rounds):
        order = PLACES if number % 2 == 0 else PLACES[::-1]
        rounds.append({place: _measured(bench, place) for place in order})
    ratios = {
        f"{name}_apart_over_inside": statistics.median(one["apart"][name] / one["inside"][name] for one in rounds)
        for name in ("rps", "p50_ms", "p99_ms", "processor_ms")
    }
    return {"rounds": rounds, **ratios}


def _measured(bench: Bench, place: str) -> dict[str, Any]:
    with bench.endpoint(encoder=place, encoder_replicas=(1, 1)) as endpoint:
        before = _processor(endpoint)
        found = told(bench.load(endpoint.url, CLIENTS, bench.seconds), bench.seconds)
        spent = _processor(endpoint) - before
    return found | {"processor_ms": round(1000 * spent / (found["rps"] * bench.seconds), 2)}


def _processor(endpoint: Endpoint) -> float:
    """Seconds of the processor that the endpoint's processes have taken."""
    total = 0.0
    for process in (one for some in endpoint.processes().values() for one in some):
        try:
            took = process.cpu_times()
        except psutil.Error:
            continue
        total += took.user + took.system
    return total
