"""The client: what it sends to whom, and what it makes of replies that are none. (Replies are in test_serve.)"""

from __future__ import annotations

import http.server
import threading

import httpx
import pytest

from synthrec.client import KEY_VARIABLE, ApiError, Client
from synthrec.errors import UserError


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that the environment names; the requests that it got."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append((self.path, self.headers.get("Authorization")))
            self.send_error(502)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    yield got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_key_within_this_machine_goes_by_no_proxy(proxy):
    with Client("http://localhost:9", key="SECRET") as shop, pytest.raises(ApiError, match="cannot reach"):
        shop.bundle()
    assert proxy == []
    with Client("http://shop.example") as shop, pytest.raises(ApiError, match="502"):
        shop.bundle()
    assert proxy == [("http://shop.example/v1/bundle", None)]


def answering(content, **options):
    def reply(request):
        return httpx.Response(200, content=content, headers={"x-seen": request.headers.get("authorization", "")})

    return Client(transport=httpx.MockTransport(reply), **options)


def test_a_key_that_cannot_be_sent_is_not_told(monkeypatch):
    for key in ("sk_SECRET\nX: y", "sk_SECRET\u00e9"):
        with pytest.raises(UserError) as told:
            Client(key=key)
        assert "SECRET" not in str(told.value)
    monkeypatch.setenv(KEY_VARIABLE, "sk_fine\n")  # as a file has it
    with pytest.raises(UserError, match=r"shop\.example unencrypted"):
        Client("http://shop.example")
    assert answering(b"{}")._http.headers["authorization"] == "Bearer sk_fine"


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "localhost:8000", ""])
def test_a_url_that_is_none_is_told(url):
    with pytest.raises(UserError, match="is no URL of a service"):
        Client(url)


def test_a_page_of_something_else_is_no_reply():
    with (
        answering(b"<html>log in</html>") as shop,
        pytest.raises(ApiError, match="the reply is no BundleInfo: b'<html>"),
    ):
        shop.bundle()


def test_a_number_that_json_cannot_say_is_told():
    with answering(b"{}") as shop, pytest.raises(UserError, match="the request cannot be written"):
        shop.search("pan", weight=float("nan"))


def test_the_client_asks_for_a_rollback_once(monkeypatch):
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(503, headers={"retry-after": "1"})

    with Client("http://127.0.0.1:1", transport=httpx.MockTransport(answer)) as client, pytest.raises(ApiError):
        client.rollback()
    assert len(asked) == 1, "whether it was done is not known, and once more would undo it"


def test_the_client_waits_as_it_is_told():
    answers = [httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(200, json={"status": "ready"})]
    answers[1] = httpx.Response(200, json={"status": "ready", "bundle": "one", "products": 3})
    with Client("http://127.0.0.1:1", transport=httpx.MockTransport(lambda request: answers.pop(0))) as client:
        assert client.ready().products == 3


def test_the_client_keeps_its_key_to_itself():
    with pytest.raises(UserError, match="unencrypted"):
        Client("http://shop.example", key="sr_secret")
