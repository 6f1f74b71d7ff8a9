"""The store of one node: SQLite, which several processes may have open at once.

Write-ahead log with a sync at every commit: what was acknowledged survives a kill and a power cut. A sync takes
milliseconds, so writers that wait for each other are committed together.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from synthrec.stores.base import LATELY, Change, Event, Row, StoreError, instant, micros, packed, products_packed

SCHEMA = 1
APPLICATION = 0x73726563  # "srec": tells this file from another program's
BUSY_SECONDS = 10.0
TABLES = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, product_id TEXT NOT NULL,
    kind TEXT NOT NULL, at INTEGER NOT NULL, weight REAL NOT NULL) STRICT;
CREATE INDEX events_by_user ON events (user_id, at, number);
CREATE TABLE products (
    revision INTEGER PRIMARY KEY AUTOINCREMENT, product_id TEXT NOT NULL UNIQUE, product TEXT) STRICT;
CREATE TABLE feedback (number INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT, row TEXT NOT NULL) STRICT;
CREATE INDEX feedback_by_user ON feedback (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE notes (name TEXT PRIMARY KEY, row TEXT NOT NULL) STRICT;
"""
ADD_EVENT = (
    "INSERT INTO events (event_id, user_id, product_id, kind, at, weight) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (event_id) DO NOTHING"
)
LATEST = (
    "SELECT event_id, user_id, product_id, kind, at, weight FROM events WHERE user_id = ? "
    "ORDER BY at DESC, number DESC LIMIT ?"
)
PUT = "REPLACE INTO products (product_id, product) VALUES (?, ?)"  # a new row, so a new revision
CHANGES = "SELECT revision, product_id, product FROM products WHERE revision > ? ORDER BY revision LIMIT ?"
POPULAR = (
    "SELECT product_id, sum(weight) AS taken FROM (SELECT product_id, weight FROM events ORDER BY number DESC LIMIT ?) "
    "GROUP BY product_id ORDER BY taken DESC, product_id LIMIT ?"
)
USERS = "SELECT user_id FROM events UNION SELECT user_id FROM feedback WHERE user_id IS NOT NULL"


class SqliteStore:
    """A `Store` in one file, readable by its owner alone, on a local disk (SQLite's log needs shared memory)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open: list[_Held] = []
        self._closed = False
        self._commits = _Commits(self._connection)
        _make(path)
        with self._told("open"), self._connection() as db:
            _prepare(db, path)

    def add_events(self, events: Sequence[Event]) -> int:
        rows = [(e.event_id, e.user_id, e.product_id, e.kind, micros(e), e.weight) for e in events]
        return self._write(lambda db: db.executemany(ADD_EVENT, rows).rowcount if rows else 0)

    def history(self, user_id: str, limit: int) -> list[Event]:
        rows = self._read(LATEST, (user_id, limit))
        return [Event(e, u, p, kind, instant(at), weight) for e, u, p, kind, at, weight in reversed(rows)]

    def put_products(self, products: Sequence[Row]) -> int:
        rows = products_packed(products)
        return self._write(lambda db: _put(db, rows))

    def delete_products(self, product_ids: Sequence[str]) -> int:
        rows = [(one, None) for one in product_ids]
        return self._write(lambda db: _put(db, rows))

    def changes(self, after: int, limit: int) -> list[Change]:
        rows = self._read(CHANGES, (after, limit))
        return [Change(number, one, None if text is None else json.loads(text)) for number, one, text in rows]

    def revision(self) -> int:
        return int(self._read("SELECT ifnull(max(revision), 0) FROM products", ())[0][0])

    def add_feedback(self, rows: Sequence[Row]) -> int:
        told = [(row.get("user_id"), packed(row)) for row in rows]
        add = "INSERT INTO feedback (user_id, row) VALUES (?, ?)"
        return self._write(lambda db: db.executemany(add, told).rowcount if told else 0)

    def feedback(self, after: int, limit: int) -> list[tuple[int, Row]]:
        rows = self._read("SELECT number, row FROM feedback WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
        return [(number, json.loads(text)) for number, text in rows]

    def popular(self, limit: int) -> list[tuple[str, float]]:
        return [(product, float(weight)) for product, weight in self._read(POPULAR, (LATELY, limit))]

    def note(self, name: str, row: Row) -> None:
        self._write(lambda db: db.execute("REPLACE INTO notes VALUES (?, ?)", (name, packed(row))).rowcount)

    def renote(self, name: str, before: Row | None, row: Row) -> bool:
        new, old = packed(row), None if before is None else packed(before)

        def work(db: sqlite3.Connection) -> int:
            found = db.execute("SELECT row FROM notes WHERE name = ?", (name,)).fetchone()
            if (found and found[0]) != old:
                return 0
            return db.execute("REPLACE INTO notes VALUES (?, ?)", (name, new)).rowcount

        return bool(self._write(work))

    def noted(self, name: str) -> Row | None:
        rows = self._read("SELECT row FROM notes WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def users(self) -> list[str]:
        return [one for (one,) in self._read(USERS, ())]

    def forget(self, user_id: str) -> int:
        """As the protocol says; the erased bytes are overwritten, in the log, too."""
        deletions = [f"DELETE FROM {table} WHERE user_id = ?" for table in ("events", "feedback")]  # noqa: S608
        erased = self._write(lambda db: sum(db.execute(one, (user_id,)).rowcount for one in deletions))
        with self._told("erase from the log of"), self._connection() as db:
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise StoreError(
                f"{erased} rows are erased, but {self.path}-wal is being read and still holds them", "forget once more"
            )
        return erased

    def close(self) -> None:
        """Waits for calls that are under way in other threads: SQLite crashes where a connection in use is closed."""
        self._closed = True
        for one in self._open:
            with one.lock:
                one.db.close()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._told("read"), self._connection() as db:
            return db.execute(query, values).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], int]) -> int:
        with self._told("write to"):
            return self._commits.run(work)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's own, for the time of the block: readers never wait for a writer's sync."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            db = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            self._local.held = held = _Held(db, threading.Lock())
            self._open.append(held)
        with held.lock:
            if self._closed:
                raise sqlite3.ProgrammingError("it is closed")
            yield held.db

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """SQLite's errors in words."""
        try:
            yield
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            raise StoreError(f"cannot {what} {self.path}: {error}", _hint(error)) from error


class _Held(NamedTuple):
    """A connection, and who uses it now."""

    db: sqlite3.Connection
    lock: threading.Lock


class _Commits:
    """Group commit: whoever gets the lock does the work of all that wait for it, in one transaction."""

    def __init__(self, connection: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()

    def run(self, work: Callable[[sqlite3.Connection], int]) -> int:
        job = _Job(work)
        self._waiting.append(job)
        with self._lock:
            if not job.done:
                self._commit([self._waiting.popleft() for _ in range(len(self._waiting))])
        if job.error is not None:
            raise job.error
        return job.result

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            with self._connection() as db:
                _together(db, jobs)
        except BaseException as error:  # all of them failed: none may take the others' silence for success
            for job in jobs:
                job.error = job.error or error
        for job in jobs:
            job.done = True


def _together(db: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for job in jobs:
            job.run(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


class _Job:
    def __init__(self, work: Callable[[sqlite3.Connection], int]) -> None:
        self._work = work
        self.result = 0
        self.done = False
        self.error: BaseException | None = None

    def run(self, db: sqlite3.Connection) -> None:
        """A job that fails leaves nothing behind, and the others' work as it is."""
        db.execute("SAVEPOINT job")
        try:
            self.result = self._work(db)
        except (
            sqlite3.IntegrityError,
            sqlite3.ProgrammingError,
            sqlite3.DataError,
            ValueError,
            OverflowError,
        ) as error:
            self.error = error
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")


def _put(db: sqlite3.Connection, rows: Sequence[tuple[str, str | None]]) -> int:
    db.executemany(PUT, rows)
    return int(db.execute("SELECT ifnull(max(revision), 0) FROM products").fetchone()[0])


def _make(path: Path) -> None:
    """An empty file that only its owner reads; SQLite gives its log the same rights."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(
            f"cannot open the store {path}: {error.strerror}", "give a file in a folder that can be written"
        ) from None


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; refuse one that is another's."""
    db.execute("BEGIN IMMEDIATE")  # of several processes that start at once, one makes the tables
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    if (version, owner) == (0, 0) and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in TABLES.strip().split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
    elif (version, owner) != (SCHEMA, APPLICATION):
        db.execute("ROLLBACK")
        raise StoreError(f"{path} is no event store of this version", "give another file, or move this one away")
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")


def _hint(error: Exception) -> str:
    text = str(error)
    if "closed" in text:
        return "open it again"
    if "locked" in text or "busy" in text:
        return "another process holds it for long; see who has it open"
    if "full" in text:
        return "make room on its disk; nothing of this call was kept"
    if "not a database" in text or "malformed" in text:
        return "it is damaged, or another program's: restore it from a copy, or give another file"
    return "see that its disk is there and can be written, and that ids and times are sound"
