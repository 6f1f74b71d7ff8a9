"""Vectors of queries: gathered into batches, and kept."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serve_app.batching import Batcher, Remembered


class Counted:
    """Encodes a query as its length, and knows what it was asked. Fails on `bad`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, queries):
        self.batches.append(list(queries))
        if "bad" in queries:
            raise ValueError("bad")
        return list(np.array([[len(query)] * 3 for query in queries], np.float32))

    @property
    def asked(self) -> list[str]:
        return [query for batch in self.batches for query in batch]


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def remembered(counted):
    """Of two queries."""
    with ThreadPoolExecutor(1) as pool:
        yield Remembered(Batcher(counted, 8, pool), 2)


def test_what_was_asked_before_is_not_encoded_again(counted, remembered):
    async def ask():
        return [(await remembered(query)).tolist() for query in ("pan", "whisk", "pan", "pan")]

    assert asyncio.run(ask()) == [[3] * 3, [5] * 3, [3] * 3, [3] * 3]
    assert counted.asked == ["pan", "whisk"]


def test_the_longest_unasked_is_given_up_first(counted, remembered):
    async def ask():
        for query in ("pan", "whisk", "pan", "kettle", "pan", "whisk"):
            await remembered(query)

    asyncio.run(ask())
    assert counted.asked == ["pan", "whisk", "kettle", "whisk"]


def test_a_kept_vector_keeps_no_batch(counted, remembered):
    async def ask():
        return await asyncio.gather(*(remembered(query) for query in ("a", "bb", "ccc")))

    assert all(vector.base is None for vector in asyncio.run(ask()))
    assert sorted(counted.asked) == ["a", "bb", "ccc"]


def test_a_failure_is_not_kept(counted, remembered):
    async def ask():
        for _ in range(2):
            with pytest.raises(ValueError, match="bad"):
                await remembered("bad")

    asyncio.run(ask())
    assert counted.asked == ["bad", "bad"]


def test_queries_that_come_while_one_is_encoded_make_one_batch(counted):
    async def ask():
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(counted, 2, pool)
            await asyncio.gather(*(batcher(query) for query in "abcde"))

    asyncio.run(ask())
    assert [len(batch) for batch in counted.batches] == [2, 2, 1]
    assert counted.asked == list("abcde")
