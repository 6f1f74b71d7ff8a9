"""The event store: each kind keeps what it acknowledged, as a dict would, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthrec import stores
from synthrec.stores import Change, Event, StoreError

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
WRITER = Path(__file__).with_name("store_writer.py")


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.sqlite'}"
    server = request.getfixturevalue("redis_server")
    server.empty()
    return server.url


@pytest.fixture
def store(url):
    opened = stores.open(url)
    yield opened
    opened.close()


def event(number, user="ann", minute=0, **more):
    return Event(f"e{number}", user, f"p{number}", "view", NOON + timedelta(minutes=minute), **more)


# What one call does.


def test_a_note_is_replaced_by_whoever_knows_what_it_says(store):
    first, second = {"bundle": "锅", "percent": 12.5, "at": None}, {"bundle": "b"}
    assert not store.renote("plan", second, first), "there is none yet"
    assert store.noted("plan") is None
    assert store.renote("plan", None, first)
    assert not store.renote("plan", None, second)
    assert not store.renote("plan", second, second)
    assert store.noted("plan") == first
    assert store.renote("plan", store.noted("plan"), second)
    assert store.noted("plan") == second


def test_of_many_who_replace_a_note_at_once_one_does(store):
    store.note("plan", {"n": 0})
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.renote("plan", {"n": 0}, {"n": n}), range(1, 25)))
    assert won.count(True) == 1
    assert store.noted("plan") == {"n": won.index(True) + 1}


def test_history_is_oldest_first_and_of_one_instant_as_it_came(store):
    given = [event(1, minute=5), event(2, minute=1), event(3, minute=5), event(4, "bob"), event(5, minute=3)]
    assert store.add_events(given[:2]) == 2
    assert store.add_events(given[2:]) == 3
    assert [one.event_id for one in store.history("ann", 10)] == ["e2", "e5", "e1", "e3"]
    assert [one.event_id for one in store.history("ann", 2)] == ["e1", "e3"]
    assert store.history("carl", 10) == []


def test_an_event_comes_back_whole(store):
    east = timezone(timedelta(hours=8))
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=east)
    given = Event("e", "用户 'x'; --", "p\x00q", "cart", when, 0.25)
    store.add_events([given])
    (found,) = store.history(given.user_id, 1)
    assert found == given
    assert found.at.utcoffset() == timedelta(0)


def test_an_event_sent_twice_is_kept_once_as_it_first_was(store):
    assert store.add_events([event(1), event(1, minute=9), event(2)]) == 2
    assert store.add_events([event(1, "bob"), event(3)]) == 1
    assert [(one.event_id, one.at) for one in store.history("ann", 9)] == [("e1", NOON), ("e2", NOON), ("e3", NOON)]
    assert store.history("bob", 9) == []


def test_changes_are_the_latest_state_of_each_product(store):
    assert store.revision() == 0
    assert store.changes(0, 9) == []
    first = store.put_products([{"product_id": "a", "price": 1.5}, {"product_id": "b", "名": "锅"}])
    second = store.put_products([{"product_id": "a", "price": None}])
    third = store.delete_products(["b", "of-the-bundle"])
    assert first < second < third == store.revision()
    found = store.changes(0, 9)
    assert [(one.product_id, one.product) for one in found] == [
        ("a", {"product_id": "a", "price": None}),
        ("b", None),
        ("of-the-bundle", None),
    ]
    assert [one.revision for one in found] == sorted({one.revision for one in found})
    assert store.changes(first, 9) == found
    assert store.changes(0, 1) == found[:1]
    assert store.changes(found[0].revision, 1) == found[1:2]
    assert store.changes(third, 9) == []


def test_nothing_to_write_changes_nothing(store):
    store.put_products([{"product_id": "a"}])
    before = store.revision()
    assert (store.add_events([]), store.add_feedback([])) == (0, 0)
    assert store.put_products([]) == store.delete_products([]) == before


def test_feedback_is_numbered(store):
    rows = [{"user_id": "ann", "query": "锅", "good": True}, {"query": "pan"}, {"user_id": None, "n": 1}]
    assert store.add_feedback(rows) == 3
    found = store.feedback(0, 9)
    assert [row for _, row in found] == rows
    assert store.feedback(found[0][0], 1) == found[1:2]


def test_a_forgotten_shopper_is_gone_and_nobody_else(store):
    store.add_events([event(1), event(2, "bob"), event(3)])
    store.add_feedback([{"user_id": "ann", "n": 1}, {"user_id": "bob", "n": 2}, {"user_id": "cy", "n": 3}, {"n": 4}])
    assert sorted(store.users()) == ["ann", "bob", "cy"]
    assert store.forget("ann") == 3
    assert store.forget("ann") == 0
    assert store.history("ann", 9) == []
    assert sorted(store.users()) == ["bob", "cy"]
    assert [row["n"] for _, row in store.feedback(0, 9)] == [2, 3, 4]
    assert len(store.history("bob", 9)) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.add_events([Event("e", "u", "p", "view", datetime(2026, 1, 1))]), "no zone"),
        (lambda s: s.put_products([{"title": "a pan"}]), "no product_id"),
        (lambda s: s.put_products([{"product_id": "a", "price": float("nan")}]), "JSON"),
        (lambda s: s.put_products([{"product_id": "a", "x": {1, 2}}]), "JSON"),
        (lambda s: s.add_feedback([{"x": b"bytes"}]), "JSON"),
        (lambda s: s.add_events([event(1), Event("e\ud800", "u", "p", "view", NOON)]), "surrogates"),
    ],
)
def test_what_cannot_be_kept_is_told_and_leaves_nothing(store, call, words):
    with pytest.raises(StoreError, match=words) as told:
        call(store)
    assert told.value.hint
    assert (store.history("ann", 9), store.revision(), store.feedback(0, 9)) == ([], 0, [])


def test_what_was_written_is_there_when_opened_again(url, store):
    store.add_events([event(1)])
    store.put_products([{"product_id": "a"}])
    store.close()
    again = stores.open(url)
    assert again.history("ann", 9) == [event(1)]
    assert again.put_products([{"product_id": "b"}]) == 2
    again.close()


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(StoreError, match="cannot read"):
        store.revision()


# Against a model.

IDS = st.sampled_from(["a", "b", "", "用", "a'b", "x:y", "*"])
EVENTS = st.builds(Event, IDS, IDS, IDS, IDS, st.integers(0, 3).map(lambda m: NOON + timedelta(minutes=m)))
PRODUCTS = st.fixed_dictionaries({"product_id": IDS, "n": st.integers(0, 9)})
CALLS = st.one_of(
    st.tuples(st.just("add_events"), st.lists(EVENTS, max_size=4)),
    st.tuples(st.just("put_products"), st.lists(PRODUCTS, max_size=4)),
    st.tuples(st.just("delete_products"), st.lists(IDS, max_size=3)),
    st.tuples(st.just("add_feedback"), st.lists(st.fixed_dictionaries({"user_id": IDS}), max_size=3)),
    st.tuples(st.just("forget"), IDS),
)


class Model:
    """A store of dicts."""

    def __init__(self):
        self.events, self.products, self.said, self.revision = {}, {}, [], 0

    def add_events(self, events):
        new = {}
        for one in events:
            if one.event_id not in self.events | new:
                new[one.event_id] = one
        self.events |= new
        return len(new)

    def put_products(self, rows):
        for row in rows:
            self.revision += 1
            self.products[row["product_id"]] = Change(self.revision, row["product_id"], row)
        return self.revision

    def delete_products(self, ids):
        for one in ids:
            self.revision += 1
            self.products[one] = Change(self.revision, one, None)
        return self.revision

    def add_feedback(self, rows):
        self.said += rows
        return len(rows)

    def forget(self, user):
        events = {key: one for key, one in self.events.items() if one.user_id != user}
        said = [row for row in self.said if row["user_id"] != user]
        gone = len(self.events) - len(events) + len(self.said) - len(said)
        self.events, self.said = events, said
        return gone

    def history(self, user):
        return sorted((one for one in self.events.values() if one.user_id == user), key=lambda one: one.at)

    def changes(self, after):
        return sorted((c for c in self.products.values() if c.revision > after), key=lambda c: c.revision)


@given(calls=st.lists(CALLS, max_size=12), after=st.integers(0, 8), limit=st.integers(1, 5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_does_what_a_dict_would(fresh, calls, after, limit):
    with fresh() as store:
        model = Model()
        for name, given in calls:
            assert getattr(store, name)(given) == getattr(model, name)(given)
        for user in {one.user_id for one in model.events.values()} | {"a"}:
            assert store.history(user, limit) == model.history(user)[-limit:]
        assert store.changes(after, limit) == model.changes(after)[:limit]
        assert store.revision() == model.revision
        assert [row for _, row in store.feedback(0, 99)] == model.said
        assert set(store.users()) == {e.user_id for e in model.events.values()} | {r["user_id"] for r in model.said}


@pytest.fixture
def fresh(request, url, tmp_path):
    """Opens an empty store, each time another."""
    from contextlib import contextmanager

    numbers = iter(range(10_000))

    @contextmanager
    def opened():
        if url.startswith("redis:"):
            request.getfixturevalue("redis_server").empty()
            store = stores.open(url)
        else:
            store = stores.open(f"sqlite:///{tmp_path / f'{next(numbers)}.sqlite'}")
        yield store
        store.close()

    return opened


# Many at once, and killed.


def test_many_threads_lose_and_double_nothing(store):
    def write(worker):
        for number in range(20):
            mine = event(f"{worker}-{number}", f"user{worker}", number)
            assert store.add_events([mine, event("same")]) in (1, 2)
            assert store.history(f"user{worker}", 1) == [mine]
            store.put_products([{"product_id": f"{worker}-{number}"}])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert [len(store.history(f"user{worker}", 99)) for worker in range(8)] == [20] * 8
    assert len(store.history("ann", 99)) == 1
    assert [one.revision for one in store.changes(0, 999)] == list(range(1, 161))


def test_one_bad_write_of_several_committed_together_fails_alone(store):
    gate = threading.Barrier(9)

    def write(number):
        gate.wait()
        bad = Event(f"bad{number}\ud800", "ann", "p", "view", NOON)
        try:
            return store.add_events([event(number), *([bad] if number % 3 == 0 else [])])
        except StoreError:
            return 0

    with ThreadPoolExecutor(9) as pool:
        written = list(pool.map(write, range(9)))
    assert written == [0, 1, 1] * 3
    assert len(store.history("ann", 99)) == 6


def test_no_acknowledged_write_is_lost_when_writers_are_killed(url, store):
    """Writers tell each write after the store acknowledged it; each is killed in the middle of writing."""
    acknowledged, torn = [], 0
    for round_ in range(8):
        writers = [writer(url, f"{round_}-{worker}") for worker in range(2)]
        for one in writers:
            for _ in range(5 + 7 * round_):
                acknowledged.append(json.loads(one.stdout.readline()))
        for one in writers:
            one.send_signal(signal.SIGKILL)
            rest = one.stdout.read().splitlines(keepends=True)
            acknowledged += [json.loads(line) for line in rest if line.endswith("\n")]
            torn += one.wait() == -signal.SIGKILL
    assert torn == 16
    events = {one.event_id for one in store.history("ann", 10**6)}
    products = {one.product_id: one.revision for one in store.changes(0, 10**6)}
    assert len(acknowledged) > 300
    for told in acknowledged:
        assert set(told["events"]) <= events
        assert products[told["product"]] == told["revision"]
    assert all(f"{one.rpartition('.')[0]}.{part}" in events for one in events for part in range(3)), "half a call"


def writer(url, name):
    command = [sys.executable, str(WRITER), url, name]
    path = {"PYTHONPATH": str(WRITER.parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | path)


# SQLite's own.


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "events.sqlite"


def test_its_files_are_its_owners_alone(file):
    store = stores.open(f"sqlite:///{file}")
    store.add_events([event(1)])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    store.close()
    assert modes == {"events.sqlite": 0o600, "events.sqlite-wal": 0o600, "events.sqlite-shm": 0o600}


def test_forgetting_leaves_no_byte_on_the_disk(file):
    store = stores.open(f"sqlite:///{file}")
    store.add_events([event(n, "the-forgotten-one") for n in range(50)])
    store.forget("the-forgotten-one")
    left = b"".join(path.read_bytes() for path in file.parent.iterdir())
    store.close()
    assert b"the-forgotten-one" not in left


def test_a_commit_is_synced_to_the_disk(file):
    store = stores.open(f"sqlite:///{file}")
    with store._connection() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


@pytest.mark.parametrize("contents", [b"no database " * 100, b"PAR1"])
def test_a_file_of_another_kind_is_refused_and_left_alone(file, contents):
    file.parent.mkdir()
    file.write_bytes(contents)
    with pytest.raises(StoreError, match=r"events\.sqlite"):
        stores.open(f"sqlite:///{file}")
    assert file.read_bytes() == contents


def test_another_programs_database_is_refused_and_left_alone(file):
    import sqlite3

    file.parent.mkdir()
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="no event store of this version"):
        stores.open(f"sqlite:///{file}")
    assert file.read_bytes() == before


@pytest.mark.parametrize("url", ["", "events.sqlite", "mysql://x", "sqlite://", "sqlite:///", "sqlite:/x"])
def test_an_unknown_kind_of_store_is_told(url):
    with pytest.raises(StoreError, match="no kind of store"):
        stores.open(url)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the store"):
        stores.open(f"sqlite:///{tmp_path}/file/events.sqlite")
