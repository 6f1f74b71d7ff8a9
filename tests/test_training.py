"""The loop of training, and what a resumed run of it comes to."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from synthrec.storage import Folder
from synthrec.training import loop
from synthrec.training.checkpoints import Checkpoints
from synthrec.training.loop import Plan
from train_app.fit import SNAPSHOT, resumable

# The loop.


class Shop:
    """A small regression with dropout, trained by the loop; each epoch's checkpoint is kept in `folder`."""

    def __init__(self, folder, plan):
        dice = torch.Generator().manual_seed(7)
        self.x = torch.randn(plan.rows, 6, generator=dice)
        self.y = self.x.sum(1, keepdim=True) + 0.1 * torch.randn(plan.rows, 1, generator=dice)
        self.folder, self.plan = folder, plan

    def train(self, resume=None, start=0):
        """(the model's weights, the metrics reported, the steps ticked)."""
        torch.manual_seed(start)
        model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 1))
        groups = [
            {"params": list(layer.parameters()), "lr": rate} for layer, rate in ((model[0], 0.02), (model[3], 0.01))
        ]
        reports, ticks = [], []

        def loss(rows):
            wobble = 0.01 * random.random()  # as a model may that augments its texts
            return nn.functional.mse_loss(model(self.x[rows]), self.y[rows]) + wobble

        def report(metrics, save):
            folder = self.folder / str(metrics["epoch"])
            folder.mkdir(exist_ok=True)
            save(folder)
            reports.append(metrics)

        loop.train(
            loss,
            model,
            groups,
            self.plan,
            Accelerator(cpu=True),
            report,
            lambda step, mean: ticks.append(step),
            None if resume is None else self.folder / str(resume),
        )
        return model.state_dict(), reports, ticks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(the shop, what a run to the end came to)."""
    shop = Shop(tmp_path_factory.mktemp("checkpoints"), Plan(rows=70, batch_size=8, epochs=4, warmup=0.2, seed=5))
    return shop, shop.train()


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_run_comes_to_the_same_bit_for_bit(whole, done):
    shop, (weights, reports, ticks) = whole
    again, later, more = shop.train(resume=done - 1, start=999)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert later == reports[done:]
    assert more == ticks[8 * done :]


def test_a_run_that_was_done_is_not_trained_again(whole):
    shop, (weights, reports, _) = whole
    again, later, ticks = shop.train(resume=3, start=999)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert (later, ticks) == ([], [])
    assert reports[-1]["epoch"] == 3


def test_each_report_tells_the_losses_so_far_and_they_fall(whole):
    _, (_, reports, ticks) = whole
    losses = [one["loss"] for one in reports]
    assert [one["epoch"] for one in reports] == [0, 1, 2, 3]
    assert [one["losses"] for one in reports] == [losses[: i + 1] for i in range(4)]
    assert losses[-1] < 0.7 * losses[0]
    assert ticks == list(range(1, 4 * 8 + 1))


def test_a_checkpoint_holds_no_pickled_objects(whole):
    shop, _ = whole
    state = torch.load(shop.folder / "0" / "state.pt", weights_only=True)  # refuses any
    assert set(state) == {"losses", "values", "model", "optimizer", "schedule"}


@pytest.mark.parametrize(("warmup", "warm"), [(0.0, 1), (0.3, 6), (1.0, 20)])
def test_the_rate_warms_up_then_falls_for_each_group(warmup, warm):
    # With a gradient that is always 1, an Adam step is as long as the rate (and decay takes a hundredth of the weight).
    plan = Plan(rows=10, batch_size=1, epochs=2, warmup=warmup, seed=0)
    weights = [nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2)]
    model = nn.ParameterList(weights)
    path = []

    def loss(rows):
        path.append([w.item() for w in weights])
        return sum(weights)

    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, (0.1, 0.001), strict=True)]
    loop.train(loss, model, groups, plan, Accelerator(cpu=True), lambda *_: None, lambda *_: None)
    path.append([w.item() for w in weights])
    before, after = np.array(path[:-1]), np.array(path[1:])
    rates = (before - after) / (1 + 0.01 * before)
    np.testing.assert_allclose(rates[:, 0], 100 * rates[:, 1], rtol=1e-3)
    share = rates[:, 0] / 0.1
    assert share.max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(share[:warm], np.arange(1, warm + 1) / warm, atol=1e-6)
    assert (np.diff(share[warm:]) < 0).all()
    assert (share > 0).all(), "no step is for nothing"


@pytest.mark.parametrize("before", [1, 2, 8])
def test_with_another_number_of_ranks_the_rate_is_that_of_the_epoch(tmp_path, before):
    """Elastic workers: half the ranks take twice the steps. With a gradient that is always 1 a step is the rate."""

    def train(batch_size, epochs, resume=None):
        plan = Plan(rows=16, batch_size=batch_size, epochs=4, warmup=0.1, seed=0)
        weight, path, reports = nn.Parameter(torch.zeros((), dtype=torch.float64)), [], []

        def loss(rows):
            path.append(weight.item())
            return 1.0 * weight

        def report(metrics, save):
            reports.append(metrics)
            if len(reports) == epochs:
                save(tmp_path)
                raise Killed

        groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.0}]
        with contextlib.suppress(Killed):
            model = nn.ParameterList([weight])
            loop.train(loss, model, groups, plan, Accelerator(cpu=True), report, lambda *_: None, resume)
        return -np.diff(path)

    whole = train(4, 5)
    train(before, 2)
    np.testing.assert_allclose(train(4, 5, tmp_path), whole[8:], rtol=1e-3)


# Validation, early stopping, accumulation.


def line(plan, values=None, resume=None, keep=None):
    """Fit a line; returns (weights, reports). `values`: what each epoch's validation says."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    dice = torch.Generator().manual_seed(1)
    x = torch.randn(plan.rows, 3, generator=dice)
    y = x.sum(1, keepdim=True)
    reports, said = [], iter(values or ())

    def loss(rows):
        return nn.functional.mse_loss(model(x[rows]), y[rows])

    def report(metrics, save):
        reports.append(metrics)
        if keep is not None:
            keep(metrics, save)

    groups = [{"params": list(model.parameters()), "lr": 0.05}]
    validate = None if values is None else lambda: next(said)
    loop.train(loss, model, groups, plan, Accelerator(cpu=True), report, lambda *_: None, resume, validate)
    return model.state_dict(), reports


@pytest.mark.parametrize(
    ("patience", "values", "epochs", "best"),
    [
        (2, [0.1, 0.3, 0.2, 0.3, 0.9, 0.9], 4, 1),  # an equal value is no better one
        (3, [0.1, 0.3, 0.2, 0.2, 0.4, 0.1], 6, 4),
        (1, [0.5, 0.4, 0.9, 0.9, 0.9, 0.9], 2, 0),
        (None, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 6, 0),
    ],
)
def test_training_stops_when_validation_has_long_been_no_better(tmp_path, patience, values, epochs, best):
    plan = Plan(rows=16, batch_size=4, epochs=6, warmup=0.1, seed=0, patience=patience)
    keep = Checkpoints(tmp_path)
    weights, reports = line(plan, values, keep=keep)
    assert [one["value"] for one in reports] == values[:epochs]
    assert reports[-1]["best_epoch"] == best
    assert keep.last == keep.path(epochs - 1)
    assert keep.best == keep.path(best)
    assert sorted(tmp_path.iterdir()) == sorted({keep.last, keep.best}), "no more than is needed is kept"
    assert all(torch.equal(loop.read(keep.last)["model"][name], weights[name]) for name in weights)
    if best != epochs - 1:
        assert not torch.equal(loop.read(keep.best)["model"]["weight"], weights["weight"])
    if patience is not None and epochs < 6:
        again, more = line(plan, values, resume=keep.last)
        assert more == [], "a run that had stopped stays so"
        assert torch.equal(again["weight"], weights["weight"])


class Killed(Exception):
    pass


@pytest.mark.parametrize("epoch", range(5))
@pytest.mark.parametrize("moment", ["while it saves", "before the rename", "before old ones go", "as an old one goes"])
def test_a_run_that_is_killed_at_any_moment_comes_to_the_same(tmp_path, monkeypatch, epoch, moment):
    plan = Plan(rows=16, batch_size=4, epochs=6, warmup=0.1, seed=0, patience=3)
    values = [0.1, 0.4, 0.3, 0.5, 0.2, 0.3]
    whole = Checkpoints(tmp_path / "whole")
    weights, reports = line(plan, values, keep=whole)
    hurt = Checkpoints(tmp_path / "hurt")

    def kill(*_, **__):
        raise Killed

    def keep(metrics, save):
        with monkeypatch.context() as patch:
            if metrics["epoch"] == epoch:
                if moment == "while it saves":
                    save = lambda folder: ((folder / "state.pt").write_bytes(b"half"), kill())  # noqa: E731
                if moment == "before the rename":
                    patch.setattr(type(tmp_path), "rename", kill)
                if moment == "before old ones go":
                    patch.setattr(Checkpoints, "_whole", kill)
                if moment == "as an old one goes":
                    patch.setattr("synthrec.training.checkpoints._delete", kill)
            hurt(metrics, save)

    try:
        line(plan, values, keep=keep)
    except Killed:
        done = 0 if hurt.last is None else len(loop.read(hurt.last)["losses"])
        assert done in (epoch, epoch + 1)
        again, more = line(plan, values[done:], keep=hurt, resume=hurt.last)
        assert more == reports[done:]
        assert torch.equal(again["weight"], weights["weight"])
    assert sorted(one.name for one in hurt.folder.iterdir()) == sorted(one.name for one in whole.folder.iterdir())
    assert hurt.best == hurt.path(3)
    for name, value in loop.read(whole.best)["model"].items():
        assert torch.equal(loop.read(hurt.best)["model"][name], value)


def test_nothing_was_saved_yet(tmp_path):
    keep = Checkpoints(tmp_path / "new")
    assert (keep.last, keep.best, keep.progress().losses) == (None, None, [])


def test_without_a_validation_the_last_is_the_best(tmp_path):
    keep = Checkpoints(tmp_path)
    _, reports = line(Plan(rows=8, batch_size=4, epochs=3, warmup=0.1, seed=0), keep=keep)
    assert "value" not in reports[-1]
    assert keep.best == keep.last == keep.path(2)
    assert list(tmp_path.iterdir()) == [keep.last]


@pytest.mark.parametrize("accumulate", [2, 5])
def test_small_batches_accumulated_come_to_a_big_one(accumulate):
    big, small = (
        Plan(rows=60, batch_size=20 // many, epochs=3, warmup=0.1, seed=4, accumulate=many) for many in (1, accumulate)
    )
    assert small.steps(1) == big.steps(1) == 3
    (weights, reports), (others, more) = line(big), line(small)
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=0, atol=1e-6)
    np.testing.assert_allclose(more[-1]["losses"], reports[-1]["losses"], rtol=1e-5)


def test_the_rate_may_stay_and_gradients_are_clipped():
    # Two steps of SGD would show the gradient; Adam's first moment does: .1 of it after a step.
    plan = Plan(rows=4, batch_size=1, epochs=1, warmup=0.5, seed=0, decay=False, clip=0.5)
    weight, path = nn.Parameter(torch.zeros(1, dtype=torch.float64)), []

    def loss(rows):
        path.append(weight.item())
        return 1000 * weight.sum()

    saved = []

    def report(metrics, save):
        saved.append(save)

    groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.0}]
    loop.train(loss, nn.ParameterList([weight]), groups, plan, Accelerator(cpu=True), report, lambda *_: None)
    path.append(weight.item())
    np.testing.assert_allclose(np.diff(path), [-0.05, -0.1, -0.1, -0.1], rtol=1e-4)
    moment = saved[0].keywords["optimizer"].state[weight]["exp_avg"].item()
    assert moment == pytest.approx(0.5 * (1 - 0.9**4), rel=1e-4)


# What a kill may leave of a run of Ray Train.


@pytest.mark.parametrize(
    ("snapshot", "there", "sound"),
    [
        (None, [], True),
        (None, ["epoch-0000"], True),  # killed before Ray listed it: it is written again
        ('{"checkpoint_results": []}', [], True),
        ('{"checkpoint_results": [{"checkpoint_dir_name": "epoch-0000"}]}', ["epoch-0000", "epoch-0001"], True),
        ('{"checkpoint_results": [{"checkpoint_dir_name": "epoch-0001"}]}', ["epoch-0000"], False),
        ("", ["epoch-0000"], False),
        ('{"checkpoint_results": [{"checkpoint_dir_', ["epoch-0000"], False),
        ("[]", ["epoch-0000"], False),
        ("{}", ["epoch-0000"], False),
    ],
)
def test_a_run_that_ray_train_would_refuse_is_known_before_it_does(tmp_path, snapshot, there, sound):
    for name in there:
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").write_bytes(b"")
    if snapshot is not None:
        (tmp_path / SNAPSHOT).write_text(snapshot)
    assert resumable(Folder.open(str(tmp_path))) is sound


def test_a_checkpoint_half_deleted_is_no_checkpoint(tmp_path):
    (tmp_path / "epoch-0000").mkdir()
    (tmp_path / SNAPSHOT).write_text('{"checkpoint_results": [{"checkpoint_dir_name": "epoch-0000"}]}')
    assert not resumable(Folder.open(str(tmp_path)))
