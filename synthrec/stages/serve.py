"""serve: a bundle behind HTTP. Not a published stage: it runs until it is stopped."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from synthrec import bundle, cluster, console
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline

START_SECONDS = 120


def run(pipeline: Pipeline, ask: list[str] | None) -> None:
    """Serve the pipeline's bundle until interrupted; or, given queries, ask them, print the hits, and stop."""
    if pipeline.manifest("package") is None:
        raise UserError("there is no bundle made with these settings", "run `synthrec run` with the same config first")
    with console.hushed(pipeline.log), endpoint(pipeline.folder("package").local, pipeline.config.serve) as url:
        if ask:
            for query in ask:
                show(url, query)
            return
        console.say(f"serving at {url} (API: {url}/docs). Ask it, from another terminal:")
        console.say(example(url))
        console.say("Ctrl-C stops it.")
        _wait()


def example(url: str) -> str:
    return f"""  curl -s {url}/v1/search -H 'content-type: application/json' -d '{{"query": "pan for eggs", "k": 3}}'"""


@contextmanager
def endpoint(folder: Path, settings: Serve) -> Iterator[str]:
    """The endpoint's URL, answering for the time of the block."""
    _only_loopback(settings.host)
    port = _free_port(settings)
    bundle.check(folder)
    cluster.start()
    from ray import serve

    from serve_app.app import build

    serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": port})
    try:
        serve.run(build(folder, settings), route_prefix="/")
        url = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
        yield url
    finally:
        serve.shutdown()


def show(url: str, query: str) -> list[dict[str, Any]]:
    """Ask the endpoint a query and print its best products."""
    reply = httpx.post(f"{url}/v1/search", json={"query": query, "k": 5}, timeout=START_SECONDS)
    reply.raise_for_status()
    hits: list[dict[str, Any]] = reply.json()["hits"]
    console.say(f"  [bold]{query}[/]")
    for place, hit in enumerate(hits, 1):
        console.plain(f"    {place}. {told(hit)}")
    return hits


def told(hit: dict[str, Any]) -> str:
    """A hit in a line; a shop need not give brands or prices."""
    known = [hit["brand"]] if hit["brand"] else []
    known += [f"{hit['price']:g}"] if hit["price"] is not None else []
    return "  ".join([hit["title"], *([f"({', '.join(known)})"] if known else []), f"{hit['score']:.3f}"])


def _only_loopback(host: str) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise UserError(
            f"serve.host {host} is open to others, and this version has no authentication",
            "keep 127.0.0.1 and put an authenticating proxy before it",
        )


def _free_port(settings: Serve) -> int:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UserError(
                f"port {settings.port} of {settings.host} is not free: {error.strerror}",
                "choose another with --set serve.port=8001 (0: any free one)",
            ) from None
        return int(probe.getsockname()[1])


def _wait() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass
