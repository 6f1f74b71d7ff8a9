"""Interactions as sequences."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthrec import schema
from synthrec.training.behaviour import behaviour, sessions, weights

START = datetime(2026, 3, 1, tzinfo=UTC)
PRODUCTS = pa.array(["p0", "p1", "p2"])


def table(rows):
    """Rows of (user, product, event, minute)."""
    return pa.Table.from_pylist(
        [{"user_id": u, "product_id": p, "event": e, "timestamp": START + timedelta(minutes=m)} for u, p, e, m in rows],
        schema=schema.INTERACTIONS,
    )


def test_steps_come_in_time_and_a_product_that_comes_again_at_once_counts_once():
    rows = [
        ("b", "p1", "purchase", 9),
        ("a", "p2", "view", 5),
        ("a", "p1", "view", 1),
        ("a", "p1", "cart", 2),
        ("a", "p1", "view", 8),
        ("a", "gone", "view", 3),
        ("a", "p0", "wish", 4),
    ]
    found = behaviour(table(rows), PRODUCTS, ("view", "cart", "purchase"))
    assert found.users == ["a", "b"]
    assert [one.tolist() for one in found.sequences] == [[1, 2, 1], [1]]
    assert [np.diff(one).tolist() for one in found.times] == [[4 * 60, 3 * 60], []]


def test_only_the_events_asked_for_count():
    rows = [("a", "p0", "view", 1), ("a", "p1", "purchase", 2)]
    assert [one.tolist() for one in behaviour(table(rows), PRODUCTS, ("purchase",)).sequences] == [[1]]
    assert behaviour(table(rows), PRODUCTS, ("cart",)).users == []


row = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["p0", "p1", "p2"]), st.sampled_from(["view", "cart"]), st.integers(0, 4)
)


@given(st.lists(row, max_size=30), st.randoms())
def test_the_order_of_the_rows_does_not_matter_and_nothing_is_lost(rows, dice):
    mixed = list(rows)
    dice.shuffle(mixed)
    one, other = (behaviour(table(some), PRODUCTS, ("view", "cart")) for some in (rows, mixed))
    assert one.users == other.users == sorted({u for u, *_ in rows})
    for a, b in zip(one.sequences, other.sequences, strict=True):
        assert a.tolist() == b.tolist()
        assert (np.diff(a) != 0).all()
    for user, steps in zip(one.users, one.sequences, strict=True):
        assert {f"p{i}" for i in steps} == {p for u, p, *_ in rows if u == user}


def test_sessions_are_those_products_of_the_label_that_the_catalogue_has_both_ways():
    labels = [
        {"task": "session", "fields": [("session", json.dumps(["p2", "p9", "p0"]))]},
        {"task": "session", "fields": [("session", json.dumps(["p2", "p9"]))]},
        {"task": "queries", "fields": []},
    ]
    assert [one.tolist() for one in sessions(labels, {"p0": 0, "p2": 2})] == [[2, 0], [0, 2]]


def test_synthetic_steps_count_together_no_more_than_is_asked():
    real, thought = [np.arange(4), np.arange(1)], [np.arange(5)] * 3  # 3 steps, and 12
    for most in (1.0, 2.0):
        own, others = weights(real, thought, most)
        assert 12 * others == pytest.approx(most * 3 * own)
        assert (3 * own + 12 * others) / 15 == pytest.approx(1), "the loss stays as large as it is without"
    assert weights(thought, real, 1.0) == (1.0, 1.0), "few of them count as they are"
    assert weights([], thought, 1.0) == weights(real, [], 1.0) == weights([], [], 1.0) == (1.0, 1.0)
