"""The store of several nodes: one Redis (or Valkey) server that all of them reach; not a Redis Cluster.

A write is one Lua script, so it is done whole or not at all, and in the server's log as one transaction. Each carries a
token under which the server keeps its result for a while: where the connection broke before the answer came, the
client asks again and is told what was done, so a restart of the server is waited out and nothing is done twice.

What is acknowledged survives only as the server is set; `_check` refuses one that would lose it. Each event takes
some 450 bytes of the server's memory.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from synthrec.stores import scripts
from synthrec.stores.base import LATELY, Change, Event, Row, StoreError, instant, micros, packed, products_packed

try:
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry
except ImportError:
    raise StoreError("a store at redis:// needs the package redis", "pip install 'synthrec[redis]'") from None

PREFIX = "synthrec:"
PART = 10_000  # rows fetched at once
ATTEMPTS = 8  # of a call whose connection breaks; the pauses double up to a second: five seconds in all
ANSWER_SECONDS = 10.0
REWRITE_SECONDS = 60.0

log = logging.getLogger(__name__)


class RedisStore:
    """A `Store` in one database of a Redis server, beside whatever else is in it.

    Args:
        url: `redis://user:password@host:port/db`, or `rediss://` for TLS.
    """

    def __init__(self, url: str) -> None:
        self.name = _named(url)
        self._closed = False
        retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), ATTEMPTS)
        with self._told("open"):
            self._db: Any = redis.Redis.from_url(  # Any: redis-py's types are of two worlds, with and without await
                url, decode_responses=True, retry=retry, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=2.0
            )
            self._scripts = {name: self._db.register_script(script) for name, script in scripts.WRITES.items()}
            self._changes = self._db.register_script(scripts.CHANGES)
            self._popular = self._db.register_script(scripts.POPULAR)
            _check(self._db, self.name)
            self._db.set(PREFIX + "schema", scripts.SCHEMA, nx=True)
            self._write("migrate", [()])
            found: Any = self._db.get(PREFIX + "schema")
            if found != scripts.SCHEMA:
                raise StoreError(
                    f"{self.name} holds a store of version {found}, not {scripts.SCHEMA}", "give another database"
                )

    def add_events(self, events: Sequence[Event]) -> int:
        rows = [(e.event_id, e.user_id, micros(e), packed(asdict(e) | {"at": micros(e)})) for e in events]
        return self._write("add", rows)

    def history(self, user_id: str, limit: int) -> list[Event]:
        with self._told("read"):
            found = self._db.zrevrange(f"{PREFIX}history:{user_id}", 0, limit - 1) if limit > 0 else []
            numbers = [one[:16] for one in found]
            rows = [
                row for start in range(0, len(numbers), PART) for row in self._events(numbers[start : start + PART])
            ]
        return [Event(**row | {"at": instant(row["at"])}) for row in reversed(rows)]

    def put_products(self, products: Sequence[Row]) -> int:
        return self._put(products_packed(products))

    def delete_products(self, product_ids: Sequence[str]) -> int:
        return self._put([(one, "null") for one in product_ids])

    def changes(self, after: int, limit: int) -> list[Change]:
        with self._told("read"):
            rows = self._changes(keys=[PREFIX], args=[after, limit])
        return [Change(int(number), one, json.loads(text)) for number, one, text in rows]

    def revision(self) -> int:
        with self._told("read"):
            return int(self._db.get(PREFIX + "revision") or 0)

    def add_feedback(self, rows: Sequence[Row]) -> int:
        users = [row.get("user_id") for row in rows]
        told = [(packed(row), "" if user is None else "of", user or "") for row, user in zip(rows, users, strict=True)]
        return self._write("say", told)

    def feedback(self, after: int, limit: int) -> list[tuple[int, Row]]:
        with self._told("read"):
            rows = self._db.zrangebyscore(PREFIX + "feedback", f"({after}", "+inf", start=0, num=limit)
        return [(int(row[:16]), json.loads(row[16:])) for row in rows]

    def users(self) -> list[str]:
        with self._told("read"):
            return list(self._db.smembers(PREFIX + "users"))

    def popular(self, limit: int) -> list[tuple[str, float]]:
        with self._told("read"):
            found = iter(json.loads(self._popular(keys=[PREFIX], args=[limit])) if limit > 0 else ())
        return [(product, -float(weight)) for product, weight in zip(found, found, strict=True)]

    def note(self, name: str, row: Row) -> None:
        self._write("note", [(name, packed(row))])

    def renote(self, name: str, before: Row | None, row: Row) -> bool:
        return bool(self._write("renote", [(name, packed(row), "" if before is None else packed(before))]))

    def noted(self, name: str) -> Row | None:
        with self._told("read"):
            found = self._db.hget(PREFIX + "notes", name)
        return json.loads(found) if found is not None else None

    def forget(self, user_id: str) -> int:
        """As the protocol says; returns when the server's log is rewritten without what was erased.

        Snapshots (RDB files), replicas and copies of the log are the operator's to see to.
        """
        erased = self._write("forget", [(user_id,)])
        with self._told("erase from the log of"):  # always: who asks again may do so since it failed here before
            self._rewrite(erased)
        return erased

    def close(self) -> None:
        self._closed = True
        self._db.close()

    def _put(self, rows: Sequence[tuple[str, str]]) -> int:
        return self._write("put", rows) if rows else self.revision()

    def _write(self, name: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        with self._told("write to"):
            values = [value for row in rows for value in row]
            return int(self._scripts[name](keys=[PREFIX, uuid.uuid4().hex, str(LATELY)], args=values))

    def _events(self, numbers: Sequence[str]) -> list[Row]:
        return [json.loads(text) for text in self._db.hmget(PREFIX + "events", numbers) if text is not None]

    def _rewrite(self, erased: int) -> None:
        """Have the log rewritten; one that was under way before may still hold what was erased."""
        end, asked = time.monotonic() + REWRITE_SECONDS, False
        while time.monotonic() < end:
            state = self._db.info("persistence")
            if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
                if asked and state["aof_last_bgrewrite_status"] == "ok":
                    return
                self._db.bgrewriteaof()
                asked = True
            time.sleep(0.02)
        raise StoreError(
            f"{erased} rows are erased, but the log of {self.name} still holds them", "run BGREWRITEAOF; see its log"
        )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Redis's errors in words, without the password."""
        if self._closed:
            raise StoreError(f"cannot {what} {self.name}: it is closed", "open it again")
        try:
            yield
        except (redis.RedisError, UnicodeEncodeError, ValueError) as error:
            raise StoreError(f"cannot {what} {self.name}: {error}", _hint(error)) from error


def _check(db: Any, name: str) -> None:
    """Refuse a server that would lose what it acknowledged; warn of one that does not say."""
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")
    try:
        held = {one: db.config_get(one).get(one) for one in names}
    except redis.ResponseError as error:
        log.warning("%s does not tell how it persists (%s): see that it syncs every write to its disk", name, error)
        return
    wanted = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
    wrong = {one: value for one, value in wanted.items() if held[one] != value}
    if held["maxmemory"] != "0" and str(held["maxmemory-policy"]).startswith("allkeys"):
        wrong["maxmemory-policy"] = "noeviction"
    if wrong:
        found = ", ".join(f"{one} {held[one]}" for one in wrong)
        mend = "; ".join(f"CONFIG SET {one} {value}" for one, value in wrong.items())
        raise StoreError(f"{name} would lose writes it acknowledged: {found}", f"{mend}; and in redis.conf")


def _named(url: str) -> str:
    """Without user and password."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"
    except ValueError as error:
        raise StoreError(f"the address of the Redis store cannot be read: {error}", "use redis://host:6379/0") from None


def _hint(error: Exception) -> str:
    text = str(error)
    if isinstance(error, redis.AuthenticationError) or "NOAUTH" in text or "NOPERM" in text:
        return "see user and password in its address, and what its ACL lets that user do"
    if "OOM" in text:
        return "give the server more memory; nothing of this call was kept"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "see that the server runs and can be reached; a write may have been done"
    return "see the server's log, and that ids and times are sound"
