"""Ray on two nodes of one CPU, of which one is lost: python -m tests.two_nodes FOLDER.

FOLDER/address is where they are; FOLDER/lose has the second one taken away, and FOLDER/lost says that it is.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from synthrec import cluster


def main(folder: Path) -> None:
    os.environ |= cluster.SETTINGS | cluster.haproxy()
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}  # to notice that a node is gone
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": quick})
    other = nodes.add_node(num_cpus=1)
    (folder / "address").write_text(nodes.address)
    while not (folder / "lose").exists():
        time.sleep(0.05)
    nodes.remove_node(other, allow_graceful=False)
    (folder / "lost").touch()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
