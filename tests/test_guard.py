"""The guard: who may ask what and how often, and a service that is full, slow, or without its store."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app import keys, service
from synthrec.client import ApiError, Client
from tests import little_bundle

pytestmark = pytest.mark.usefixtures("one_thread")
KEYS = {"read": ["read"], "write": ["write"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory, one_thread):
    folder = tmp_path_factory.mktemp("guarded")
    little_bundle.make(folder / "one", whole=False)
    return folder


@pytest.fixture
def where(root, tmp_path, monkeypatch):
    """A service's home, with a store of its own."""
    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
    return little_bundle.home(root, store=f"sqlite:///{tmp_path}/store.sqlite")


@pytest.fixture
def held(tmp_path):
    """Keys by name, and their file."""
    path = tmp_path / "keys.json"
    return {name: keys.add(path, name, scopes) for name, scopes in KEYS.items()}, path


@pytest.fixture
def api(where, held):
    with little_bundle.served(where, keys=str(held[1])) as client:
        yield client


def test_without_a_key_only_health_is_answered(api, held):
    paths = api.get("/openapi.json", headers={"x-api-key": held[0]["read"]}).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            reply = api.request(method, path, json={} if method == "post" else None)
            assert reply.status_code == (200 if path == "/healthz" else 401), path
    for path in ("/docs", "/openapi.json", "/nothing"):
        assert api.get(path).status_code == 401
    wrong = api.get("/v1/bundle", headers={"authorization": "Bearer " + held[0]["read"][:-1] + "!"})
    assert wrong.status_code == 401
    assert wrong.headers["www-authenticate"] == "Bearer"


def test_a_key_does_what_its_scopes_say(api, held):
    tried = {
        "read": ("/v1/search", {"query": "pan"}),
        "write": ("/v1/products", {"delete": []}),
        "admin": ("/v1/admin/rollback", {}),
    }
    for name in ("read", "write"):
        for scope, (path, body) in tried.items():
            reply = api.post(path, json=body, headers={"authorization": f"Bearer {held[0][name]}"})
            assert reply.status_code == (200 if scope == name else 403), (name, scope)


def test_a_key_that_asks_too_often_is_told_to_wait(api, held):
    slow = keys.add(held[1], "slow", ["read"], rate=1)
    replies = [api.get("/v1/bundle", headers={"x-api-key": slow}) for _ in range(8)]
    assert replies[0].status_code == 200
    refused = [one for one in replies if one.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert api.get("/v1/bundle", headers={"x-api-key": held[0]["read"]}).status_code == 200


def test_what_is_refused_is_counted_where_it_was_asked(api, held):
    api.post("/v1/search", json={"query": "pan"})
    api.post("/v1/search", content="pan", headers={"x-api-key": held[0]["read"]})
    api.get("/v1/search/no-such", headers={"x-api-key": held[0]["read"]})
    counts = api.get("/metrics", headers={"x-api-key": held[0]["read"]}).text
    told = {
        (m["route"], m["status"])
        for m in re.finditer(r'_total{.*route="(?P<route>.*)",status="(?P<status>.*)"}', counts)
    }
    assert {("/v1/search", "401"), ("/v1/search", "415"), ("unmatched", "404")} <= told
    assert "no-such" not in counts


def test_a_body_that_never_comes_keeps_no_place_without_a_key(api):
    """A page's file is answered without a key, so nothing of the request is waited for."""
    start = time.monotonic()
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=5) as slow:
        slow.sendall(b"POST /main.js HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 405")
    assert time.monotonic() - start < 5
    assert api.get("/main.js").status_code == 200


def test_each_search_of_a_batch_counts(api, held):
    slow = {"x-api-key": keys.add(held[1], "slow", ["read"], rate=2)}  # and four saved up
    batch = {"searches": [{"query": "pan", "weight": 0}] * 24}
    assert api.post("/v1/search/batch", json=batch, headers=slow).status_code == 200
    refused = api.post("/v1/search", json={"query": "pan"}, headers=slow)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 5, "twenty are owed, ten seconds' worth"
    assert api.post("/v1/search/batch", json=batch, headers={"x-api-key": held[0]["read"]}).status_code == 200


def test_a_full_service_sends_away_at_once_and_recovers(where):
    few = {"max_ongoing_requests": 1, "max_queued_requests": 2, "retry_after_seconds": 3, "timeout_seconds": 60}
    with little_bundle.served(where, **few) as api:
        body = {"searches": [{"query": f"pan {number}"} for number in range(8)]}
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda _: api.post("/v1/search/batch", json=body), range(16)))
        busy = [one for one in replies if one.status_code == 503]
        assert {one.status_code for one in replies} == {200, 503}
        assert {one.headers["retry-after"] for one in busy} == {"3"}
        assert busy[0].json()["type"] == "urn:synthrec:problem:busy"
        assert api.post("/v1/search", json={"query": "pan"}).status_code == 200


def test_a_full_service_still_rolls_back(where):
    few = {"max_ongoing_requests": 1, "max_queued_requests": 0, "timeout_seconds": 60, "cached_queries": 0}
    with little_bundle.served(where, **few) as api, ThreadPoolExecutor(1) as pool:
        body = {"searches": [{"query": f"{number} pan for eggs " * 20} for number in range(64)]}
        slow, until = None, time.monotonic() + 30
        while api.post("/v1/search", json={"query": "pan"}).status_code != 503:
            if slow is None or slow.done():  # refused, where the search had the place
                slow = pool.submit(api.post, "/v1/search/batch", json=body)
            assert time.monotonic() < until, "it is never full"
        assert api.post("/v1/admin/rollback").status_code == 409, "answered, though there is nothing to go back to"
        assert slow.result().status_code == 200


def test_one_bad_entry_gives_up_the_place_of_its_whole_batch(where, monkeypatch):
    """The others do not go on without one."""
    begun = []
    searched = service.Service.searched

    async def counted(self, work):
        def slow():
            begun.append(time.sleep(0.05))
            return work()

        return await searched(self, slow)

    monkeypatch.setattr(service.Service, "searched", counted)
    with little_bundle.served(where) as api:
        good = [{"query": "pan", "weight": 0}] * 40
        reply = api.post("/v1/search/batch", json={"searches": [*good, {"query": "pan", "page": 100, "k": 100}]})
        assert reply.status_code == 422
        assert reply.json()["detail"].startswith("#/searches/40: ")
        time.sleep(0.5)
        assert len(begun) <= 2, "what a thread had in hand"
        wrong = {"query": "pan", "filters": {"attributes": {"no such": ["x"]}}}
        reply = api.post("/v1/search/batch", json={"searches": [{"query": "pan"}, wrong]})
        assert (reply.status_code, reply.json()["detail"][:13]) == (422, "#/searches/1:")


def test_searches_go_on_without_the_store_and_nobody_reads_where_it_is(where, tmp_path):
    with little_bundle.served(where) as api:
        for name in ("store.sqlite", "store.sqlite-wal"):
            (tmp_path / name).write_bytes(b"torn" * 4096)
        event = {"event_id": "e", "user_id": "anna", "product_id": "KIT01", "kind": "view"}
        reply = api.post("/v1/events", json={"events": [event]})
        assert reply.status_code == 503, reply.text
        assert "sqlite" not in reply.text
        assert api.post("/v1/search", json={"query": "pan"}).status_code == 200


def test_a_request_that_takes_too_long_is_cut_off(where):
    with little_bundle.served(where, timeout_seconds=0.05) as api:
        body = {"searches": [{"query": f"pan {number}"} for number in range(64)]}
        reply = api.post("/v1/search/batch", json=body)
        assert (reply.status_code, reply.json()["status"]) == (504, 504)


def test_the_client_says_how_to_mend_it(api, held):
    with Client(str(api.base_url), key=held[0]["read"]) as shop, pytest.raises(ApiError, match="#/k") as invalid:
        shop.search("pan", k=1000)
    assert invalid.value.status == 422
    assert invalid.value.errors[0]["pointer"] == "#/k"
    with Client(str(api.base_url)) as nobody, pytest.raises(ApiError) as refused:
        nobody.bundle()
    assert refused.value.status == 401
    assert "synthrec keys add" in refused.value.hint
    with Client("http://127.0.0.1:9", timeout=2) as nowhere, pytest.raises(ApiError, match="cannot reach"):
        nowhere.bundle()
