"""How much at once and how often: a token bucket a key, and a room with so many seats and so many who wait."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 10_000  # buckets; the one that was used longest ago is forgotten, by when it is full again


class Buckets:
    """A token bucket a name: `rate` tokens a second drip in, up to `burst`; a request takes one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, rate: float, burst: float) -> float:
        """Take a token: 0; or the seconds until there is one, with none taken."""
        now = self._clock()
        left, then = self._left.pop(name, (burst, now))
        left = min(burst, left + (now - then) * rate)
        short = 1 - left
        self._left[name] = (left if short > 0 else left - 1, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return short / rate if short > 0 else 0.0

    def charge(self, name: str, tokens: int) -> None:
        """Take tokens of a bucket, there or not: who owes some waits until they have come."""
        if name in self._left:  # else it is full again, by what `REMEMBERED` says
            left, then = self._left[name]
            self._left[name] = left - tokens, then


class Full(Exception):
    """No seat, and too many wait already."""


class Room:
    """`seats` work at once, `benches` wait in order; whoever comes then is sent away at once: `async with room:`."""

    def __init__(self, seats: int, benches: int) -> None:
        self._seats, self._benches = asyncio.Semaphore(seats), benches
        self.inside = self.waiting = 0

    async def __aenter__(self) -> None:
        if self._seats.locked():
            if self.waiting >= self._benches:
                raise Full
            self.waiting += 1
            try:
                await self._seats.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._seats.acquire()
        self.inside += 1

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1
        self._seats.release()
