"""Queries of several requests encoded together, and those of the last requests not again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Encode(Protocol):
    """A query -> its unit vector, shape (width,). In this process, or over a handle to another."""

    def __call__(self, query: str) -> Awaitable[Vector]: ...


class Remembered:
    """Keeps the vectors of the queries asked last: shops are asked the same few things again and again, and encoding is
    the dearest part of a search.

    Args:
        size: queries kept, the longest unasked given up first.
    """

    def __init__(self, encode: Encode, size: int) -> None:
        self._encode, self._size = encode, size
        self._kept: OrderedDict[str, Vector] = OrderedDict()

    async def __call__(self, query: str) -> Vector:
        if (kept := self._kept.get(query)) is not None:
            self._kept.move_to_end(query)
            return kept
        made = np.array(await self._encode(query))  # of its own: a row would keep its whole batch
        self._kept[query] = made
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return made


class Batcher:
    """While one batch is encoded in a thread, the next one gathers: under load batches fill by themselves, and a lone
    query waits for nobody. This is what `@serve.batch` does, without its wait and without Ray.

    Args:
        work: queries -> a result each; runs in `pool`.
        size: most queries of a batch.
    """

    def __init__(self, work: Callable[[Sequence[str]], Sequence[Any]], size: int, pool: Executor) -> None:
        self._work, self._size, self._pool = work, size, pool
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, query: str) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((query, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            batch = [one for one in batch if not one[1].done()]  # who gave up waits no longer
            try:
                results = await loop.run_in_executor(self._pool, self._work, [query for query, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
