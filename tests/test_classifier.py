"""The multi-task classifier, trained by the loop on small made-up features."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from synthrec import recommenders
from synthrec.recommenders.classifier import Classifier, Objective
from synthrec.recommenders.features import Features, ngrams
from synthrec.training import loop

TASKS = {"sentiment": ["good", "bad"], "intent": ["buy", "look", "ask"]}
WORDS = [["很好", "太差"], ["想买", "看看", "请问"]]
LONE = float("nan")


def made(rows=240, seed=0):
    """Features that tell both tasks' labels, some noise, and the labels' places, (rows, 2)."""
    dice = np.random.default_rng(seed)
    places = np.stack([dice.integers(2, size=rows), dice.integers(3, size=rows)], axis=1)
    texts = [WORDS[0][a] + WORDS[1][b] for a, b in places]
    centres = np.random.default_rng(99).normal(size=(2, 3, 6)) * 3
    states = np.stack([centres[0, a] + centres[1, b] for a, b in places]) + dice.normal(size=(rows, 6))
    return Features((100 * states + 1000).astype(np.float32), ngrams(texts, buckets=256)), places


def soft(places, labels, keep=None):
    found = np.eye(labels, dtype=np.float32)[places]
    if keep is not None:
        found[~keep] = LONE
    return found


def trained(model, features, targets, epochs=30):
    if features.states is not None:
        model.standardise(features.states)
    plan = loop.Plan(rows=len(features), batch_size=16, epochs=epochs, warmup=0.1, seed=3)
    objective = Objective(model, 2e-2)

    def loss(rows):
        return objective(features.batch(rows) | {name: one[rows] for name, one in targets.items()})

    loop.train(
        loss, objective, objective.parameter_groups(), plan, Accelerator(cpu=True), lambda *a: None, lambda *a: None
    )
    return model


def accuracy(model, features, places):
    found = model.predict(features)
    return [float((found[name].argmax(1) == places[:, i]).mean()) for i, name in enumerate(TASKS)]


KINDS = {
    "states": partial(Classifier, TASKS, states=6),
    "n-grams": partial(Classifier, TASKS, buckets=256),
    "both": partial(Classifier, TASKS, states=6, buckets=256, dropout=0.1),
    "trunk": partial(Classifier, TASKS, states=6, buckets=256, width=16, dropout=0.1),
    "weights": partial(Classifier, TASKS, states=6, width=16, weights={"sentiment": 1, "intent": 0.5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_every_task_from_labels_that_are_half_missing(kind):
    torch.manual_seed(1)
    model = KINDS[kind]()
    features, places = made()
    features = Features(features.states if model.dense else None, features.ngrams if model.ngrams else None)
    half = np.arange(len(places)) % 2 == 0  # no row has both labels
    targets = {"sentiment": soft(places[:, 0], 2, half), "intent": soft(places[:, 1], 3, ~half)}
    before = accuracy(model, features, places)
    fresh, right = made(seed=5)
    fresh = Features(fresh.states if model.dense else None, fresh.ngrams if model.ngrams else None)
    after = accuracy(trained(model, features, targets), fresh, right)
    assert min(after) > 0.9
    assert max(before) < 0.8


def test_a_row_without_a_label_changes_nothing():
    model = Classifier(TASKS, states=6, weights=dict.fromkeys(TASKS, 1.0))
    features, places = made(8)
    keep = np.arange(8) < 5
    batch = features.batch(range(8))
    some = model.losses(batch | {"sentiment": soft(places[:, 0], 2, keep)})
    alone = model.losses(features.batch(range(5)) | {"sentiment": soft(places[:5, 0], 2)})
    torch.testing.assert_close(some[0], alone[0])
    assert some[1].tolist() == [True, False]
    assert some[0][1] == 0
    listed = [one.tolist() if kept else None for one, kept in zip(soft(places[:, 0], 2), keep, strict=True)]
    torch.testing.assert_close(model.losses(batch | {"sentiment": listed})[0], some[0])


def test_nothing_labelled_gives_a_loss_of_zero_with_gradients():
    model = Classifier(TASKS, states=6, buckets=256, width=4)
    loss = model.loss(made(3)[0].batch(range(3)))
    loss.backward()
    assert loss.item() == 0
    # DistributedDataParallel waits for each parameter's gradient.
    assert all(one.grad is not None and one.grad.abs().sum() == 0 for one in model.parameters())


def test_soft_labels_are_what_cross_entropy_says():
    model = Classifier({"sentiment": ["good", "bad"]}, states=6, weights={"sentiment": 2.0})
    features, _ = made(4)
    wanted = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0], [0.2, 0.8]])
    batch = features.batch(range(4))
    expected = torch.nn.functional.cross_entropy(model(batch)["sentiment"], wanted)
    torch.testing.assert_close(model.loss(batch | {"sentiment": wanted}), 2 * expected)


def test_a_task_of_noise_comes_to_weigh_less():
    torch.manual_seed(1)
    features, places = made()
    noise = np.random.default_rng(8).integers(3, size=len(places))
    targets = {"sentiment": soft(places[:, 0], 2), "intent": soft(noise, 3)}
    model = trained(Classifier(TASKS, states=6), features, targets)
    variances = dict(zip(TASKS, model.log_variance.tolist(), strict=True))
    assert variances["intent"] > variances["sentiment"] + 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(kind, tmp_path):
    model = KINDS[kind]()
    features, _ = made(20)
    features = Features(features.states if model.dense else None, features.ngrams if model.ngrams else None)
    if features.states is not None:
        model.standardise(features.states)
    for one in model.parameters():
        torch.nn.init.normal_(one)
    model.save(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    again = recommenders.objective("classifier").start(tmp_path, {"learning_rate": 0.1}, lambda one: one).classifier
    assert (again.tasks, again.shape, again.weights) == (model.tasks, model.shape, model.weights)
    for name, expected in model.predict(features).items():
        np.testing.assert_array_equal(again.predict(features)[name], expected)
        np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-5)


def test_a_text_without_ngrams_and_no_texts_are_predicted():
    model = Classifier(TASKS, buckets=256)
    torch.nn.init.normal_(model.ngrams.weight)
    found = model.predict(Features(ngrams=ngrams(["", "很好"], buckets=256)))["sentiment"]
    assert found[0].tolist() == [0.5, 0.5] != found[1].tolist()
    assert model.predict(Features(ngrams=ngrams([], buckets=256)))["intent"].shape == (0, 3)


def test_features_there_must_be():
    with pytest.raises(ValueError, match="needs features"):
        Classifier(TASKS)
