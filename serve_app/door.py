"""Before the replicas: sends away what they would refuse, while that is still cheap.

It stands in each replica, before the application, behind HAProxy; and in Ray's own proxy, where that is used. There a
request and its hop to a replica cost as much processor as the search itself: when several times too much is asked,
refusing alone would take all of it, and what waits in the proxy would wait without end. The door learns how many
requests are taken from the refusals behind it, so it need not know how many replicas there are.

Ray calls `middleware` where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it (`synthrec.cluster`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import problems
from serve_app.guard import ADMIN, FULL, UNCOUNTED, Reply

LEAST = 8  # requests under way that are always let in
FIRST = 32  # that are let in before anything is known
RETRY_AFTER_SECONDS = 1.0
OTHERS = ("/-/", ADMIN)  # Ray's own paths, health and routes; and what is to be done though all is full


class Door:
    """So many requests at once as lately were not refused, as TCP does with its window (RFC 5681): until the first
    refusal each answer while all are taken raises the number by one (slow start), afterwards by a part of one (additive
    increase); a refusal lowers it to those that are under way.

    Args:
        refused: called for each request that is sent away.
    """

    def __init__(self, app: ASGIApp, refused: Callable[[], object] = lambda: None) -> None:
        self._app, self._refused = app, refused
        self.limit, self.inside = float(FIRST), 0
        self._known = False  # whether one was refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED or scope["path"].startswith(OTHERS):
            await self._app(scope, receive, send)
            return
        if self.inside >= self.limit:
            self._refused()
            await Reply(send, uuid.uuid4().hex, named=False).problem(problems.busy(RETRY_AFTER_SECONDS))
            return
        full, here = False, True

        def leave() -> None:
            nonlocal here
            if here:
                here = False
                self._left(full)

        async def watched(message: Message) -> None:
            nonlocal full
            if message["type"] == "http.response.start":
                full = _full(message)
            elif not message.get("more_body", False):
                leave()  # before the client has the end of the reply, and may ask again
            await send(message)

        self.inside += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            leave()

    def _left(self, refused: bool) -> None:
        self.inside -= 1
        if refused:
            self._known = True
            self.limit = max(LEAST, min(self.limit, self.inside))
        elif self.inside + 1 >= self.limit:
            self.limit += 1 / self.limit if self._known else 1


def _full(message: Message) -> bool:
    """Whether a replica says that it has no place, or Ray, in plain text, that none of them has."""
    headers = dict(message.get("headers", ()))
    plain = headers.get(b"content-type", b"").startswith(b"text/plain")
    return message["status"] == 503 and (FULL in headers or plain)


def middleware() -> list[Middleware]:
    """The door of this replica or proxy; what it sends away is counted among Ray's metrics."""
    from ray.util.metrics import Counter

    counter = Counter("synthrec_refused", "requests sent away at the door, since no replica would have taken them")
    return [Middleware(Door, refused=counter.inc)]
