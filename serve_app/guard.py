"""What stands before every handler: who may, how often, how much at once, how large, how long; and the log line.

Plain ASGI: a `BaseHTTPMiddleware` would cost a task and two queues a request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
import uuid
from collections.abc import Collection
from functools import partial
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import logs, problems
from serve_app.keys import Key, Keyring
from serve_app.limits import Buckets, Full, Room
from serve_app.problems import Problem
from synthrec.config import Serve

OPEN = frozenset({"/healthz"})  # needs no key
UNCOUNTED = ("/healthz", "/readyz", "/metrics")  # answered however busy the replica is
WRITES = ("/v1/events", "/v1/products", "/v1/feedback")  # all other POSTs ask something
ADMIN = "/v1/admin/"
FULL = b"x-synthrec-full"  # on a 503: this replica has no place; other 503s have other causes
ADMINS = 8  # that wait for the one before
ADMIN_SECONDS = 600.0  # to load and check a large bundle
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Possessive, and content with the body's end: a string that is never closed is read once, not from each quote in it.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
SECURE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def scope_of(path: str) -> str:
    """The scope that a path needs."""
    if path.startswith(ADMIN):
        return "admin"
    return "write" if path in WRITES else "read"


class Guard:
    """Wraps the application.

    Args:
        keys: None: everybody may do everything, which is for loopback alone.
        paths: that the application has, by which requests are counted.
        page: paths of the web page's files. They hold nothing of the shop's, and a browser has no key before it has
            the page.
        named: whoever stands before this tells clients the request's id.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Serve,
        keys: Keyring | None,
        metrics: logs.Metrics,
        paths: Collection[str],
        page: Collection[str],
        named: bool = False,
    ) -> None:
        self._named = named
        self._open = OPEN | set(page)
        self._paths = {*paths, *page}
        self._app, self._settings, self._keys, self._metrics = app, settings, keys, metrics
        self._buckets = Buckets()
        self._room = Room(settings.max_ongoing_requests, settings.max_queued_requests)
        self._admins = Room(1, ADMINS)  # a rollback is wanted most when all other places are taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["synthrec.request_id"] = request_id
        facts: dict[str, Any] = {}
        token = logs.FACTS.set(facts)
        reply = Reply(send, request_id, self._named)
        try:
            await self._admit(scope, receive, reply, headers)
        except Problem as problem:
            await reply.problem(problem)
        except TimeoutError:
            await reply.problem(Problem(504, f"no answer within {self._settings.timeout_seconds:g} s", "ask for less"))
        except Exception:
            logs.log.exception("failed", extra={"facts": {"request": request_id}})
            await reply.problem(problems.fault())
        finally:
            logs.FACTS.reset(token)
            self._note(scope, reply.status, time.perf_counter() - start, request_id, facts)

    async def _admit(self, scope: Scope, receive: Receive, reply: Reply, headers: Headers) -> None:
        path = scope["path"]
        if path not in self._open:
            self._let_in(scope, headers)
        elif scope["method"] not in ("GET", "HEAD"):
            # Who has no key may not keep a place by a body that never comes.
            raise Problem(405, "this is only to be read", "GET it", {"Allow": "GET, HEAD"})
        if path in UNCOUNTED:
            await self._app(scope, receive, reply)
            return
        async with asyncio.timeout(ADMIN_SECONDS if path.startswith(ADMIN) else self._settings.timeout_seconds):
            body = await self._body(scope, receive, headers)
            try:
                async with self._admins if path.startswith(ADMIN) else self._room:
                    await self._app(scope, _replay(body, receive), reply)
            except Full:
                problem = problems.busy(self._settings.retry_after_seconds)
                problem.headers[FULL.decode()] = "1"
                raise problem from None

    def _let_in(self, scope: Scope, headers: Headers) -> None:
        """Raises Problem 401, 403 or 429."""
        if self._keys is None:
            if not _local(headers.get("host", "")):
                # A page of another site whose name was made to point here (DNS rebinding) must not get in.
                raise Problem(403, "without keys only loopback names are answered", "ask 127.0.0.1, or configure keys")
            if (origin := headers.get("origin")) and origin.partition("://")[2] != headers.get("host"):
                # Pages of other sites can post without a body unasked.
                raise Problem(403, "without keys pages of other sites are not answered", "configure keys")
            return
        key = self._keys.holder(_presented(headers))
        if key is None:
            raise Problem(
                401,
                "no valid key came with the request",
                "send it as `Authorization: Bearer KEY`; `synthrec keys add` makes one",
                {"WWW-Authenticate": "Bearer"},
            )
        logs.fact(key=key.id)
        needed = scope_of(scope["path"])
        if needed not in key.scopes:
            raise Problem(403, f"the scope {needed} is needed", f"this key has {', '.join(key.scopes)}")
        self._pace(key)
        scope["synthrec.charge"] = partial(self._buckets.charge, key.id)

    def _pace(self, key: Key) -> None:
        rate = key.rate or self._settings.rate
        if wait := self._buckets.wait(key.id, rate, max(1.0, rate * self._settings.burst_seconds)):
            seconds = max(1, round(wait))
            raise Problem(429, f"this key may ask {rate:g} times a second", "slow down", {"Retry-After": str(seconds)})

    async def _body(self, scope: Scope, receive: Receive, headers: Headers) -> bytes:
        """Raises Problem 413, 415 or 400."""
        limit = self._settings.max_body_bytes
        told = headers.get("content-length", "0")
        if told.isdigit() and int(told) > limit:
            raise Problem(413, f"a body has at most {limit} bytes", "send less at once")
        parts, size, more = [], 0, scope["method"] in ("POST", "PUT", "PATCH", "DELETE")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "the request ended before its body did")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise Problem(413, f"a body has at most {limit} bytes", "send less at once")
            more = message.get("more_body", False)
        body = b"".join(parts)
        # Pages of other sites can post plain text and forms unasked, JSON they cannot.
        if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "the body must be JSON", "send content-type: application/json")
        if b"\0" in body:  # JSON has none; other encodings than UTF-8 do, and would be measured wrongly
            raise Problem(400, "the body is not JSON", "send JSON in UTF-8")
        if depth(body, self._settings.max_json_depth) > self._settings.max_json_depth:
            raise Problem(400, f"JSON may be {self._settings.max_json_depth} levels deep")
        return body

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str, facts: dict[str, Any]) -> None:
        # Never a path that it does not have, which may hold anything.
        route = scope["path"] if scope["path"] in self._paths else "unmatched"
        self._metrics.request(route, status, seconds)
        self._metrics.room(self._room.inside, self._room.waiting)
        if route in UNCOUNTED and status < 400:
            return
        told = {"request": request_id, "route": route, "status": status, "ms": round(seconds * 1000, 2), **facts}
        logs.log.info("request", extra={"facts": told})


class Reply:
    """Passes the reply on with our headers, and knows whether it has begun."""

    def __init__(self, send: Send, request_id: str, named: bool) -> None:
        self._send, self._id = send, request_id
        self._headers = SECURE if named else [(b"x-request-id", request_id.encode()), *SECURE]
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        if self.status:  # too late for words: the client sees a reply that was cut off
            return
        body = problems.body(problem, self._id)
        headers = {"content-type": problems.MEDIA, "content-length": str(len(body)), **problem.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    first = True

    async def again() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _presented(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _local(host: str) -> bool:
    name = re.sub(r":\d*$", "", host).strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def depth(body: bytes, enough: int) -> int:
    """How deep JSON is nested; exact only where there are more than `enough` brackets at all."""
    if body.count(b"[") + body.count(b"{") <= enough:
        return 0
    deepest = now = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        now += 1 if bracket in b"[{" else -1
        deepest = max(deepest, now)
    return deepest
