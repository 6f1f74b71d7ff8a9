"""Texts of many lengths in batches of like length, each once, so that little is computed for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def distinct(read: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], Numbers]:
    """Each text's tokens once, in the order of their first, and for each of `read` the row where its own are."""
    numbers: dict[tuple[int, ...], int] = {}
    rows = np.array([numbers.setdefault(tuple(ids), len(numbers)) for ids in read], np.int64)
    return list(numbers), rows


def bucketed(lengths: Sequence[int], cells: int) -> Iterator[Numbers]:
    """Row numbers, the shortest first: rows times the longest is at most `cells`, or the batch is one row."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * lengths[order[end]] > cells:
            yield order[start:end]
            start = end


def padded(read: Sequence[Sequence[int]], padding: int) -> tuple[Numbers, Numbers]:
    """Token numbers, filled up behind each text's end, and the mask that is 1 on its tokens; both (texts, longest)."""
    lengths = np.array([len(ids) for ids in read])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, padding, np.int64)
    ids[mask] = np.concatenate(read)
    return ids, mask.astype(np.int64)
