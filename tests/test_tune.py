"""Ray Tune over a recommender's settings: real trials of a tiny shop, judged by its validation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from synthrec import cli
from synthrec.config import Config, SequentialModel
from synthrec.errors import UserError
from synthrec.evaluation.splits import leave_one_out
from synthrec.stages import tune as stage
from synthrec.stages.next_items import Shop
from synthrec.storage import Folder
from train_app.tune import Study, search

ITEMS = 12


def shop():
    """What comes next is the next number."""
    dice = np.random.default_rng(0)
    sequences = [(start + np.arange(7)) % ITEMS for start in dice.integers(0, ITEMS, 40)]
    names = [str(one) for one in range(ITEMS)]
    return Shop(names, names, [str(one) for one in range(len(sequences))], leave_one_out(sequences), [])


def config(**values):
    small = {"epochs": 6, "width": 8, "batch_size": 8, "text": False, "dropout": 0.0, "learning_rate": 1e-5}
    return SequentialModel.model_validate(small | values)


def searched(folder, model, trials, seen=lambda begin, values, start: begin(values, start)):
    own = shop()
    begin = partial(stage.begun, "sequential", model, 1, own, None, 1)
    study = Study("sequential", partial(seen, begin), own.split.validation, True, False, "float32")
    first = {name: getattr(model, name) for name in model.search}
    work = Folder.open(str(folder))
    return search(study, stage.space(model.search), first, trials, model.epochs, 1, 0, work)


@pytest.mark.slow
def test_the_best_trial_comes_first_and_a_wrong_one_does_not_stop_the_rest(tmp_path, ray_session):
    model = config(search={"learning_rate": [3e-2], "heads": [1, 3]})  # three heads do not share a width of eight
    found = searched(tmp_path, model, 4)
    assert len(found) == 4
    whole = [one for one in found if one.error is None]
    assert found[: len(whole)] == whole, "what failed comes last"
    assert [one.ndcg for one in whole] == sorted((one.ndcg for one in whole), reverse=True)
    configured = next(one for one in found if one.values == {"learning_rate": 1e-5, "heads": 1})
    assert whole[0].values == {"learning_rate": 3e-2, "heads": 1}
    assert whole[0].ndcg > max(0.5, configured.ndcg)
    assert {one.values["heads"] for one in found if one.error} <= {3}


def test_a_search_finds_only_what_there_is():
    for wrong, problem in (
        ({"lerning_rate": [1]}, "is no setting to search for"),
        ({"epochs": [1, 2]}, "is no setting to search for"),
        ({"dropout": [0.5, 1.5]}, "search.dropout: 1.5"),
        ({"width": {"low": 0, "high": 8}}, "search.width: 0"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, "low must be below high"),
        ({"dropout": {"low": 0, "high": 0.1, "log": True}}, "above 0 where log is set"),
    ):
        with pytest.raises(ValueError, match=re.escape(problem)):
            config(search=wrong)


def test_values_are_drawn_from_both_ends_and_between():
    wanted = {"width": {"low": 8, "high": 10}, "dropout": {"low": 0.1, "high": 0.2}, "heads": [1, 2]}
    found = stage.space(config(search=wanted).search)
    assert {found["width"].sample() for _ in range(200)} == {8, 9, 10}
    assert all(0.1 <= found["dropout"].sample() <= 0.2 for _ in range(50))
    assert {found["heads"].sample() for _ in range(50)} == {1, 2}


def test_what_has_no_validation_cannot_be_tuned():
    with pytest.raises(UserError, match="'bi_encoder' has no validation"):
        stage.stage("bi_encoder", 3)


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("tune_driver.py")), str(tmp_path)]
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)

    def checkpoints():
        return len(list((tmp_path / "work" / "trials").glob("*/checkpoint_*/state.pt")))

    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=environment)
        while checkpoints() < 2:
            assert driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        driver.kill()
        driver.wait()
        assert not (tmp_path / "found.json").exists(), "it was killed before its end"
        subprocess.run(command, cwd=root, stdout=log, stderr=log, env=environment, check=True, timeout=300)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 4 and not any(one["error"] for one in found)
    begun = [json.loads(line) for line in (tmp_path / "begun").read_text().splitlines()]
    assert len({json.dumps(one) for one in begun}) == 4, "the same trials as before, and no others"
    assert {one["values"]["dropout"] for one in found} == {one["dropout"] for one in begun}
    assert 4 < len(begun) <= 7, "only those under way were taken up again"


def test_the_verb_prints_settings_for_the_config(small_run, small_shop, monkeypatch, capsys):
    space = "recommend.graph.search={learning_rate: [0.02], draws: [1, 2]}"
    words = ["tune", "-c", str(small_shop), "--recommender", "graph", "--trials", "2", "-s", space]
    monkeypatch.setattr(sys, "argv", ["synthrec", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.entry()
    assert not stopped.value.code
    told = capsys.readouterr()
    best = yaml.safe_load(told.out)["recommend"]["graph"]
    assert best.keys() == {"learning_rate", "draws"}
    assert "as configured" in told.err
    values = cli.load(small_shop).model_dump()
    values["recommend"]["graph"] |= best
    assert Config.model_validate(values).recommend.graph.draws == best["draws"]
    before = small_run.fingerprint("train_graph")
    assert (
        cli.Pipeline(small_run.config, cli.stages(cli.load(small_shop, [space]))).fingerprint("train_graph") == before
    )
