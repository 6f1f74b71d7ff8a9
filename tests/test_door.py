"""What the proxy sends away before it is dear: as many get in as the replicas take, the others are told at once."""

from __future__ import annotations

import asyncio
import selectors
import statistics

import pytest

from serve_app import problems
from serve_app.door import LEAST, Door
from serve_app.guard import FULL, Reply


class Clock(selectors.DefaultSelector):
    """Where all wait for a moment, it is that moment: what is tried here hangs on no machine's speed."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0
        return super().select(0)


def run(coroutine):
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


class Replicas:
    """Takes `places` requests at once, each until the turn is over; refuses others as the guard does, or as Ray."""

    def __init__(self, places, status=200, ray=False):
        self.places, self.status, self.ray = places, status, ray
        self.inside = self.most = self.asked = 0

    async def __call__(self, scope, receive, send):
        self.asked += 1
        self.most = max(self.most, self.inside + 1)
        if self.inside >= self.places:
            await asyncio.sleep(0.001)  # the hop
            if self.ray:
                await send(
                    {"type": "http.response.start", "status": 503, "headers": [[b"content-type", b"text/plain"]]}
                )
                await send({"type": "http.response.body", "body": b"dropped"})
                return
            problem = problems.busy(1)
            problem.headers[FULL.decode()] = "1"
            await Reply(send, "r", named=False).problem(problem)
            return
        self.inside += 1
        await asyncio.sleep(0.005)
        self.inside -= 1
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(door, path="/v1/search"):
    """(status, headers) of a request."""
    heard = []

    async def send(message):
        heard.append(message)

    await door({"type": "http", "path": path, "method": "POST", "headers": []}, None, send)
    return heard[0]["status"], dict(heard[0]["headers"])


async def rush(door, count, at_once):
    """`count` requests, `at_once` of them at any moment; the replies."""
    left, replies = iter(range(count)), []

    async def client():
        for _ in left:
            replies.append(await ask(door))
            await asyncio.sleep(0.001)

    await asyncio.gather(*(client() for _ in range(at_once)))
    return replies


@pytest.mark.parametrize(("places", "ray"), [(12, False), (40, False), (12, True)])
def test_it_learns_how_many_the_replicas_take(places, ray):
    async def tried():
        replicas, refused = Replicas(places, ray=ray), []
        door = Door(replicas, lambda: refused.append(door.limit))
        await rush(door, 2000, 4 * places)
        replicas.asked = 0
        refused.clear()
        replies = await rush(door, 4000, 4 * places)
        assert {status for status, _ in replies} == {200, 503}
        taken = sum(status == 200 for status, _ in replies)
        assert len(refused) == len(replies) - replicas.asked
        assert replicas.asked - taken < 0.05 * len(replies), "few are still refused behind the proxy"
        assert places / 2 < statistics.median(refused) <= places + 2  # at the very end fewer ask, and it shrinks
        assert door.inside == 0

    run(tried())


def test_it_opens_again_when_there_are_more_replicas():
    async def tried():
        replicas = Replicas(10)
        door = Door(replicas)
        await rush(door, 500, 60)
        assert (before := door.limit) < 12
        replicas.places = 40
        await rush(door, 6000, 60)
        assert door.limit > before + 2

    run(tried())


def test_who_is_sent_away_is_told_when_to_come_again():
    async def tried():
        replicas = Replicas(2)
        door = Door(replicas)
        await rush(door, 100, 40)
        replicas.asked = 0
        replies = await asyncio.gather(*(ask(door) for _ in range(40)), *(ask(door, "/healthz") for _ in range(4)))
        assert replicas.asked == LEAST + 4, "however full it is, /healthz is asked"
        away = [headers for status, headers in replies if headers.get(b"x-request-id") not in (None, b"r")]
        assert len(away) == 40 - LEAST
        assert {one[b"retry-after"] for one in away} == {b"1"}
        assert {one[b"content-type"] for one in away} == {problems.MEDIA.encode()}

    run(tried())


def test_another_trouble_closes_no_door():
    """A store that does not answer is a 503, too; searches go on without it."""

    async def tried():
        door = Door(Replicas(100, status=503))
        await rush(door, 4000, 50)
        assert door.limit > 40

    run(tried())
