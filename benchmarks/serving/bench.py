"""What every part of the benchmark has: bundles, queries, an endpoint to measure, and load for it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import systems
from benchmarks.serving.load import Row
from benchmarks.serving.systems import Endpoint

SEARCH = "/v1/search"
CLIENTS = 8  # the usual load of every part but `rps`
WARM_SECONDS = 5.0


@dataclass(frozen=True)
class Bench:
    """Attributes:
    root: the folder of bundles.
    clients: numbers of clients that `rps` measures with.
    env: of the endpoint, such as Ray's switches.
    """

    data: Path
    work: Path
    root: Path
    products: int
    queries: list[str]
    seconds: float
    overload_seconds: float
    rounds: int
    clients: list[int]
    infinity: Path | None
    env: dict[str, str]

    @property
    def searches(self) -> list[dict[str, Any]]:
        return [{"query": query} for query in self.queries]

    @contextmanager
    def endpoint(self, kind: str = "ray", root: Path | None = None, **settings: Any) -> Iterator[Endpoint]:
        """Ours, with a store of its own, warm. It encodes each query anew: there are so few that all would be kept."""
        settings = {"cached_queries": 0, **settings}
        with tempfile.TemporaryDirectory() as folder:
            store = f"sqlite:///{folder}/store.sqlite"
            log = self.work / f"{kind}.log"
            with systems.ours(kind, root or self.root, store, log, settings, self.env) as endpoint:
                self.load(endpoint.url, CLIENTS, WARM_SECONDS)
                yield endpoint

    def load(self, url: str, clients: int, seconds: float) -> list[Row]:
        """Searches by so many clients."""
        return load(url + SEARCH, self.searches, "--clients", str(clients), "--seconds", str(seconds))

    def arrivals(self, url: str, rate: float, seconds: float) -> list[Row]:
        """Searches that begin at a rate, in requests a second, whether or not earlier ones have ended."""
        return load(url + SEARCH, self.searches, "--rate", str(rate), "--seconds", str(seconds))

    @contextmanager
    def meanwhile(self, url: str, seconds: float, clients: int = CLIENTS) -> Iterator[Future[list[Row]]]:
        """Load while the block runs; its rows are there afterwards."""
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(self.load, url, clients, seconds)


def load(url: str, bodies: Sequence[Any], *options: str) -> list[Row]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(bodies, file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.serving.load", url, file.name, *options]
        said = subprocess.run(command, check=True, capture_output=True).stdout
    return [Row(*row) for row in json.loads(said)]
