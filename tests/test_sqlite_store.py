"""SQLite's store in a process that has many threads: closed while they work, and short of connections."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

from synthrec import stores
from synthrec.stores import Event, StoreError

CLOSING = """
import sys, threading, time
from synthrec import stores

for number in range(40):
    store = stores.open(f"sqlite:///{sys.argv[1]}/{number}.sqlite")
    store.put_products([{"product_id": str(n), "text": "x" * 200} for n in range(1_000)])

    def ask(call, refused=[]):
        try:
            while True:
                call()
        except stores.StoreError as error:
            assert "closed" in str(error), error

    calls = [lambda: store.changes(0, 1_000), lambda: store.note("a", {}), lambda: store.noted("a")] * 2
    threads = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    store.close()
    for thread in threads:
        thread.join()
"""


def test_closing_it_while_others_use_it_ends_their_calls_and_not_the_process(tmp_path):
    """As where a replica stops: SQLite crashes where a connection is closed in the middle of a call."""
    done = subprocess.run([sys.executable, "-c", CLOSING, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_another_thread_failed_to_commit_is_not_acknowledged(tmp_path, monkeypatch):
    """Writers that wait are committed by one of them, which may get no connection while the others have theirs."""
    path = tmp_path / "s.sqlite"
    store = stores.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    told, go = {}, threading.Event()

    def add(name):
        event = Event(name, "ann", "p", "view", datetime(2026, 11, 27, tzinfo=UTC))
        try:
            told[name] = store.add_events([event])
        except StoreError as error:
            told[name] = str(error)

    def later():
        store.history("ann", 1)  # with a connection of its own from now on
        go.wait()
        add("third")

    def none(*args, **options):
        raise sqlite3.OperationalError("unable to open database file")

    threads = [
        threading.Thread(target=later),
        *(threading.Thread(target=add, args=(one,)) for one in ("first", "second")),
    ]
    threads[0].start()
    other.execute("BEGIN IMMEDIATE")
    threads[1].start()
    time.sleep(0.2)  # the first has the lock, and waits for the other program
    monkeypatch.setattr(sqlite3, "connect", none)
    threads[2].start()
    time.sleep(0.2)
    go.set()
    time.sleep(0.2)
    other.execute("ROLLBACK")
    for thread in threads:
        thread.join(20)
    other.close()
    assert "unable to open" in str(told["second"])
    kept = {one.event_id for one in store.history("ann", 9)}
    store.close()
    acknowledged = {name for name, done in told.items() if isinstance(done, int)}  # 0: kept before
    assert kept == acknowledged >= {"first"}
