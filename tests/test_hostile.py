"""Requests that mean harm, or nothing: whatever comes, the reply is a problem in words and nothing of the inside."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app import keys
from serve_app.api import routes
from synthrec.recommenders.bi_encoder import BiEncoder
from tests import little_bundle

pytestmark = pytest.mark.usefixtures("one_thread")

INSIDE = re.compile(r'Traceback|File "|\.py\b|/tmp/|site-packages|pydantic|sqlite|0x[0-9a-f]{8}', re.IGNORECASE)
ROUTES = [(path, method) for path, methods in routes().openapi()["paths"].items() for method in methods]
NAMES = "query k page filters weight rerank explain user_id product_id history turns text events upsert delete"
FIELDS = st.sampled_from(NAMES.split())
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=40))
SCALARS |= st.sampled_from(
    ["../../etc/passwd", "'; DROP TABLE events;--", "{{7*7}}", "$(id)", "\x00", "\u202e", "KIT01"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=8), inner, max_size=4),
)
BODIES = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=5).map(lambda body: json.dumps(body).encode()),
    VALUES.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=200),
    st.integers(1, 3000).map(lambda deep: b'{"query":' * deep + b"1" + b"}" * deep),
    st.integers(1, 5000).map(lambda digits: b'{"query": "pan", "k": ' + b"9" * digits + b"}"),
)
HTTPX = ("method", "url", "headers", "json", "content", "params")


@pytest.fixture(scope="module")
def service(tmp_path_factory, one_thread):
    """A client, and a key of every scope but admin: swaps are not to be tried at random."""
    root = tmp_path_factory.mktemp("hostile")
    little_bundle.make(root / "one", BiEncoder.load("embedded"), whole=False)
    key = keys.add(root / "keys.json", "fuzz", ["read", "write"], rate=1e6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
        with little_bundle.served(little_bundle.home(root), keys=str(root / "keys.json"), rate=1e6) as client:
            yield client, key


def check(reply):
    assert reply.status_code < 500 or reply.status_code == 503, reply.text
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        told = reply.json()
        # What the client sent may be named back to it; what is ours may not.
        assert not INSIDE.search(told["title"] + told.get("hint", "")), told
        assert "Traceback" not in reply.text


def send(client, route, body, key):
    path, method = route
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    check(client.request(method, path, content=body if method == "post" else None, headers=headers))


def test_a_string_that_is_never_closed_is_read_once(service):
    """A megabyte of escaped quotes: read from each of them anew it would take an hour, and nobody else an answer."""
    body = b'{"query":' + b"[" * 17 + b'"' + b'\\"' * 450_000
    client, key = service
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    assert client.post("/v1/search", content=body, headers=headers).status_code == 400


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES), body=BODIES)
def test_random_requests(service, route, body):
    send(service[0], route, body, service[1])


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), route=st.sampled_from(ROUTES))
def test_wrong_keys(service, key, route):
    path, method = route
    reply = service[0].request(method, path, headers={"authorization": f"Bearer {key}"})
    assert reply.status_code == (200 if path == "/healthz" else 401)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_random_paths(service, path):
    url = "/" + path.replace("#", "").replace("?", "").replace("\\", "/").lstrip("/")
    try:
        reply = service[0].get(url, headers={"authorization": f"Bearer {service[1]}"})
    except httpx.InvalidURL:
        return
    check(reply)


@pytest.mark.slow
def test_ten_thousand_requests_made_from_the_description(service):
    """By schemathesis, which breaks what OpenAPI says in every way that it knows, on every route in turn."""
    import schemathesis
    from schemathesis import GenerationMode

    client, key = service
    each = -(-10_000 // len(ROUTES))
    described = schemathesis.openapi.from_dict(routes().openapi())
    for found in described.get_all_operations():
        operation = found.ok()
        if operation.method == "get":
            cases = operation.as_strategy()
        else:
            cases = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) | operation.as_strategy()

        @settings(max_examples=each, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=cases)
        def attack(case):
            headers = {"authorization": f"Bearer {key}"}
            made = case.as_transport_kwargs(base_url=str(client.base_url), headers=headers)
            made["content"] = made.get("data")
            check(client.request(**{name: value for name, value in made.items() if name in HTTPX}))

        attack()
