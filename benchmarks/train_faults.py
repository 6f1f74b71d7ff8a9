"""SIGKILLs at random moments over the driver and the workers of a training: does it end as if nothing had happened?

A small sequential model is trained by Ray Train on two workers, once undisturbed and once with kills. Each comes at a
random moment after the first checkpoint since the last one, so that the training gets on at all. A killed worker is
replaced by Ray Train; a killed driver is started again, as a person would. Told are the validation's NDCG@10 of the
best epoch in both, and how far losses and weights of the last epoch are from each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.machine import machine
from benchmarks.marked import marked
from synthrec import cluster, console
from synthrec.storage import Folder

MARK = "SYNTHREC_TRAIN_FAULTS"  # an environment variable: every process of a run inherits it, and is known by it
WORKERS, BATCH, DELAY = 2, 16, 1.5
FAILURES = 3  # of a driver, not by a kill
PATIENCE = 900.0  # seconds to wait for a checkpoint, or for the end


def main() -> None:
    given = _arguments()
    if given.drive:
        _drive(Path(given.drive))
        return
    folder = Path(given.run_dir).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    _prepare(folder / "job", Path(given.data), given.epochs, given.seed)
    dice = random.Random(given.seed)  # noqa: S311
    calm, killed = (_Run(folder / "job", folder / name) for name in ("calm", "killed"))
    calm.through(0, dice)
    kills = killed.through(given.kills, dice)
    result = {"benchmark": "train_faults", "machine": machine(), "seed": given.seed, "epochs": given.epochs}
    result |= _compared(folder) | {
        "kills": kills.total(),
        "kills_of": dict(kills),
        "failed": calm.failed + killed.failed,
    }
    result["seconds"] = round(time.monotonic() - start, 1)
    if given.json:
        print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default="examples/store/interactions.parquet", help="Parquet with user_id, product_id and timestamp"
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=40, help="enough for a checkpoint between two kills")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments and the victims")
    parser.add_argument("--run-dir", default="runs/benchmark-train-faults", help="where to work; emptied first")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(folder: Path, data: Path, epochs: int, seed: int) -> None:
    """What every run starts from: the untrained model, sequences to learn, cases to validate on."""
    import torch

    from synthrec.evaluation.splits import leave_one_out
    from synthrec.recommenders.sequential import Sequential, Shape
    from synthrec.stages.train_next import table
    from synthrec.training.behaviour import behaviour

    events = pq.read_table(data)
    products = pc.unique(events["product_id"]).sort()
    split = leave_one_out(behaviour(events, products, set(events["event"].to_pylist())).sequences)
    rows = [one for one in split.train if len(one) > 1]
    torch.manual_seed(seed)
    (folder / "start").mkdir(parents=True)
    known = pc.is_in(pa.array(range(len(products))), pa.array(sorted({int(i) for one in rows for i in one})))
    Sequential(known.to_numpy(zero_copy_only=False), Shape(width=32, negatives=0)).save(folder / "start")
    place = Folder.open(str(folder))
    (place / "rows").write_table("rows.parquet", pa.table({"items": pa.array(rows, pa.list_(pa.int64()))}))
    (place / "validation").write_table("cases.parquet", table(split.validation))
    place.write_json("plan.json", {"rows": len(rows), "batch_size": BATCH, "epochs": epochs, "warmup": 0.1, "seed": 1})


def _drive(folder: Path) -> None:
    """A driver: trains to the end, from wherever an earlier one was stopped, and writes what came out."""
    from synthrec.training import loop
    from train_app.fit import Job, fit

    job, place = Folder.open(os.environ[MARK + "_JOB"]), Folder.open(str(folder))
    cluster.start(num_cpus=WORKERS)
    result = fit(
        Job(
            recommender="sequential",
            settings={"learning_rate": 1e-3, "weight_decay": 0.01},
            plan=loop.Plan(**job.read_json("plan.json")),
            start=(job.fs, f"{job.path}/start"),
            rows=(job.fs, f"{job.path}/rows"),
            schema=pa.schema({"items": pa.list_(pa.int64())}),
            use_gpu=False,
            precision="float32",
            validation=(job.fs, f"{job.path}/validation"),
        ),
        (WORKERS, WORKERS),
        max_failures=-1,
        work=(place.fs, f"{place.path}/work"),
    )
    checkpoint: Any = result.checkpoint
    with checkpoint.as_directory() as last:
        shutil.copy(Path(last) / loop.STATE, folder / loop.STATE)
    place.write_json("result.json", result.metrics)


class _Run:
    """One training in a folder of its own, and all processes that work on it."""

    def __init__(self, job: Path, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.failed = 0
        self._seen = 0  # epochs that were done at the last kill
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.surroundings = own | {MARK: str(folder), MARK + "_JOB": str(job), "PYTHONPATH": os.pathsep.join(sys.path)}

    def through(self, kills: int, dice: random.Random) -> Counter[str]:
        """Train to the end, with so many kills on the way."""
        done: Counter[str] = Counter()
        driver = self._driver()
        try:
            while done.total() < kills:
                driver = self._progress(driver)
                time.sleep(dice.uniform(0, DELAY))
                victim = dice.choice(("driver", "worker"))
                if victim == "driver":
                    driver.kill()
                    driver.wait()
                    driver = self._driver()
                elif workers := self._workers():
                    dice.choice(workers).kill()
                else:
                    continue
                self._seen = self._epochs()
                done[victim] += 1
                console.say(f"    kill {done.total()}: {victim}, after {self._epochs()} epochs")
            while code := driver.wait(PATIENCE):
                driver = self._again(code)
        finally:
            for process in self._processes():
                process.kill()
        return done

    def _driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.train_faults", "--drive", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, env=self.surroundings, stdout=log, stderr=log)

    def _again(self, code: int) -> subprocess.Popen[bytes]:
        """Another driver for one that ended by itself: Ray may not come up where a machine is busy."""
        self.failed += 1
        if self.failed > FAILURES:
            raise RuntimeError(f"the training failed; see {self.folder / 'log'}")
        console.warn(f"the driver ended with {code}; it is started again")
        return self._driver()

    def _progress(self, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Wait for a checkpoint that was not there at the last kill; returns the driver, who may be another."""
        deadline = time.monotonic() + PATIENCE
        while self._epochs() <= self._seen:
            code = driver.poll()
            if code == 0 or time.monotonic() > deadline:
                raise RuntimeError(f"no more epochs to kill it in: give more --epochs, or see {self.folder / 'log'}")
            if code is not None:
                driver = self._again(code)
            time.sleep(0.05)
        return driver

    def _epochs(self) -> int:
        """How many epochs Ray Train can go on from."""
        names = [one.name for one in (self.folder / "work" / "sequential").glob("epoch-*")]
        return max((int(name.rpartition("-")[2]) + 1 for name in names), default=0)

    def _processes(self) -> list[psutil.Process]:
        return marked(MARK, str(self.folder))

    def _workers(self) -> list[psutil.Process]:
        found = []
        for process in self._processes():
            try:
                if process.cmdline()[0].startswith("ray::RayTrainWorker"):
                    found.append(process)
            except (psutil.Error, IndexError):
                continue
        return found


def _compared(folder: Path) -> dict[str, Any]:
    """The run that was killed beside the one that was not."""
    from synthrec.training import loop

    told = {name: Folder.open(str(folder / name)).read_json("result.json") for name in ("calm", "killed")}
    weights = {name: loop.read(folder / name)["model"] for name in told}
    metric = {name: max(one["values"]) for name, one in told.items()}
    apart = [abs(a - b) for a, b in zip(told["calm"]["losses"], told["killed"]["losses"], strict=True)]
    further = [
        float((one.double() - weights["killed"][name].double()).abs().max()) for name, one in weights["calm"].items()
    ]
    return {
        "ndcg_10": metric["killed"],
        "ndcg_10_undisturbed": metric["calm"],
        "same_metric": metric["calm"] == metric["killed"],
        "losses_apart": max(apart),
        "weights_apart": max(further),
        "same_best_epoch": told["calm"]["best_epoch"] == told["killed"]["best_epoch"],
    }


if __name__ == "__main__":
    main()
