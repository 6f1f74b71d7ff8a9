"""LightGCN: its propagation and loss against the formulas, what it learns, what it says that it does not know."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec import recommenders
from synthrec.evaluation.recommendation import judge
from synthrec.evaluation.splits import Cases
from synthrec.recommenders.graph import LightGCN
from synthrec.training.loop import Plan, train

ITEMS = 12
PAIR = {"user": [0], "item": [0]}
UNSOLD = 11
SHOPPERS = st.lists(st.lists(st.integers(0, UNSOLD - 1), max_size=8), min_size=1, max_size=10).filter(any)


pytestmark = pytest.mark.usefixtures("one_thread")


def sequences(lists):
    return [np.array(one, np.int64) for one in lists]


def model_of(lists, items=ITEMS, **settings):
    torch.manual_seed(3)
    return LightGCN.of(sequences(lists), items, **settings)


def dense_adjacency(lists, items=ITEMS):
    """D^-1/2 A D^-1/2, as the paper writes it."""
    graph = np.zeros((len(lists) + items,) * 2)
    for user, taken in enumerate(lists):
        graph[user, np.array(taken, int) + len(lists)] = 1
    graph += graph.T
    degrees = graph.sum(1)
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros(len(degrees)), where=degrees > 0)
    return scale[:, None] * graph * scale


def final(model):
    return torch.cat(model.vectors())


@given(SHOPPERS, st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_vectors_and_their_gradient_are_those_of_the_dense_formula(lists, layers):
    model = model_of(lists, layers=layers, width=4)
    adjacency = torch.tensor(dense_adjacency(lists), dtype=torch.float32)
    base = model.base.detach().clone().requires_grad_()
    layer, total = base, base
    for _ in range(layers):
        layer = adjacency @ layer
        total = total + layer
    expected = total / (layers + 1)
    towards = torch.randn(expected.shape)
    (expected * towards).sum().backward()
    found = final(model)
    (found * towards).sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.base.grad, base.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("draws", [1, 4])
def test_the_loss_is_that_of_one_pair_whose_only_negative_is_known(draws):
    """Of two items in the graph each shopper took one, so a draw is the other or counts nothing."""
    model = model_of([[0], [1]], items=3, l2=0.02, draws=draws)
    users, items = (v.detach() for v in model.vectors())
    base = model.base.detach()
    length = sum(base[row].square().sum() for row in (0, 2, 3))
    margin = users[0] @ items[0] - users[0] @ items[1]
    whole = float(torch.nn.functional.softplus(-margin))
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        value = model.loss(PAIR).item()
        with_negative = abs(value - (whole + 0.01 * float(length))) < 1e-6
        without = abs(value - 0.01 * float(base[0].square().sum() + 2 * base[2].square().sum())) < 1e-6
        assert with_negative or without
        seen.add(with_negative)
    assert seen == ({True, False} if draws == 1 else {True} | seen)


def test_a_negative_is_never_an_item_that_the_shopper_took_nor_one_that_nobody_took():
    lists = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9, 0]]
    model = model_of(lists, draws=5)
    users, items = (v.detach() for v in model.vectors())
    for user, taken in enumerate(lists):
        number = torch.full((400,), user)
        other, valid = model._negatives(number, users[number], items)
        assert not set(other[valid].tolist()) & {*taken, UNSOLD, 10}
        assert valid.float().mean() > 0.8


def test_of_several_draws_the_highest_scored_is_the_negative():
    model = model_of([[0], [1, 2, 3]], draws=64)
    users, items = (v.detach() for v in model.vectors())
    best = 1 + int((items[1:4] @ users[0]).argmax())
    other, valid = model._negatives(torch.zeros(20, dtype=torch.long), users[:1].expand(20, -1), items)
    assert valid.all() and set(other.tolist()) == {best}


def two_communities(seed=0, shoppers=60, items=40, taken=8):
    """Half of the shoppers take items of the first half, half of the second; one of them is held back for each."""
    dice = np.random.default_rng(seed)
    halves = [np.arange(items // 2), np.arange(items // 2, items)]
    return [dice.permutation(halves[user % 2])[:taken] for user in range(shoppers)], items


def of_rows(model):
    return lambda rows: model.loss(dict(zip(("user", "item"), model.pairs[rows].T, strict=True)))


def quiet(step, loss):
    pass


def fit(model, epochs=30, seed=0, rate=0.02, resume=None, keep=None):
    plan = Plan(rows=len(model.pairs), batch_size=128, epochs=epochs, warmup=0.1, seed=seed)
    losses = []

    def report(metrics, save):
        losses.append(metrics["loss"])
        if keep is not None and metrics["epoch"] == epochs - 1:
            save(keep)

    accelerator = Accelerator(cpu=True)
    train(of_rows(model), model, model.parameter_groups(rate), plan, accelerator, report, quiet, resume)
    return losses


def test_it_learns_two_communities():
    taken, items = two_communities()
    model = model_of([one[:-1] for one in taken], items, width=16)
    cases = Cases(np.arange(len(taken)), [one[:-1] for one in taken], [one[-1:] for one in taken])

    def right():  # share of the recommendations that are of the shopper's own half
        ranking = judge(model, cases, cases.histories, filter_viewed=True).ranking[:, :10]
        return np.mean((ranking < items // 2) == (np.arange(len(taken)) % 2 == 0)[:, None])

    before = right()
    losses = fit(model)
    assert losses[-1] < 0.5 * losses[0]
    assert right() > 0.95 > before


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    taken, items = two_communities(shoppers=20)
    whole, broken, resumed = (model_of(taken, items, width=8, draws=2) for _ in range(3))
    fit(whole, epochs=4)
    plan = Plan(rows=len(broken.pairs), batch_size=128, epochs=4, warmup=0.1, seed=0)

    def stop(metrics, save):
        if metrics["epoch"] == 1:
            save(tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(of_rows(broken), broken, broken.parameter_groups(0.02), plan, Accelerator(cpu=True), stop, quiet)
    fit(resumed, epochs=4, resume=tmp_path)
    torch.testing.assert_close(resumed.base, whole.base)


# What it does not know.


def test_items_that_nobody_took_have_no_score_and_are_told():
    model = model_of([[0, 1], [1, 2]], items=5)
    assert model.unscorable.tolist() == [3, 4]
    found = model.scores(Cases(np.array([0]), sequences([[0, 1]]), sequences([[2]])))
    assert np.isneginf(found[0, 3:]).all() and np.isfinite(found[0, :3]).all()


@pytest.mark.parametrize("layers", [1, 3])
def test_a_shopper_outside_of_the_graph_is_scored_as_a_node_that_joins_it_without_a_base(layers):
    lists = [[0, 1], [1, 2], []]
    model = model_of(lists, items=5, layers=layers)
    histories = sequences([[0, 2, 2, 4], [2, 0], [4], []])
    found = model.scores(Cases(np.array([7, 2, -1, 3]), histories, sequences([[1]] * 4)))
    graph, scale = dense_adjacency(lists, 5), 1 / np.sqrt(2)  # items 0 and 2 have one edge, the shopper two
    powers = [np.linalg.matrix_power(graph, n) @ model.base.detach().numpy() for n in range(layers + 1)]
    own = sum((one[3] + one[5]) * scale for one in powers[:-1]) / (layers + 1)
    expected = sum(powers)[3:6] / (layers + 1) @ own
    np.testing.assert_allclose(found[0, :3], expected, atol=1e-6)  # item 4 is not in the graph: it says nothing
    np.testing.assert_allclose(found[1, :3], expected, atol=1e-6)  # a number of the graph, but without interactions
    assert np.isneginf(found[2:]).all()


def test_a_shopper_of_the_graph_is_scored_by_their_own_vector():
    model = model_of([[0, 1], [1, 2]], items=5)
    found = model.scores(Cases(np.array([1, 1]), sequences([[1, 2], [0]]), sequences([[0], [0]])))
    users, items = (v.detach().numpy() for v in model.vectors())
    np.testing.assert_allclose(found[:, :3], [users[1] @ items[:3].T] * 2, atol=1e-6)


# Text, and the disk.


@pytest.mark.parametrize(("texts", "width"), [(6, 4), (3, 8)])
def test_a_start_from_texts_keeps_their_likeness(texts, width):
    """As far as the base has room: of 6 columns 4 are kept, the principal ones; of 3 all."""
    dice = np.random.default_rng(0)
    vectors = (dice.normal(size=(ITEMS, texts)) * np.geomspace(1, 0.1, texts)).astype(np.float32)
    model = model_of([[0, 1], [5]], width=width)
    before = model.base.detach().clone()
    model.start_from(vectors)
    placed = model.base.detach()[2:]
    many = min(texts, width)
    near, far = torch.cdist(placed[:, :many], placed[:, :many]), np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    assert np.corrcoef(near.numpy().ravel(), far.ravel())[0, 1] > 0.95
    assert float(placed[:, :many].std()) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(placed[:, many:], before[2:, many:])
    torch.testing.assert_close(model.base.detach()[:2], torch.stack([placed[:2].mean(0), placed[5]]))


def test_texts_that_tell_the_communities_apart_are_worth_an_epoch():
    taken, items = two_communities()
    text = np.where(np.arange(items)[:, None] < items // 2, [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    plain, started = model_of(taken, items, width=16), model_of(taken, items, width=16)
    started.start_from(text + np.random.default_rng(0).normal(0, 0.2, text.shape).astype(np.float32))
    assert fit(started, epochs=2, rate=0.005)[-1] < fit(plain, epochs=2, rate=0.005)[-1]


def test_save_and_load(tmp_path):
    model = model_of([[0, 1], [1, 2], [9]], width=5, layers=2, l2=0.5, draws=3)
    fit(model, epochs=1)
    model.save(tmp_path)
    loaded = LightGCN.load(tmp_path)
    cases = Cases(np.array([0, 1, 9]), sequences([[0], [1], [2]]), sequences([[2]] * 3))
    np.testing.assert_array_equal(loaded.scores(cases), model.scores(cases))
    assert (loaded.layers, loaded.l2, loaded.draws) == (2, 0.5, 3)
    torch.manual_seed(0)
    one = model.loss(PAIR)
    torch.manual_seed(0)
    assert loaded.loss(PAIR) == one
    assert {f.suffix for f in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((tmp_path / "lightgcn.json").read_text())["items"] == ITEMS


def test_its_objective_starts_from_what_was_saved_and_saves_what_load_reads(tmp_path):
    model = model_of([[0, 1], [1, 2], [9]], width=5)
    model.save(tmp_path)
    objective = recommenders.objective("graph").start(tmp_path, {"learning_rate": 0.3}, lambda mine: mine)
    (group,) = objective.parameter_groups()
    assert group["lr"] == 0.3 and group["params"][0] is objective.model.base
    objective(PAIR).backward()
    torch.optim.SGD(objective.parameter_groups()).step()
    objective.save(tmp_path)
    found = LightGCN.load(tmp_path).base
    torch.testing.assert_close(found, objective.model.base)
    assert not torch.equal(found, model.base)


def test_an_item_taken_twice_counts_once():
    torch.testing.assert_close(final(model_of([[0, 1, 0], [1]])), final(model_of([[1, 0], [1]])))
