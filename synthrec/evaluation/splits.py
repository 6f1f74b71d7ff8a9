"""What shoppers did -> what a recommender learns from, and the cases that it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthrec.recommenders.base import Cases, Items

__all__ = ["Cases", "Items", "Split", "leave_one_out", "random_split", "reachable", "temporal"]


@dataclass(frozen=True)
class Split:
    """`train`: each shopper's sequence to learn from, oldest first, by the shopper's number."""

    train: Sequence[Items]
    validation: Cases
    test: Cases


def leave_one_out(sequences: Sequence[Items]) -> Split:
    """Each shopper's last item is the test, the one before it the validation, the rest is learnt from.

    The test's history ends with the validation's item. Who has fewer than three items is only learnt from.
    """
    known = [user for user, items in enumerate(sequences) if len(items) >= 3]
    kept = set(known)
    users = np.array(known, np.int64)

    def cases(before: int) -> Cases:  # the item that many places from the end is what is to be found
        return Cases(
            users,
            [sequences[u][:-before] for u in known],
            [sequences[u][len(sequences[u]) - before :][:1] for u in known],
        )

    return Split([s[:-2] if u in kept else s for u, s in enumerate(sequences)], cases(2), cases(1))


def temporal(sequences: Sequence[Items], times: Sequence[NDArray[np.float64]], shares: tuple[float, float]) -> Split:
    """One moment for all shoppers: what lies before is learnt from, what lies after is to be found.

    Args:
        times: when each item of `sequences` was taken, ascending.
        shares: of all interactions, those before the validation and those before the test, as (.8, .9).
    """
    first, second = np.quantile(np.concatenate(list(times)), shares)
    rows = list(enumerate(zip(sequences, times, strict=True)))

    def cases(start: float, stop: float) -> Cases:
        spans = [(u, s, np.searchsorted(t, [start, stop], side="right")) for u, (s, t) in rows]
        spans = [(u, s, span) for u, s, span in spans if span[1] > span[0]]
        return Cases(
            np.array([u for u, _, _ in spans], np.int64),
            [s[: span[0]] for _, s, span in spans],
            [np.unique(s[span[0] : span[1]]) for _, s, span in spans],
        )

    train = [s[: np.searchsorted(t, first, side="right")] for _, (s, t) in rows]
    return Split(train, cases(first, second), cases(second, np.inf))


def reachable(cases: Cases) -> Cases:
    """Without targets that stand in their own history, and without cases that have no other.

    Where what was taken is never recommended again, nothing could find them.
    """
    targets = [np.setdiff1d(one, history) for one, history in zip(cases.targets, cases.histories, strict=True)]
    kept = [i for i, one in enumerate(targets) if len(one)]
    return Cases(cases.users[kept], [cases.histories[i] for i in kept], [targets[i] for i in kept])


def random_split(sequences: Sequence[Items], shares: tuple[float, float], seed: int) -> Split:
    """Each shopper's items dealt at random, whatever their order in time: for what is liked, not for what is next.

    Of n items the validation and the test get their shares rounded down; an empty one takes an item from what is
    learnt from, the test first, while that keeps at least one: as RecBole's ratio split with users as groups.

    Args:
        shares: of each shopper's items, those of the validation and those of the test, as (.1, .1).
    """
    dice = np.random.default_rng(seed)
    train, validation, test = [], [], []
    for items in sequences:
        sizes = _sizes(len(items), shares)
        part = dice.permutation(np.repeat([0, 1, 2], sizes))
        train.append(items[part == 0])
        validation.append(np.unique(items[part == 1]))
        test.append(np.unique(items[part == 2]))

    def cases(histories: Sequence[Items], targets: Sequence[Items]) -> Cases:
        some = [user for user, one in enumerate(targets) if len(one)]
        return Cases(np.array(some, np.int64), [histories[u] for u in some], [targets[u] for u in some])

    before_test = [np.concatenate(both) for both in zip(train, validation, strict=True)]
    return Split(train, cases(train, validation), cases(before_test, test))


def _sizes(count: int, shares: tuple[float, float]) -> tuple[int, int, int]:
    """How many of `count` items are learnt from, validated on and tested on."""
    validation, test = (int(share * count) for share in shares)
    rest = count - validation - test
    if rest > 1 and not test and shares[1] * count > 0:
        rest, test = rest - 1, 1
    if rest > 1 and not validation and shares[0] * count > 0:
        rest, validation = rest - 1, 1
    return rest, validation, test
