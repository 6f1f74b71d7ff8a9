"""The service without Ray: in tests, in benchmarks, under any ASGI server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app import logs
from serve_app.api import create
from serve_app.batching import Encode
from serve_app.keys import Keyring
from serve_app.logs import Metrics
from serve_app.people import People
from serve_app.service import Service
from synthrec import audit, stores
from synthrec.config import Serve
from synthrec.privacy import KINDS
from synthrec.storage import Folder


@dataclass(frozen=True)
class Home:
    """Where a service lives; plain, so that it travels to a replica.

    Attributes:
        bundles: the folder of bundles, each a subfolder named by its version.
        version: that answers unless the store says otherwise.
        store: its URL.
        run_dir: whose audit keeps what administrators do; None: the log alone.
        hidden: kinds of personal data that are replaced in live products, by the rules, as `prepare` does.
    """

    bundles: str
    version: str
    store: str
    run_dir: str | None = None
    hidden: tuple[str, ...] = KINDS


def service(home: Home, settings: Serve, replica: str = "", remote: Callable[[str], Encode] | None = None) -> Service:
    """Not started yet."""
    noting = partial(audit.note, Folder.open(home.run_dir)) if home.run_dir else lambda what, **facts: None
    store = stores.open(home.store)
    people = People(home.hidden)
    return Service(Path(home.bundles), home.version, store, settings, Metrics(replica), people, remote, noting)


def keyring(settings: Serve) -> Keyring | None:
    """None where no keys are configured, which the log says."""
    if settings.keys is None:
        logs.log.warning("open to everybody on this machine: no keys are configured (serve.keys)")
        return None
    return Keyring(Path(settings.keys).expanduser())


@asynccontextmanager
async def running(home: Home, settings: Serve) -> AsyncIterator[ASGIApp]:
    """The application, its service started."""
    made = service(home, settings)
    keys = keyring(settings)
    await made.start()
    try:
        yield create(made, keys)
    finally:
        await made.stop()
        made.store.close()


class Lifespan:
    """An ASGI application that starts its service when the server starts it."""

    def __init__(self, home: Home, settings: Serve) -> None:
        self._running = running(home, settings)
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert self._app is not None, "the server sends no lifespan events"
            await self._app(scope, receive, send)
            return
        await receive()
        self._app = await self._running.__aenter__()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._running.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})
