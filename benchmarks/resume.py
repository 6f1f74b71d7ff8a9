"""Twenty SIGKILLs at random moments over the driver, the actors and a node: what is lost, doubled, torn, redone.

The engine is the fake one, whose answers take a set time and are the same each time: what is measured is the pipeline.
An undisturbed run of the same config is made first; the labels of the two must be the same, row by row.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.machine import machine
from benchmarks.synthesis.runs import only, products
from synthrec import console, schema

ACTORS, BATCH, AT_ONCE = 4, 32, 2
NODES = 3  # beside the head, which is not killed
VICTIMS = ("driver", "actor", "node")


def main() -> None:
    given = _arguments()
    folder = Path(given.run_dir).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    dice = random.Random(given.seed)  # noqa: S311
    config = _config(folder, given.rows)
    nodes = _Nodes()
    try:
        _run(config, folder / "calm", nodes.address).wait()
        kills = _killed(config, folder / "killed", nodes, given.kills, dice)
    finally:
        nodes.stop()
    result = {"benchmark": "resume", "machine": machine(), "seed": given.seed, **_found(folder, kills)}
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=6000, help="answers to ask for")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments and the victims")
    parser.add_argument("--run-dir", default="runs/benchmark-resume", help="where to work; emptied first")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


class _Nodes:
    """A cluster of several nodes on this machine, one of which can be killed and is then replaced."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        self._others = [self._cluster.add_node(num_cpus=2) for _ in range(NODES)]
        self.address: str = self._cluster.address

    def kill_one(self, dice: random.Random) -> None:
        victim = self._others.pop(dice.randrange(len(self._others)))
        self._cluster.remove_node(victim, allow_graceful=False)
        self._others.append(self._cluster.add_node(num_cpus=2))

    def stop(self) -> None:
        self._cluster.shutdown()


def _config(folder: Path, rows: int) -> list[str]:
    """The command line but for its run directory."""
    engine = {
        "kind": "fake",
        "options": {"seconds": 0.05},
        "resources": {"actors": [ACTORS, ACTORS], "batch_size": BATCH, "cpus": 1},
    }
    sources = {"products": {"path": str(products(folder / "products", rows))}}
    settings = [f"sources={json.dumps(sources)}", only(queries={"per_product": 1})]
    verb = [sys.executable, "-m", "synthrec.cli", "synthesize", "-c", "configs/store.yaml"]
    return [*verb, *(f"--set={one}" for one in settings), json.dumps(engine)]


def _run(config: list[str], run_dir: Path, address: str) -> subprocess.Popen[bytes]:
    """A driver at work, after `prepare`."""
    *command, engine = config
    journal = run_dir.with_name(f"{run_dir.name}-journal")
    journal.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(engine)
    wanted["options"]["journal"] = str(journal)
    more = [f"--set=run_dir={run_dir}", f"--set=synthesize.engine={json.dumps(wanted)}"]
    surroundings = {**os.environ, "RAY_ADDRESS": address}
    prepare = ["prepare" if part == "synthesize" else part for part in command]
    subprocess.run([*prepare, *more], env=surroundings, check=True)
    return subprocess.Popen([*command, *more], env=surroundings)


def _killed(config: list[str], run_dir: Path, nodes: _Nodes, kills: int, dice: random.Random) -> Counter[str]:
    """Run to the end, with kills on the way; a killed driver is started again, as a person would."""
    done: Counter[str] = Counter()
    driver = _run(config, run_dir, nodes.address)
    while True:
        try:
            code = driver.wait(timeout=dice.uniform(4, 12) if done.total() < kills else 600)
            if code == 0:
                break
            console.warn(f"the driver ended with {code}; it is started again")
            driver = _run(config, run_dir, nodes.address)
            continue
        except subprocess.TimeoutExpired:
            if done.total() >= kills:
                raise
        victim = VICTIMS[done.total() % len(VICTIMS)] if done.total() < len(VICTIMS) else dice.choice(VICTIMS)
        if victim == "driver":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            driver = _run(config, run_dir, nodes.address)
        elif victim == "actor":
            actors = _actors()
            if not actors:
                continue  # none has started yet
            dice.choice(actors).kill()
        else:
            nodes.kill_one(dice)
        done[victim] += 1
        console.say(f"    kill {done.total()}: {victim}")
    return done


def _actors() -> list[psutil.Process]:
    """Processes that hold an engine."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        if "MapWorker(MapBatches(Worker))" in " ".join(one.info["cmdline"] or ()):
            found.append(one)
    return found


def _found(folder: Path, kills: Counter[str]) -> dict[str, Any]:
    calm, killed = (_labels(folder / name) for name in ("calm", "killed"))
    wanted = set(calm)
    torn = sum(not _readable(path) for path in (folder / "killed").rglob("*.parquet"))
    asked = sum(int(one.name.rpartition("-")[2]) for one in (folder / "killed-journal").iterdir())
    most = kills.total() * ACTORS * AT_ONCE * BATCH
    return {
        "kills": kills.total(),
        "kills_of": dict(kills),
        "rows": len(wanted),
        "lost": len(wanted - set(killed)),
        "doubled": sum(killed.values()) - len(killed),
        "torn": torn,
        "regenerated": asked - len(wanted),
        "regenerated_at_most": most,  # all batches in flight at each kill
        "same_as_undisturbed": calm == killed,
    }


def _labels(run_dir: Path) -> Counter[str]:
    """Each label row of the published folder, as text."""
    manifest = json.loads((run_dir / "synthesize" / "manifest.json").read_text(encoding="utf-8"))
    found: Counter[str] = Counter()
    for path in (run_dir / "synthesize" / manifest["fingerprint"] / "labels").glob("*.parquet"):
        found.update(json.dumps(row, default=str) for row in pq.read_table(path, schema=schema.LABEL).to_pylist())
    return found


def _readable(path: Path) -> bool:
    try:
        pq.read_table(path)
    except Exception:
        return False
    return True


if __name__ == "__main__":
    main()
