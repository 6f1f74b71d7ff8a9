"""Part `rps`: requests a second by numbers of clients: behind Ray, under bare uvicorn, and infinity-emb, in turns.

Each query is encoded each time it comes, but in `asked_before`, whose replica keeps the vectors of all of them.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.serving import systems
from benchmarks.serving.bench import WARM_SECONDS, Bench, load
from benchmarks.serving.load import told
from synthrec import console
from synthrec.config import Serve

REPLICAS = Serve().replicas[1]  # that the default's autoscaling comes to under load
OURS: dict[str, tuple[str, dict[str, Any]]] = {  # name: kind of endpoint, settings
    "ray": ("ray", {}),
    "uvicorn": ("uvicorn", {}),
    "scaled": ("ray", {"replicas": (REPLICAS, REPLICAS)}),
    "asked_before": ("ray", {"cached_queries": Serve().cached_queries}),
}


def measured(bench: Bench) -> dict[str, Any]:
    names = [*OURS, *(["infinity"] if bench.infinity else [])]
    rounds: list[dict[str, Any]] = []
    for number in range(bench.rounds):
        console.say(f"round {number + 1} of {bench.rounds}")
        # Every other round the other way round: a machine that slows down harms nobody more than others.
        order = names if number % 2 == 0 else names[::-1]
        rounds.append({name: _infinity(bench) if name == "infinity" else _ours(bench, name) for name in order})
        for name in names:
            console.say(f"  {name}: " + ", ".join(f"{n} clients {one['rps']}/s" for n, one in rounds[-1][name].items()))
    return {
        "rounds": rounds,
        "over_uvicorn": _ratio(bench, rounds, "ray", "uvicorn"),
        "rps_over_infinity": _ratio(bench, rounds, "scaled", "infinity") if bench.infinity else None,
    }


def _ours(bench: Bench, name: str) -> dict[str, Any]:
    kind, settings = OURS[name]
    # All may wait, and the door has learnt that before: what is asked here is how much it can do.
    with bench.endpoint(kind, **settings, max_queued_requests=max(bench.clients)) as endpoint:
        bench.load(endpoint.url, max(bench.clients), WARM_SECONDS)
        return {str(n): told(bench.load(endpoint.url, n, bench.seconds), bench.seconds) for n in bench.clients}


def _infinity(bench: Bench) -> dict[str, Any]:
    assert bench.infinity is not None
    model = bench.work / "plain"
    bodies = [{"model": str(model), "input": [query]} for query in bench.queries]

    def run(url: str, clients: int, seconds: float) -> dict[str, Any]:
        return told(load(url, bodies, "--clients", str(clients), "--seconds", str(seconds)), seconds)

    with systems.infinity(bench.infinity, model, bench.work / "infinity.log") as base:
        url = f"{base}/embeddings"
        run(url, max(bench.clients), WARM_SECONDS)
        return {str(n): run(url, n, bench.seconds) for n in bench.clients}


def _ratio(bench: Bench, rounds: list[dict[str, Any]], ours: str, theirs: str) -> float:
    """By the most clients; median over the rounds: what is compared ran within minutes of each other."""
    most = str(max(bench.clients))
    return statistics.median(one[ours][most]["rps"] / one[theirs][most]["rps"] for one in rounds)
