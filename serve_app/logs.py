"""Logs as JSON lines, with personal data masked; what is counted, for Prometheus."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from synthrec.privacy.written import blanked

FREE = ("query", "comment", "why", "trace")  # facts that may hold what people wrote
FACTS: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)  # of the request in hand

log = logging.getLogger("synthrec.serve")


def fact(**facts: Any) -> None:
    """Add to the line that the request in hand will be logged in."""
    held = FACTS.get()
    if held is not None:
        held |= facts


class Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = dict(getattr(record, "facts", {}))
        if record.exc_info and record.exc_info[1] is not None:
            facts["trace"] = "".join(traceback.format_exception(record.exc_info[1]))[-4000:]
        facts |= {name: blanked(str(facts[name])) for name in FREE if facts.get(name) is not None}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), **facts}
        return json.dumps(line, ensure_ascii=False, default=str)


def start() -> None:
    """Write the service's lines to standard error, where containers and Ray collect them."""
    if not any(isinstance(one.formatter, Lines) for one in log.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Lines())
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class Metrics:
    """Of one replica; its name is a label, since a scrape reaches any one of several."""

    def __init__(self, replica: str = "") -> None:
        self.registry = CollectorRegistry()
        name = replica or str(os.getpid())
        common = {"labelnames": ("replica",), "registry": self.registry}

        def labelled(kind: type, what: str, told: str, *labels: str, **more: Any) -> Any:
            return kind(f"synthrec_{what}", told, **(common | {"labelnames": ("replica", *labels)}), **more)

        self._name = name
        self._requests = labelled(Counter, "requests", "requests answered", "route", "status")
        edges = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
        self._seconds = labelled(Histogram, "seconds", "from request to reply", "route", buckets=edges)
        self._inside = labelled(Gauge, "requests_inside", "being worked on")
        self._waiting = labelled(Gauge, "requests_waiting", "waiting for a place")
        self._products = labelled(Gauge, "products", "that can be found")
        self._revision = labelled(Gauge, "revision", "of the last live change that is searchable")
        self._bundle = labelled(Gauge, "bundle", "1 for each version that answers", "version", "role")

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(self._name, route, str(status)).inc()
        self._seconds.labels(self._name, route).observe(seconds)

    def room(self, inside: int, waiting: int) -> None:
        self._inside.labels(self._name).set(inside)
        self._waiting.labels(self._name).set(waiting)

    def catalogue(self, products: int, revision: int) -> None:
        self._products.labels(self._name).set(products)
        self._revision.labels(self._name).set(revision)

    def bundles(self, roles: dict[str, str]) -> None:
        """`roles`: role -> version."""
        self._bundle.clear()
        for role, version in roles.items():
            self._bundle.labels(self._name, version, role).set(1)
