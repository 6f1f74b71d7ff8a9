"""Elastic workers for real: a node is lost while it trains, and the one that is left ends the training."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests import elastic_driver as driver

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_training_that_loses_a_node_goes_on_with_fewer_ranks(tmp_path):
    command = [sys.executable, "-m", "tests.elastic_driver", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = json.loads((tmp_path / "found.json").read_text())
    assert len(losses) == driver.EPOCHS, "an epoch is missing, or came twice"
    assert losses[-1] < losses[0]
    ranks = [(int(count), len(list(steps))) for count, steps in groupby((tmp_path / "ranks").read_text().split())]
    assert [count for count, _ in ranks] == [2, 1]
    each = driver.ROWS // driver.BATCH  # steps of one rank's epoch
    assert ranks[1][1] % each == 0, "it goes on from the end of an epoch"
    assert ranks[1][1] < driver.EPOCHS * each, "it goes on from a checkpoint"
