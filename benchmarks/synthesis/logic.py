"""The pipeline's own logic, with the fake engine: a no-op beside distilabel's, more actors, many rows, long rows."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peak import Peak, own
from benchmarks.synthesis.runs import Run, answers, only, products
from synthrec import cluster

PEER = Path(__file__).with_name("distilabel_noop.py")
ACTORS = (1, 2, 4, 8, 16)
ROWS_AN_ACTOR, SECONDS = 800, 0.04  # 32 seconds of work


def noop(folder: Path, peer: str) -> dict[str, Any]:
    """Rows a second of the whole stage with an engine that does nothing; distilabel's own, start included in both.

    distilabel's figure is that of its default batches (50 rows); with large ones it is given beside it.
    """
    cluster.start()
    rows = 600_000
    seconds, figures = _fake(folder, rows, {"seconds": 0}, {"batch_size": 4096}).seconds()
    ours = answers(figures) / seconds
    result: dict[str, Any] = {"noop_rows": rows, "noop_per_s": ours, "distilabel_per_s": None}
    if Path(peer).is_file():
        sizes = {
            "distilabel_per_s": (50_000, 50),
            "distilabel_2000_rows_per_s": (2_000, 50),
            "distilabel_batches_of_1000_per_s": (200_000, 1000),
        }
        result |= {name: _peer(peer, *size) for name, size in sizes.items()}
    return result


def _peer(python: str, rows: int, batch: int) -> float:
    told = subprocess.run([python, str(PEER), str(rows), str(batch)], capture_output=True, text=True, check=True)
    return float(json.loads(told.stdout.splitlines()[-1])["rows_per_s"])


def scaling(folder: Path, peer: str) -> dict[str, Any]:
    """Answers a second of 1 to 16 actors over four nodes, each answer taking a set time."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "include_dashboard": False})
    for _ in range(3):
        nodes.add_node(num_cpus=6)
    os.environ["RAY_ADDRESS"] = nodes.address
    cluster.start()
    rates = {}
    for actors in ACTORS:
        journal = folder / f"journal-{actors}"
        journal.mkdir(parents=True)
        engine = {"seconds": SECONDS, "journal": str(journal)}
        _fake(folder, ROWS_AN_ACTOR * actors, engine, {"actors": [actors, actors], "batch_size": 32}).seconds()
        rates[actors] = _steady(journal)
    import ray

    ray.shutdown()
    nodes.shutdown()
    return {
        "per_s_by_actors": {str(k): v for k, v in rates.items()},
        "ideal_per_s_an_actor": 1 / SECONDS,
        "efficiency_by_actors": {str(k): v / (k * rates[1]) for k, v in rates.items()},
    }


def _steady(journal: Path) -> float:
    """Answers a second once all actors are at work and before any runs out: between 30% and 90% of the calls."""
    calls = sorted((one.stat().st_mtime, int(one.name.rpartition("-")[2])) for one in journal.iterdir())
    first, last = (calls[int(share * len(calls))][0] for share in (0.3, 0.9))
    return sum(rows for at, rows in calls if first <= at < last) / (last - first)


def memory(folder: Path, peer: str) -> dict[str, Any]:
    """The driver's memory above what it has at its start, at its highest, for more and more rows."""
    cluster.start()
    _fake(folder, 1000, {}, {}).seconds()  # what Ray and its libraries take at all
    peaks = {}
    for rows in (10_000, 100_000, 1_000_000):
        run = _fake(folder, rows, {}, {"batch_size": 4096})
        with Peak(own) as peak:
            seconds, _ = run.seconds()
        peaks[rows] = {"peak_mb": peak.mb, "above_start_mb": peak.mb - peak.before, "rows_per_s": rows / seconds}
    return {"driver_memory": {str(k): v for k, v in peaks.items()}}


def skew(folder: Path, peer: str) -> dict[str, Any]:
    """One prompt in a hundred takes 20 times as long: answers a second, for the work that they are, against none."""
    cluster.start()
    rows = 6000
    layout = {"batch_size": 64}
    even = {"seconds": 0.02, "parallel": 8}
    found = []
    for options in (even, even | {"long_every": 100, "long_factor": 20}):
        run = _fake(folder, rows, options, layout)
        little, few = run.seconds("synthesize.tasks.queries.max_products=64")
        whole, all_ = run.seconds()
        found.append((answers(all_) - answers(few)) / (whole - little))
    work = 1 + (20 - 1) / 100  # of the mean prompt
    return {"even_per_s": found[0], "skewed_per_s": found[1], "skew_costs": 1 - found[1] * work / found[0]}


def _fake(folder: Path, rows: int, options: dict[str, Any], layout: dict[str, Any]) -> Run:
    catalogue = folder / f"products-{rows}"
    if not catalogue.exists():
        products(catalogue, rows)
    engine = {"kind": "fake", "options": options, "resources": {"cpus": 1, **layout}}
    return Run(
        folder / f"fake-{rows}",
        (
            "sources=" + json.dumps({"products": {"path": str(catalogue)}}),
            f"synthesize.engine={json.dumps(engine)}",
            only(queries={"per_product": 1}),
        ),
    )
