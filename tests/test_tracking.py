"""Where a training is told to: TensorBoard's files, MLflow, or nowhere."""

from __future__ import annotations

import sys

import pytest

from synthrec.errors import UserError
from synthrec.training.tracking import tracked


def tell(kind, folder):
    with tracked(kind, folder, "store sequential") as track:
        for step in range(3):
            track(step, {"epoch/loss": 2.0 - step, "epoch/ndcg@10": 0.1 * step})


def test_tensorboard_shows_each_value(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(one.step, one.value) for one in events.Scalars("epoch/loss")] == [(0, 2.0), (1, 1.0), (2, 0.0)]
    assert [one.value for one in events.Scalars("epoch/ndcg@10")] == pytest.approx([0.0, 0.1, 0.2])


def test_mlflow_keeps_each_value(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    tell("mlflow", tmp_path)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("synthrec").experiment_id])
    assert run.info.run_name == "store sequential"
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "epoch/loss")
    assert [(one.step, one.value) for one in losses] == [(0, 2.0), (1, 1.0), (2, 0.0)]


def test_nothing_is_written_unasked(tmp_path):
    tell("none", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_told(tmp_path, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"{kind} is not installed") as told:
        tell(kind, tmp_path)
    assert "synthrec[tracking]" in told.value.hint
