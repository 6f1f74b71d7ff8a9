"""Clients that write events and products for as long as they may, and whether what was acknowledged is there."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from typing import Any

import httpx

from benchmarks.serving.systems import Endpoint
from synthrec import stores

CLIENTS = 2
PAUSE = 0.05  # seconds between two writes of a client
GIVE_UP = 60.0  # seconds that a client goes on sending one write
FOLLOWED = 5.0  # seconds for the replicas to have applied the last change


class Writers:
    """A `with` block for whose time they write, events and products in turn. A write that was not acknowledged is sent
    again, as it was: the service keeps it once.

    Attributes:
        events: acknowledged, event_id -> user_id.
        products: acknowledged.
        revision: the highest that was acknowledged.
        failed: answers that were no acknowledgement.
        given_up: writes that never were acknowledged.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._url = endpoint.url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(CLIENTS)]
        self.events: dict[str, str] = {}
        self.products: list[str] = []
        self.revision = self.failed = self.given_up = 0

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> dict[str, int]:
        return {
            "events": len(self.events),
            "products": len(self.products),
            "failed_once": self.failed,
            "given_up": self.given_up,
        }

    def _write(self, number: int) -> None:
        # As a pseudonym: the store knows a shopper by it, and so can be asked what it holds.
        user = "u_" + hashlib.sha256(str(number).encode()).hexdigest()[:16]
        with httpx.Client(base_url=self._url, timeout=10) as client:
            for turn in itertools.count():
                if self._over.wait(PAUSE):
                    return
                name = f"w{number}-{turn}"
                event = {"event_id": name, "user_id": user, "product_id": "p0000001", "kind": "view"}
                if self._sent(client, "/v1/events", {"events": [event]}) is not None:
                    self.events[name] = user
                product = {"product_id": name, "title": f"stapler {name}"}
                done = self._sent(client, "/v1/products", {"upsert": [product]})
                if done is not None:
                    self.products.append(name)
                    self.revision = max(self.revision, done["revision"])

    def _sent(self, client: httpx.Client, path: str, body: Any) -> dict[str, Any] | None:
        """The acknowledgement; None where there never was one."""
        until = time.monotonic() + GIVE_UP
        while time.monotonic() < until:
            try:
                reply = client.post(path, json=body)
                if reply.status_code == 200:
                    told: dict[str, Any] = reply.json()
                    return told
            except httpx.TransportError:
                pass
            self.failed += 1
            time.sleep(PAUSE)
        self.given_up += 1
        return None


def lost(endpoint: Endpoint, writers: Writers) -> dict[str, int]:
    """Acknowledged writes that the store does not hold, and products among them that the endpoint does not know."""
    store = stores.open(endpoint.store)
    try:
        users = set(writers.events.values())
        kept = {event.event_id for user in users for event in store.history(user, len(writers.events) + 1)}
        known = {one.product_id for one in store.changes(0, 2 * len(writers.products) + 100)}
    finally:
        store.close()
    time.sleep(FOLLOWED)
    return {
        "events": len(writers.events.keys() - kept),
        "products": len(set(writers.products) - known),
        "products_not_served": _unserved(endpoint, writers.products),
    }


def _unserved(endpoint: Endpoint, products: list[str]) -> int:
    with httpx.Client(base_url=endpoint.url, timeout=60) as client:
        asked = (client.post("/v1/similar", json={"product_id": one, "k": 1}) for one in products)
        return sum(reply.status_code != 200 for reply in asked)
