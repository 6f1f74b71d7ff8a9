"""A search of Ray Tune in a process of its own, for a test that kills it: python tune_driver.py FOLDER.

Each beginning of a trial is a line of FOLDER/begun, and what came of all is in FOLDER/found.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from synthrec import cluster
from tests import test_tune

EPOCHS = 27


def begin(folder, more, values, start):
    with (folder / "begun").open("a") as file:
        file.write(json.dumps(values) + "\n")
    return more(values, start)


def main(folder):
    cluster.start(num_cpus=2)
    model = test_tune.config(epochs=EPOCHS, search={"dropout": {"low": 0.0, "high": 0.5}}, learning_rate=1e-3)
    found = test_tune.searched(folder / "work", model, 4, partial(begin, folder))
    (folder / "found.json").write_text(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
