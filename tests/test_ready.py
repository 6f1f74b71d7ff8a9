"""Recommenders ready to serve score as the models that they come from."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from synthrec.evaluation.baselines import ItemKNN
from synthrec.recommenders import ready
from synthrec.recommenders.base import Cases
from synthrec.recommenders.graph import LightGCN
from synthrec.recommenders.sequential import Sequential, Shape

HISTORY = np.array([3, 1, 4])
KNOWN = np.arange(12) < 10


def graph():
    taken = [np.arange(i, i + 3) for i in range(8)]
    return LightGCN.of(taken, 12, width=8, layers=2)


def sequential():
    return Sequential(KNOWN, Shape(width=8, longest=5, dropout=0.0))


@pytest.mark.parametrize(("name", "model"), [("graph", graph()), ("sequential", sequential())])
def test_they_score_as_the_model_does(name, model, tmp_path):
    model.save(tmp_path)
    ready.pack(name, tmp_path, tmp_path / "packed")
    # Shopper 99 is not in the graph: known by history alone, as all are who are served.
    expected = model.scores(Cases(np.array([99]), [HISTORY], [HISTORY[:1]]))[0]
    found = ready.load(name, tmp_path / "packed").scores(HISTORY)
    np.testing.assert_array_equal(ready.load(name, tmp_path).scores(HISTORY), found)
    assert np.isneginf(found).tolist() == (~KNOWN).tolist()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_neighbours_score_as_evaluation_did_and_know_no_cold_item(tmp_path):
    dice = np.random.default_rng(0)
    taken = [dice.choice(10, 3, replace=False) for _ in range(30)]
    model = ItemKNN(taken, 12)
    (tmp_path / ready.NEIGHBOURS).write_bytes(ready.Neighbours(model.likeness).stored())
    served = ready.load(ready.ITEM_KNN, tmp_path)
    history = np.array([3, 1, 11, 3])  # one of them twice, and one that nobody took
    found = served.scores(history)
    expected = model.scores(Cases(np.array([0]), [history], [history[:1]]))[0]
    np.testing.assert_allclose(found[:10], expected[:10], rtol=1e-6)
    assert np.isneginf(found[10:]).all()
    assert served.scores(np.array([11])) is None
    assert served.scores(np.zeros(0, np.int64)) is None


@pytest.mark.parametrize(("name", "model"), [("graph", graph()), ("sequential", sequential())])
def test_an_empty_history_tells_nothing(name, model, tmp_path):
    model.save(tmp_path)
    assert ready.load(name, tmp_path).scores(np.zeros(0, np.int64)) is None


def test_a_bundle_does_not_tell_who_took_what(tmp_path):
    model = graph()
    model.save(tmp_path)
    ready.pack("graph", tmp_path, tmp_path / "packed")
    (file,) = (tmp_path / "packed").iterdir()
    found = load_file(file)
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "items": (12, 8),
        "shares": (12, 8),
        "scorable": (12,),
    }
