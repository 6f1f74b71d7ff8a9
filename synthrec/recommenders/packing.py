"""Sequences of many lengths as one row of tokens: no padding is embedded, transformed or learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Items = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Sequences of like length, which attend together: a run of tokens, and where each goes among padded slots."""

    start: int
    stop: int
    slots: Tensor
    count: int
    longest: int

    def pad(self, tokens: Tensor) -> Tensor:
        """(all tokens, d) -> (count, longest, d), zeros behind the end of each sequence."""
        padded = tokens.new_zeros(self.count * self.longest, tokens.shape[1])
        padded = padded.index_copy(0, self.slots, tokens[self.start : self.stop])
        return padded.view(self.count, self.longest, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        """(count, longest, d) -> (tokens of this group, d)."""
        return padded.reshape(self.count * self.longest, -1).index_select(0, self.slots)


@dataclass(frozen=True)
class Packed:
    """`items` (tokens,): the sequences one after another, the shortest first.

    `order`: the number that each sequence had before; `ages` (tokens,): places from the end of the sequence, 0 for its
    last; `ends`: the token that is the last of each sequence.
    """

    items: Tensor
    order: Items
    ages: Tensor
    ends: Tensor
    groups: list[Group]


def pack(sequences: Sequence[Items], device: torch.device | None = None) -> Packed:
    """Pack sequences, each of at least one item. A group's longest is less than twice as long as its shortest."""

    def there(numbers: Items) -> Tensor:
        return torch.from_numpy(numbers).to(device)

    unsorted = np.array([len(one) for one in sequences])
    order = np.argsort(unsorted, kind="stable")
    lengths = unsorted[order]
    stops = np.cumsum(lengths)
    starts = stops - lengths
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.arange(stops[-1]) - starts[rows]
    bits = np.ceil(np.log2(lengths)).astype(int)
    groups = []
    for size in np.unique(bits):
        first, last = np.searchsorted(bits, [size, size + 1])
        span, longest = slice(starts[first], stops[last - 1]), int(lengths[last - 1])
        slots = there((rows[span] - first) * longest + columns[span])
        groups.append(Group(int(span.start), int(span.stop), slots, int(last - first), longest))
    return Packed(
        there(np.concatenate([sequences[i] for i in order])),
        order,
        there(lengths[rows] - 1 - columns),
        there(stops - 1),
        groups,
    )
