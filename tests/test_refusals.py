"""What the API refuses over real HTTP, and how every mistake is told."""

from __future__ import annotations

import pytest

from tests import little_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def api(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("bundles")
    little_bundle.make(root / "one", whole=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
        with little_bundle.served(little_bundle.home(root)) as client:
            yield client


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2999-01-01T00:00:00Z"])
def test_an_event_at_a_time_that_cannot_be_is_refused(api, at):
    event = {"event_id": at, "user_id": "timeless", "product_id": "KIT01", "kind": "view", "at": at}
    assert api.post("/v1/events", json={"events": [event]}).status_code == 422
    assert api.post("/v1/recommend", json={"user_id": "timeless"}).json()["hits"]


@pytest.mark.parametrize("number", ["1" * 4301, "x" + "f" * 5000, "0" * 5000 + "65"])
def test_a_letter_whose_number_is_endless_is_no_letter(api, number):
    product = {"product_id": "ENDLESS", "title": "Kettle", "description": f"Steel &#{number}; whistling"}
    assert api.post("/v1/products", json={"upsert": [product]}).status_code == 200
    assert api.post("/v1/products", json={"delete": ["ENDLESS"]}).status_code == 200


def test_pages_of_other_sites_change_nothing(api):
    """A browser sends a POST without a body unasked, and says from where."""
    for origin, status in (("https://evil.example", 403), ("null", 403), (str(api.base_url).rstrip("/"), 409)):
        assert api.post("/v1/admin/rollback", headers={"origin": origin}).status_code == status, origin


def test_a_body_in_another_encoding_is_refused(api):
    body = '{"query": "pan"}'.encode("utf-16")
    reply = api.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["detail"]) == (400, "the body is not JSON")


def test_no_page_of_another_host_is_shown(api):
    for path in ("/docs", "/redoc"):
        assert api.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/search", {}, "#/query"),
        ("/v1/search", {"query": "   "}, "#/query"),
        ("/v1/search", {"query": "x" * 513}, "#/query"),
        ("/v1/search", {"query": ["pan"]}, "#/query"),
        ("/v1/search", {"query": "pan", "k": 101}, "#/k"),
        ("/v1/search", {"query": "pan", "limit": 3}, "#/limit"),
        ("/v1/search", {"query": "pan", "filters": {"price": {"least": 3, "most": 2}}}, "#/filters/price"),
        ("/v1/similar", {"product_id": ""}, "#/product_id"),
        ("/v1/brands", {}, "#/"),
        ("/v1/events", {"events": [{"event_id": "x"}]}, "#/events/0/user_id"),
        ("/v1/products", {"upsert": [{"product_id": "x", "title": ""}]}, "#/upsert/0/title"),
        ("/v1/products", {"upsert": [{"product_id": "x", "title": "\x1f<b></b>\u200b"}]}, "#/upsert/0/title"),
        ("/v1/admin/bundle", {"version": "../../etc"}, "#/version"),
    ],
)
def test_a_bad_request_is_told_which_field_is_wrong(api, path, body, pointer):
    reply = api.post(path, json=body)
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["instance"] == f"urn:synthrec:request:{reply.headers['x-request-id']}"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"query": "\xff"}', "application/json", 400),
        (b'{"query": ', "application/json", 400),
        (b'{"query": "\\ud800"}', "application/json", 422),
        (b'{"query": "pan", "weight": NaN}', "application/json", 422),
        (b"[" * 100_000, "application/json", 400),
        (b'{"query": "pan"}', "text/plain", 415),
        (b'{"query": "' + b"x" * 1_100_000 + b'"}', "application/json", 413),
    ],
)
def test_what_cannot_be_read_is_refused(api, content, kind, status):
    reply = api.post("/v1/search", content=content, headers={"content-type": kind})
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"


def test_unknown_paths_methods_and_products_are_problems_too(api):
    for reply, status in (
        (api.get("/v1/nothing"), 404),
        (api.get("/v1/search"), 405),
        (api.post("/v1/similar", json={"product_id": "NO-SUCH"}), 404),
    ):
        assert reply.status_code == status
        assert reply.json()["status"] == status


def test_a_page_of_another_site_gets_nothing(api):
    """DNS rebinding and cross-origin requests: no CORS header, no foreign host."""
    reply = api.get("/v1/bundle", headers={"host": "evil.example"})
    assert reply.status_code == 403
    reply = api.options(
        "/v1/search", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in reply.headers
