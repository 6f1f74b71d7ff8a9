"""serve: a bundle behind HTTP. Not a published stage: it runs until it is stopped."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrec import bundle, cluster, console, schema, stores
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline
from synthrec.stores import WEIGHTS, Event, Store

if TYPE_CHECKING:
    from serve_app.local import Home

START_SECONDS = 120
APPLICATION = "default"  # Ray Serve's name of what `serve.run` runs
BEHIND_HAPROXY = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104  # where it finds the replicas
BATCH = 10_000  # events written at once
SEEDED = "seeded"  # a note in the store: what shoppers did before it was there is in it


def run(pipeline: Pipeline, ask: list[str] | None) -> None:
    """Serve the pipeline's bundle until interrupted; or, given queries, ask them, print the hits, and stop."""
    with console.hushed(pipeline.log), endpoint(pipeline, pipeline.config.serve) as url:
        if ask:
            for query in ask:
                show(url, query)
            return
        console.say(f"serving at {url} (API: {url}/openapi.json). Ask it, from another terminal:")
        console.say(example(url))
        console.say("Ctrl-C stops it.")
        _wait()


def example(url: str) -> str:
    return f"""  curl -s {url}/v1/search -H 'content-type: application/json' -d '{{"query": "pan for eggs", "k": 3}}'"""


def home(pipeline: Pipeline) -> Home:
    """Where the service of a run lives: its bundles, its store, its audit.

    Raises:
        UserError: no bundle was made with these settings.
    """
    from serve_app.local import Home

    if pipeline.manifest("package") is None:
        raise UserError("there is no bundle made with these settings", "run `synthrec run` with the same config first")
    folder = pipeline.folder("package").local.resolve()
    run_dir = folder.parent.parent
    private = pipeline.config.privacy
    return Home(
        str(folder.parent), folder.name, store(pipeline), str(run_dir), private.kinds if private.products else ()
    )


def store(pipeline: Pipeline) -> str:
    """The URL of the store of events and live products."""
    return pipeline.config.serve.store or f"sqlite:///{pipeline.root.local.resolve() / 'serve' / 'store.sqlite'}"


@contextmanager
def endpoint(pipeline: Pipeline, settings: Serve) -> Iterator[str]:
    """The endpoint's URL, answering for the time of the block."""
    _check_host(settings)
    port = _free_port(settings)
    _choose_proxy(settings)
    where = home(pipeline)
    bundle.check(Path(where.bundles) / where.version)
    # One endpoint of a run: another would say to the first, by their store, what it is to serve.
    with (pipeline.root / "serve").locked():
        open_store(pipeline, where)
        cluster.start()
        from ray import serve

        from serve_app.app import build, start

        start(settings.host, port, settings.proxies)
        try:
            serve.run(build(where, settings), route_prefix="/")
            url = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
            yield url
        finally:
            _stop(serve)


def _stop(serve: Any) -> None:
    """Ours; Ray Serve itself, too, unless others have applications on this cluster."""
    if set(serve.status().applications) - {APPLICATION}:
        serve.delete(APPLICATION)
    else:
        serve.shutdown()


def open_store(pipeline: Pipeline, where: Home) -> None:
    """Have the store name the bundle that was asked for; a new store learns what shoppers did before it was there."""
    from serve_app.people import People
    from serve_app.rollout import NOTE, Plan

    store = stores.open(where.store)
    try:
        People().agree(store)
        noted = store.noted(NOTE)
        plan = Plan.read(noted) if noted else Plan(where.version)
        previous = plan.bundle if (Path(where.bundles) / plan.bundle).is_dir() else None
        if plan.candidate is not None and not (Path(where.bundles) / plan.candidate).is_dir():
            console.warn(f"the bundle {plan.candidate}, which was on trial, is gone: its trial ends")
            plan = Plan(plan.bundle, plan.previous)
        if plan.bundle != where.version:
            plan = Plan(where.version, previous)
        store.note(NOTE, plan.row())
        if not store.noted(SEEDED):  # one that was killed meanwhile begins again: an event is kept once
            _seed(pipeline, store)
            store.note(SEEDED, {"version": where.version})
    finally:
        store.close()


def _seed(pipeline: Pipeline, store: Store) -> None:
    rows = (pipeline.folder("prepare") / "interactions").read_table(schema.INTERACTIONS)
    for part in rows.to_batches(BATCH):
        store.add_events(
            [
                Event(
                    event_id=schema.row_id(*row.values()),
                    user_id=row["user_id"],
                    product_id=row["product_id"],
                    kind=row["event"],
                    at=row["timestamp"],
                    weight=WEIGHTS[row["event"]],
                )
                for row in part.to_pylist()
            ]
        )


def show(url: str, query: str) -> list[dict[str, Any]]:
    """Ask the endpoint a query and print its best products."""
    from synthrec.client import Client

    with Client(url, timeout=START_SECONDS) as shop:
        hits = [hit.model_dump() for hit in shop.search(query, 5).hits]
    console.say("", f"  {query}")
    for place, hit in enumerate(hits, 1):
        console.say(f"    {place}. {told(hit)}")
    return hits


def told(hit: dict[str, Any]) -> str:
    """A hit in a line; a shop need not give brands or prices."""
    known = [hit["brand"]] if hit["brand"] else []
    known += [f"{hit['price']:g}"] if hit["price"] is not None else []
    return "  ".join([hit["title"], *([f"({', '.join(known)})"] if known else []), f"{hit['score']:.3f}"])


def _check_host(settings: Serve) -> None:
    """Raise UserError where others could come in without a key, or where the keys cannot be read."""
    if settings.keys is not None:
        from serve_app import keys

        if not any(key.revoked is None for key in keys.read(Path(settings.keys).expanduser())):
            raise UserError(f"no key in {settings.keys} is valid", "make one: synthrec keys add NAME")
        return
    try:
        local = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise UserError(
            f"serve.host {settings.host} is open to others, and there are no keys",
            "make some with `synthrec keys add NAME` and name their file in serve.keys, or keep 127.0.0.1",
        )


def _choose_proxy(settings: Serve) -> None:
    """Ray's own proxy where HAProxy does not find the replicas. Raise UserError if this process has chosen already."""
    if settings.host in BEHIND_HAPROXY or os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "0") != "1":
        return
    raise UserError(
        f"serve.host {settings.host} works behind Ray's own proxy alone, and HAProxy was chosen",
        "set RAY_SERVE_ENABLE_HA_PROXY=0, or serve.host to one of " + ", ".join(BEHIND_HAPROXY),
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
