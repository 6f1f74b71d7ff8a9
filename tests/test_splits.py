"""Splits: what is learnt from, what is known and what is to be found; by hand, and for any shoppers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.evaluation.splits import leave_one_out, reachable, temporal

shops = st.lists(st.lists(st.integers(0, 30), min_size=0, max_size=9), min_size=1, max_size=12)


def arrays(rows):
    return [np.array(row, np.int64) for row in rows]


def lists(rows):
    return [row.tolist() for row in rows]


def test_leave_one_out_by_hand():
    split = leave_one_out(arrays([[1, 2, 3, 4], [5, 6], [7, 8, 9], []]))
    assert lists(split.train) == [[1, 2], [5, 6], [7], []]
    assert split.validation.users.tolist() == split.test.users.tolist() == [0, 2]
    assert (lists(split.validation.histories), lists(split.validation.targets)) == ([[1, 2], [7]], [[3], [8]])
    assert (lists(split.test.histories), lists(split.test.targets)) == ([[1, 2, 3], [7, 8]], [[4], [9]])


@given(shops)
@settings(deadline=None)
def test_what_a_filter_of_the_viewed_would_hide_is_no_target(rows):
    cases = leave_one_out(arrays(rows)).test
    kept = reachable(cases)
    wanted = [i for i, (old, new) in enumerate(zip(cases.histories, cases.targets, strict=True)) if new[0] not in old]
    assert kept.users.tolist() == [cases.users[i] for i in wanted]
    assert lists(kept.histories) == [cases.histories[i].tolist() for i in wanted]
    assert lists(kept.targets) == [cases.targets[i].tolist() for i in wanted]


@given(shops)
@settings(deadline=None)
def test_leave_one_out_keeps_every_item_in_its_place(rows):
    split = leave_one_out(arrays(rows))
    long = [i for i, row in enumerate(rows) if len(row) >= 3]
    assert split.test.users.tolist() == split.validation.users.tolist() == long
    for cases in (split.validation, split.test):
        assert len(cases) == len(cases.histories) == len(cases.targets)
    for case, user in enumerate(long):
        held = [split.validation.targets[case][0], split.test.targets[case][0]]
        assert [*split.train[user], *held] == rows[user]
        assert [*split.test.histories[case], held[1]] == rows[user]
        assert [*split.validation.histories[case], *held] == rows[user]
    assert all(split.train[i].tolist() == row for i, row in enumerate(rows) if i not in long)


def test_temporal_by_hand():
    # Ten interactions at the times 0 to 9: up to 5.4 is learnt from, up to 7.2 validates, the rest tests.
    sequences = arrays([[10, 11, 12, 13], [20, 21, 21], [30, 31, 32]])
    times = [np.array(t, float) for t in ([0, 3, 6, 9], [1, 7, 8], [2, 4, 5])]
    split = temporal(sequences, times, (0.6, 0.8))
    assert lists(split.train) == [[10, 11], [20], [30, 31, 32]]
    assert split.validation.users.tolist() == [0, 1]
    assert (lists(split.validation.histories), lists(split.validation.targets)) == ([[10, 11], [20]], [[12], [21]])
    assert split.test.users.tolist() == [0, 1]
    assert (lists(split.test.histories), lists(split.test.targets)) == ([[10, 11, 12], [20, 21]], [[13], [21]])


@given(st.data())
@settings(deadline=None)
def test_temporal_never_looks_ahead(data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=8))
    times = [np.array(sorted(data.draw(st.integers(0, 20)) for _ in row), float) for row in rows]
    first, second = sorted(data.draw(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9))))
    split = temporal(arrays(rows), times, (first, second))
    moments = np.quantile(np.concatenate(times), [first, second])
    assert lists(split.train) == [
        [i for i, t in zip(r, ts, strict=True) if t <= moments[0]] for r, ts in zip(rows, times, strict=True)
    ]
    for cases, (start, stop) in ((split.validation, moments), (split.test, (moments[1], np.inf))):
        found = {
            u: (h.tolist(), t.tolist()) for u, h, t in zip(cases.users, cases.histories, cases.targets, strict=True)
        }
        for user, (row, when) in enumerate(zip(rows, times, strict=True)):
            want = sorted({i for i, t in zip(row, when, strict=True) if start < t <= stop})
            before = [i for i, t in zip(row, when, strict=True) if t <= start]
            assert found.get(user) == ((before, want) if want else None)


@pytest.mark.parametrize(("start", "stop", "users"), [(0, 2, [4, 5]), (1, 9, [5, 6]), (3, 5, [])])
def test_a_part_of_the_cases(start, stop, users):
    cases = leave_one_out(arrays([[]] * 4 + [[i, i + 1, i + 2] for i in range(3)])).test
    part = cases.part(start, stop)
    assert part.users.tolist() == users
    assert lists(part.targets) == [[user - 4 + 2] for user in users]
