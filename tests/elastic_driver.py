"""A training that loses one of its two nodes, in a process of its own: python elastic_driver.py FOLDER.

FOLDER/ranks has a line a step, the number of ranks that took it; FOLDER/found.json the losses of the epochs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import ray
from ray.cluster_utils import Cluster
from torch import distributed

from synthrec import cluster
from synthrec.storage import Folder
from synthrec.training import loop
from tests import popular
from train_app.fit import Job, fit

EPOCHS, ROWS, BATCH = 8, 80, 10


class Objective(popular.Objective):
    """Takes its time, and notes how many take the step."""

    @classmethod
    def start(cls, folder, settings, gather):
        made = cls(popular.load(folder), settings["learning_rate"])
        made.noted = Path(settings["noted"])
        return made

    def forward(self, batch):
        time.sleep(0.1)
        if distributed.get_rank() == 0:
            with self.noted.open("a") as file:
                file.write(f"{distributed.get_world_size()}\n")
        return super().forward(batch)


def lose(nodes, node, checkpoints):
    """Take a node away once there is a checkpoint to go on from."""
    while len(list(checkpoints.glob("epoch-*/state.pt"))) < 2:
        time.sleep(0.1)
    nodes.remove_node(node, allow_graceful=False)


def main(folder):
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}  # to notice that a node is gone
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": quick})
    node = nodes.add_node(num_cpus=1)
    # Ray Train may ask for two once more before it knows that there is room for one: not for a whole minute here.
    os.environ |= {"RAY_ADDRESS": nodes.address, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8"}
    cluster.start()
    place, start = Folder.open(str(folder)), folder / "start"
    start.mkdir()
    popular.Popular(4).save(start)
    taken = pa.table({"items": pa.array([[n % 4, 1] for n in range(ROWS)], pa.list_(pa.int64()))})
    (place / "rows").write_table("rows.parquet", taken)
    job = Job(
        recommender="tests.elastic_driver",
        settings={"learning_rate": 0.1, "noted": str(folder / "ranks")},
        plan=loop.Plan(rows=ROWS, batch_size=BATCH, epochs=EPOCHS, warmup=0.0, seed=1),
        start=(place.fs, f"{place.path}/start"),
        rows=(place.fs, f"{place.path}/rows"),
        schema=taken.schema,
        use_gpu=False,
        precision="float32",
    )
    work = folder / "work"
    threading.Thread(target=lose, args=(nodes, node, work / job.recommender), daemon=True).start()
    result = fit(job, (1, 2), max_failures=3, work=(place.fs, f"{place.path}/work"))
    (folder / "found.json").write_text(json.dumps(result.metrics["losses"]))
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
