"""Part `live`: how soon a product that was put is found, and whether an event changes what is recommended at once."""

from __future__ import annotations

import statistics
import time
from typing import Any

import httpx

from benchmarks.serving.bench import Bench

TIMES = 20
IN_A_ROW = 10  # replies that have the product: then all of two replicas do (chance of one alone: 1 in 500)
GIVE_UP = 30.0


def measured(bench: Bench) -> dict[str, Any]:
    """With two replicas, of which one takes the write and the other must follow."""
    with (
        bench.endpoint(replicas=(2, 2)) as endpoint,
        httpx.Client(base_url=endpoint.url, timeout=60) as client,
    ):
        waits = [_found_after(client, number) for number in range(TIMES)]
        changed = [_changes(client, number) for number in range(TIMES)]
    return {
        "found_seconds": {"median": round(statistics.median(waits), 3), "worst": round(max(waits), 3)},
        "recommend_changed_at_once": sum(changed),
        "of": TIMES,
    }


def _found_after(client: httpx.Client, number: int) -> float:
    """Seconds from the moment that the product was sent until every reply has it."""
    name, word = f"live-{number}", f"zorblax{number}"
    product = {"product_id": name, "title": f"{word} quantum stapler"}
    sent = time.monotonic()
    _post(client, "/v1/products", {"upsert": [product]})
    since, row = time.monotonic(), 0
    while row < IN_A_ROW:
        asked = time.monotonic()
        if asked - sent > GIVE_UP:
            raise SystemExit(f"{name} was not found within {GIVE_UP:g} s")
        hits = _post(client, "/v1/search", {"query": f"{word} stapler", "k": 3})["hits"]
        if name in {hit["product_id"] for hit in hits}:
            since = asked if row == 0 else since
            row += 1
        else:
            row = 0
            time.sleep(0.02)
    return since - sent


def _changes(client: httpx.Client, number: int) -> bool:
    """Whether the reply after an event of a new shopper is another, which leaves out the product taken."""
    shopper = f"live-shopper-{number}"
    before = _post(client, "/v1/recommend", {"user_id": shopper})
    taken = before["hits"][number % len(before["hits"])]["product_id"]
    event = {"event_id": shopper, "user_id": shopper, "product_id": taken, "kind": "purchase"}
    _post(client, "/v1/events", {"events": [event]})
    after = _post(client, "/v1/recommend", {"user_id": shopper})
    return after["hits"] != before["hits"] and taken not in {hit["product_id"] for hit in after["hits"]}


def _post(client: httpx.Client, path: str, body: Any) -> Any:
    reply = client.post(path, json=body)
    reply.raise_for_status()
    return reply.json()
