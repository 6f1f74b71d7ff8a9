"""Which rows a step of training sees."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.training.loop import Plan


@st.composite
def plans(draw, few=False):
    """(plan, ranks); `few`: fewer rows than one step of all ranks takes."""
    batch_size, ranks = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    step = batch_size * ranks
    rows = draw(st.integers(1, max(1, step - 1)) if few else st.integers(step, 6 * step))
    return Plan(rows, batch_size, epochs=3, warmup=0.1, seed=draw(st.integers(0, 5))), ranks


def epoch_rows(plan, epoch, ranks):
    return [plan.batch(epoch, step, rank, ranks) for step in range(plan.steps(ranks)) for rank in range(ranks)]


@given(plans(), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_sees_no_row_twice_and_hardly_one_not_at_all(case, epoch):
    plan, ranks = case
    batches = epoch_rows(plan, epoch, ranks)
    seen = [row for batch in batches for row in batch]
    assert {len(batch) for batch in batches} == {plan.batch_size}
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(plan.rows))
    assert plan.rows - len(seen) < plan.batch_size * ranks, "only what fills no batch on every rank is left out"


@given(plans(few=True), st.integers(0, 3))
@settings(deadline=None)
def test_few_rows_come_again_each_as_often(case, epoch):
    plan, ranks = case
    batches = epoch_rows(plan, epoch, ranks)
    assert len(batches) == ranks
    assert {len(batch) for batch in batches} == {plan.batch_size}
    times = np.bincount([row for batch in batches for row in batch], minlength=plan.rows)
    assert len(times) == plan.rows
    assert times.max() - times.min() <= 1


def test_batches_are_a_function_of_their_arguments_alone():
    plan = Plan(rows=100, batch_size=5, epochs=2, warmup=0.1, seed=3)
    first = {(e, s, r): plan.batch(e, s, r, 2) for e in range(2) for s in range(10) for r in range(2)}
    np.random.seed(1)  # the global state is what must not matter
    random.seed(1)
    torch.manual_seed(1)
    again = Plan(rows=100, batch_size=5, epochs=9, warmup=0.5, seed=3)
    assert {key: again.batch(*key, 2) for key in reversed(first)} == first


def test_epochs_and_seeds_shuffle_anew():
    one, other = (Plan(rows=100, batch_size=50, epochs=2, warmup=0.1, seed=seed) for seed in (3, 4))
    orders = [plan.batch(epoch, 0, 0, 1) for plan in (one, other) for epoch in range(2)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != sorted(orders[0])
