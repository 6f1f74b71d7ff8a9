"""What is Redis's own in the event store: a server killed and started again, its settings, its log."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from redis_server import RedisServer

from synthrec import stores
from synthrec.stores import Event, StoreError

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def store(redis_server):
    redis_server.empty()
    opened = stores.open(redis_server.url)
    yield opened
    opened.close()


@pytest.fixture
def mortal(redis_server, tmp_path):
    """A server that a test may kill."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


class Writer(threading.Thread):
    """Writes until told to stop; `acknowledged` holds the numbers that the store said it has."""

    def __init__(self, url, name):
        super().__init__(daemon=True)
        self.store, self.name, self.stop = stores.open(url), name, False
        self.acknowledged, self.products, self.asked = [], {}, 0
        self.start()

    def run(self):
        while not self.stop:
            number = f"{self.name}-{self.asked}"
            self.asked += 1
            try:
                assert self.store.add_events([Event(number, "ann", "p", "view", NOON)]) == 1
                revision = self.store.put_products([{"product_id": number}])
                assert self.store.add_feedback([{"user_id": "ann", "number": number}]) == 1
            except StoreError:
                continue
            self.acknowledged.append(number)
            self.products[number] = revision


def test_no_acknowledged_write_is_lost_or_doubled_when_the_server_is_killed(mortal):
    writers = [Writer(mortal.url, str(worker)) for worker in range(3)]
    for _ in range(4):
        wait_for_more(writers, 25)
        mortal.kill()
        time.sleep(0.1)
        mortal.start()
    wait_for_more(writers, 5)
    for one in writers:
        one.stop = True
    for one in writers:
        one.join(30)
        assert not one.is_alive()
    store = stores.open(mortal.url)
    acknowledged = [number for one in writers for number in one.acknowledged]
    events = [one.event_id for one in store.history("ann", 10**6)]
    said = [row["number"] for _, row in store.feedback(0, 10**6)]
    products = {one.product_id: one.revision for one in store.changes(0, 10**6)}
    store.close()
    assert len(acknowledged) >= 300
    assert set(acknowledged) <= set(events)
    assert set(acknowledged) <= set(said)
    assert len(said) == len(set(said)), "a call was sent again and done twice"
    for one in writers:
        assert one.products.items() <= products.items()


def wait_for_more(writers, count):
    """Until each has written so many more."""
    want, end = [len(one.acknowledged) + count for one in writers], time.monotonic() + 60
    while any(len(one.acknowledged) < least for one, least in zip(writers, want, strict=True)):
        assert time.monotonic() < end, "nothing is written any more"
        time.sleep(0.005)


def test_an_answer_that_is_lost_is_asked_for_again_and_the_work_done_once(store, monkeypatch):
    """The connection breaks after the server did the work and before its answer is read."""
    from redis.connection import Connection
    from redis.exceptions import ConnectionError

    real, broken = Connection.read_response, []

    def breaks(self, *args, **kwargs):
        answer = real(self, *args, **kwargs)
        if not broken and answer == 2:
            broken.append(answer)
            self.disconnect()
            raise ConnectionError("lost")
        return answer

    store.add_feedback([{"n": 0}])  # the script is known to the server from now on
    monkeypatch.setattr(Connection, "read_response", breaks)
    assert store.add_feedback([{"n": 1}, {"n": 2}]) == 2
    assert broken
    assert [row["n"] for _, row in store.feedback(0, 9)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("appendonly", "no", "appendonly no"),
        ("appendfsync", "everysec", "CONFIG SET appendfsync always"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite yes"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy allkeys-lru"),
    ],
)
def test_a_server_that_would_lose_writes_is_refused(mortal, name, value, words):
    mortal.client().config_set("maxmemory", "100mb")
    stores.open(mortal.url).close()
    mortal.client().config_set(name, value)
    with pytest.raises(StoreError, match="would lose writes it acknowledged") as told:
        stores.open(mortal.url)
    assert words in str(told.value)


def test_a_server_that_does_not_tell_its_settings_is_warned_of(mortal, caplog):
    mortal.client().acl_setuser(
        "shop", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-config"]
    )
    url = mortal.url.replace("//", "//shop:secret@")
    store = stores.open(url)
    assert store.put_products([{"product_id": "a"}]) == 1
    assert "does not tell how it persists" in caplog.text
    store.close()
    with pytest.raises(StoreError, match="password") as told:
        stores.open(url.replace("secret", "guess"))
    assert "guess" not in str(told.value)


def test_forgetting_leaves_no_byte_in_the_log(mortal, tmp_path):
    store = stores.open(mortal.url)
    store.add_events([Event(f"e{n}", "the-forgotten-one", "p", "view", NOON) for n in range(50)])
    store.add_events([Event("e", "bob", "p", "view", NOON)])
    store.add_feedback([{"user_id": "the-forgotten-one"}])
    assert store.forget("the-forgotten-one") == 51
    logs = list((tmp_path / "appendonlydir").iterdir())
    left = b"".join(path.read_bytes() for path in logs)
    store.close()
    assert b"bob" in left
    assert b"the-forgotten-one" not in left


def test_forgetting_that_failed_halfway_is_made_whole_when_it_is_asked_again(mortal, tmp_path, monkeypatch):
    import synthrec.stores.redis as room

    store = stores.open(mortal.url)
    store.add_events([Event("e", "the-forgotten-one", "p", "view", NOON)])
    with monkeypatch.context() as hurry, pytest.raises(StoreError, match="still holds them"):
        hurry.setattr(room, "REWRITE_SECONDS", 0.0)
        store.forget("the-forgotten-one")
    assert store.forget("the-forgotten-one") == 0
    store.close()
    left = b"".join(path.read_bytes() for path in (tmp_path / "appendonlydir").iterdir())
    assert b"the-forgotten-one" not in left


def test_popularity_follows_what_comes_what_grows_old_and_who_is_forgotten(store, redis_server, monkeypatch):
    import synthrec.stores.redis as room

    monkeypatch.setattr(room, "LATELY", 6)
    numbers = iter(range(99))

    def add(*given):
        rows = [(next(numbers), product, user) for product, user in given]
        store.add_events([Event(f"e{n}", u, p, "view", NOON + timedelta(minutes=n), 0.1) for n, p, u in rows])

    def popular(limit=9):
        """As this store counts it, and as one that is opened now."""
        other = stores.open(redis_server.url)
        found, anew = store.popular(limit), other.popular(limit)
        other.close()
        assert [one for one, _ in found] == [one for one, _ in anew]
        assert [weight for _, weight in found] == pytest.approx([weight for _, weight in anew])
        return [(one, round(10 * weight)) for one, weight in found]

    assert popular() == []
    add(("a", "ann"), ("b", "bob"), ("a", "bob"), ("c", "ann"), ("c", "ann"))
    assert popular() == [("a", 2), ("c", 2), ("b", 1)]
    assert popular(1) == [("a", 2)]
    add(("d", "bob"), ("d", "ann"), ("d", "bob"))
    assert popular() == [("d", 3), ("c", 2), ("a", 1)]
    store.forget("ann")
    assert popular() == [("d", 2), ("a", 1)]
    add(*[("e", "cy")] * 20)
    assert popular() == [("e", 6)]


def test_popularity_is_read_and_not_counted(store, redis_server):
    """A replica that starts beside a long history asks for what it shows, and for no event."""
    rows = [Event(f"e{n}", f"u{n % 50}", f"p{n % 300:03}", "view", NOON, 1.0 + n % 3) for n in range(3_000)]
    for start in range(0, len(rows), 500):
        store.add_events(rows[start : start + 500])
    client = redis_server.client()
    before = client.info("commandstats")
    other = stores.open(redis_server.url)
    found = other.popular(5)
    other.close()
    after = client.info("commandstats")
    assert after.get("cmdstat_hmget") == before.get("cmdstat_hmget")
    assert after["cmdstat_hget"]["calls"] == before["cmdstat_hget"]["calls"]
    assert found == [(f"p{n:03}", 30.0) for n in (2, 5, 8, 11, 14)]


def test_equals_in_popularity_are_in_the_order_of_their_ids(store):
    store.add_events([Event(f"e{one}", "ann", one, "view", NOON, 0.3) for one in ("b", "锅", "a", "p\x00q", "c")])
    store.add_events([Event(f"f{one}", "bob", one, "cart", NOON, 3.0) for one in ("c", "a")])
    assert [one for one, _ in store.popular(9)] == ["a", "c", "b", "p\x00q", "锅"]


def test_a_store_of_the_first_version_has_its_popularity_counted_once(store, redis_server):
    store.add_events([Event(f"e{n}", f"u{n % 2}", f"p{n % 3}", "view", NOON) for n in range(7)])
    store.forget("u1")
    want, client = store.popular(9), redis_server.client()
    client.delete("synthrec:popular", "synthrec:counts")
    client.set("synthrec:schema", "1")
    for _ in range(2):
        other = stores.open(redis_server.url)
        assert other.popular(9) == want == [("p0", 2.0), ("p1", 1.0), ("p2", 1.0)]
        other.close()
    store.forget("u0")
    assert store.popular(9) == []


def test_what_others_keep_in_the_database_is_left_alone(redis_server):
    redis_server.empty()
    redis_server.client().set("theirs", "1")
    store = stores.open(redis_server.url)
    store.note("a", {"n": 1})
    store.close()
    assert redis_server.client().get("theirs") == "1"
    redis_server.client().set("synthrec:schema", "99")
    with pytest.raises(StoreError, match="of version 99"):
        stores.open(redis_server.url)


def test_a_server_that_is_not_there_is_told(monkeypatch):
    import synthrec.stores.redis as room

    monkeypatch.setattr(room, "ATTEMPTS", 1)
    with pytest.raises(StoreError, match=r"cannot open redis://127\.0\.0\.1:1/0") as told:
        stores.open("redis://shop:secret@127.0.0.1:1/0")
    assert "secret" not in str(told.value)


def test_without_the_package_it_is_told_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "synthrec.stores.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StoreError, match=r"synthrec\[redis\]"):
        stores.open("redis://127.0.0.1:1/0")
