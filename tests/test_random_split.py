"""The random split: a partition of each shopper's items, in RecBole's sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthrec.evaluation.splits import random_split

# What recbole 1.2.1's `split_by_ratio([.8, .1, .1], group_by="user")` gave for a user of so many items.
RECBOLE = {1: (1, 0, 0), 2: (1, 0, 1), 3: (1, 1, 1), 4: (2, 1, 1), 9: (7, 1, 1), 10: (8, 1, 1), 19: (17, 1, 1)}
RECBOLE |= {20: (16, 2, 2), 106: (86, 10, 10), 737: (591, 73, 73)}

unlike = st.lists(st.integers(0, 60), max_size=45, unique=True)
SEQUENCES = st.lists(unlike.map(lambda one: np.array(one, np.int64)), min_size=1, max_size=8)


@pytest.mark.parametrize("count", RECBOLE)
def test_sizes_are_those_of_recbole(count):
    split = random_split([np.arange(count)], (0.1, 0.1), seed=0)
    parts = (split.train, split.validation.targets, split.test.targets)
    assert tuple(sum(map(len, part)) for part in parts) == RECBOLE[count]


@given(SEQUENCES, st.integers(0, 5))
def test_every_item_is_in_one_part_and_histories_hold_what_came_before(sequences, seed):
    split = random_split(sequences, (0.1, 0.1), seed)
    found = [list(one) for one in split.train]
    for cases in (split.validation, split.test):
        for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True):
            assert len(targets)
            assert sorted(history) == sorted(found[user])
            found[user].extend(targets)
    assert [sorted(one) for one in found] == [sorted(one) for one in sequences]


@given(SEQUENCES)
def test_what_is_learnt_from_keeps_its_order(sequences):
    for sequence, kept in zip(sequences, random_split(sequences, (0.1, 0.1), 0).train, strict=True):
        assert [i for i in sequence if i in set(kept)] == list(kept)


def test_the_seed_decides():
    def tests(seed):
        return np.concatenate(random_split([np.arange(100)] * 5, (0.1, 0.1), seed).test.targets)

    np.testing.assert_array_equal(tests(1), tests(1))
    assert (tests(1) != tests(2)).any()
    assert len(np.unique(tests(1))) > 10  # not the same places for each shopper
