"""Events and the live catalogue, kept: on one node in SQLite, for several in Redis."""

from __future__ import annotations

from pathlib import Path

from synthrec.stores.base import WEIGHTS, Change, Event, Store, StoreError

__all__ = ["WEIGHTS", "Change", "Event", "Store", "StoreError", "open"]


def open(url: str) -> Store:
    """The store at `sqlite:///relative/path`, `sqlite:////absolute/path`, `redis://host:port/db` or `rediss://…`.

    Raises:
        StoreError: of another kind, or it cannot be opened.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from synthrec.stores.sqlite import SqliteStore

        return SqliteStore(Path(rest[1:]).expanduser())
    if kind in ("redis", "rediss"):
        from synthrec.stores.redis import RedisStore

        return RedisStore(url)
    raise StoreError(f"{kind or url!r} is no kind of store", "use sqlite:///path, or redis://host:6379/0")
