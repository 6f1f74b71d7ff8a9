"""Keys, rates, places, logs: who gets in, how often, and what is written of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from serve_app import guard, keys, logs
from serve_app.limits import Buckets, Full, Room
from synthrec.cli import app
from synthrec.errors import UserError


def test_a_key_is_known_by_its_hash_alone(tmp_path):
    path = tmp_path / "keys.json"
    text = keys.add(path, "shop", ["read"])
    assert text.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    holder = keys.Keyring(path).holder(text)
    assert holder is not None
    assert (holder.name, holder.scopes) == ("shop", ("read",))


@given(place=st.integers(0, 59), char=st.characters(codec="utf-8"))
def test_one_character_off_is_another_key(place, char, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    text = keys.add(path, "shop", ["read"])
    wrong = text[:place] + char + text[place + 1 :]
    assert wrong == text or keys.Keyring(path).holder(wrong) is None


@pytest.mark.parametrize("text", ["", "sr_", "sr_0_0", "x" * 10_000, "sr_" + "0" * 12 + "_" + "a" * 43])
def test_what_is_no_key_lets_nobody_in(tmp_path, text):
    path = tmp_path / "keys.json"
    keys.add(path, "shop", ["read"])
    assert keys.Keyring(path).holder(text) is None


def test_rotation_needs_no_restart(tmp_path):
    path = tmp_path / "keys.json"
    old = keys.add(path, "old", ["read"])
    ring = keys.Keyring(path)
    new = keys.add(path, "new", ["read"])
    assert ring.holder(new) is not None
    keys.revoke(path, ring.holder(old).id)
    assert ring.holder(old) is None
    assert ring.holder(new) is not None


def test_a_key_that_is_added_brings_back_none_that_is_revoked(tmp_path):
    path = tmp_path / "keys.json"
    idents = [keys.add(path, f"k{n}", ["read"]).split("_")[1] for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(keys.revoke, path, one) for one in idents]
        jobs += [pool.submit(keys.add, path, f"n{n}", ["read"]) for n in range(8)]
        for job in jobs:
            job.result()
    found = keys.read(path)
    assert len(found) == 16
    assert {key.id for key in found if key.revoked} == set(idents)


def test_a_damaged_open_or_lost_file_lets_nobody_in(tmp_path):
    path = tmp_path / "keys.json"
    text = keys.add(path, "shop", ["read"])
    ring, whole = keys.Keyring(path), path.read_bytes()
    path.write_bytes(whole[:20])
    assert ring.holder(text) is None
    path.write_bytes(whole)
    assert ring.holder(text) is not None
    path.chmod(0o644)
    assert ring.holder(text) is None
    path.unlink()
    assert ring.holder(text) is None
    with pytest.raises(UserError, match="cannot read"):
        keys.Keyring(path)


def test_the_command_line_adds_lists_and_revokes(tmp_path):
    path, run = tmp_path / "keys.json", CliRunner().invoke
    made = run(app, ["keys", "add", "web", "--scope", "read", "--scope", "write", "--rate", "5", "-f", str(path)])
    text = made.output.strip().splitlines()[-1]
    listed = json.loads(run(app, ["keys", "list", "-f", str(path)]).output)
    assert [(one["name"], one["scopes"], one["rate"]) for one in listed] == [("web", ["read", "write"], 5.0)]
    assert "digest" not in listed[0]
    assert run(app, ["keys", "revoke", listed[0]["id"], "-f", str(path)]).exit_code == 0
    assert keys.Keyring(path).holder(text) is None
    assert json.loads(run(app, ["keys", "list", "-f", str(path)]).output)[0]["revoked"]


@pytest.mark.parametrize(
    ("path", "scope"),
    [("/v1/search", "read"), ("/v1/events", "write"), ("/v1/admin/bundle", "admin"), ("/metrics", "read")],
)
def test_what_each_path_needs(path, scope):
    assert guard.scope_of(path) == scope


def test_a_bucket_gives_its_burst_and_then_its_rate():
    now = [0.0]
    buckets = Buckets(lambda: now[0])
    assert [buckets.wait("a", 10, 3) for _ in range(3)] == [0, 0, 0]
    assert buckets.wait("a", 10, 3) == pytest.approx(0.1)
    assert buckets.wait("b", 10, 3) == 0  # each name has its own
    now[0] = 0.1
    assert buckets.wait("a", 10, 3) == 0
    assert buckets.wait("a", 10, 3) > 0
    now[0] = 100
    assert [buckets.wait("a", 10, 3) for _ in range(4)].count(0) == 3  # no more than the burst is saved up
    now[0] += 60
    assert buckets.wait("a", 10, 3) == 0
    buckets.charge("a", 11)  # two are there, nine are owed
    assert buckets.wait("a", 10, 3) == pytest.approx(1.0)
    buckets.charge("nobody", 1)
    assert buckets.wait("nobody", 10, 3) == 0


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 50),
    gaps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_a_bucket_never_gives_more_than_burst_and_rate_allow(rate, burst, gaps):
    now, given_ = 0.0, 0
    buckets = Buckets(lambda: now)
    for gap in gaps:
        now += gap
        given_ += buckets.wait("a", rate, burst) == 0
    assert given_ <= burst + rate * now + 1e-6


def test_a_room_seats_benches_and_turns_away():
    async def visit():
        room, done, leave = Room(2, 1), [], asyncio.Event()

        async def guest(name):
            async with room:
                done.append(name)
                await leave.wait()

        guests = [asyncio.create_task(guest(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert (done, room.inside, room.waiting) == (["a", "b"], 2, 1)
        with pytest.raises(Full):
            async with room:
                pass
        guests[2].cancel()  # who gives up makes room
        await asyncio.sleep(0)
        assert room.waiting == 0
        leave.set()
        await asyncio.gather(*guests[:2])
        async with room:
            assert room.inside == 1

    asyncio.run(visit())


BRACKETS = st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=40)


def deepest(value):
    return 1 + max(map(deepest, value), default=0)


@given(value=BRACKETS, text=st.text())
def test_depth_is_that_of_the_json(value, text):
    body = json.dumps([value, {text: text + '[{"\\'}], ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert guard.depth(body, 0) == max(2, 1 + deepest(value))


def test_logs_mask_personal_data():
    record = logging.LogRecord("x", logging.INFO, "", 0, "request", (), None)
    record.facts = {"query": "call 13812345678 or anna@shop.example", "route": "/v1/search"}
    line = json.loads(logs.Lines().format(record))
    assert "13812345678" not in line["query"]
    assert "anna" not in line["query"]
    assert line["route"] == "/v1/search"


def test_a_key_costs_little_to_check(tmp_path):
    """Every request pays it: at most a tenth of a millisecond of processor, on a busy machine."""
    path = tmp_path / "keys.json"
    text = keys.add(path, "shop", ["read"])
    ring = keys.Keyring(path)
    start = time.process_time()
    for _ in range(500):
        ring.holder(text)
    assert time.process_time() - start < 500 * 1e-4
