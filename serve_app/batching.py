"""Queries of several requests encoded together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Encode(Protocol):
    """A query -> its unit vector, shape (width,). In this process, or over a handle to another."""

    def __call__(self, query: str) -> Awaitable[Vector]: ...


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
