"""Runs of the synthesize stage for measuring: a shop of any size, a clean run directory, seconds and requests."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthrec import config, schema
from synthrec.pipeline import Pipeline
from synthrec.stages import prepare, synthesize
from synthrec.synthesis.worker import prompt
from synthrec.tasks import chosen_tasks

STORE = "configs/store.yaml"
ROWS_A_FILE = 20_000


def products(path: Path, count: int) -> Path:
    """A catalogue of so many made-up products, in Parquet files."""
    path.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, ROWS_A_FILE):
        ids = range(start, min(start + ROWS_A_FILE, count))
        rows = {
            "product_id": [f"p{i}" for i in ids],
            "title": [f"Tarrow Kettle model {i}" for i in ids],
            "description": [f"Boils {i % 7 + 1} litres in {i % 5 + 2} minutes and keeps warm." for i in ids],
            "language": ["en"] * len(ids),
        }
        pq.write_table(pa.table(rows), path / f"{start:08d}.parquet")
    return path


@dataclass(frozen=True)
class Run:
    """Settings of runs that share what `prepare` published."""

    folder: Path
    overrides: tuple[str, ...]

    def pipeline(self, *more: str) -> Pipeline:
        settings = config.load(STORE, [f"run_dir={self.folder}", *self.overrides, *more])
        return Pipeline(settings, (prepare.STAGE, synthesize.STAGE))

    def seconds(self, *more: str) -> tuple[float, dict[str, Any]]:
        """Seconds of the stage from nothing, and its figures. Nothing of an earlier run is reused."""
        one = self.pipeline(*more)
        one.run("prepare")
        shutil.rmtree(self.folder / "synthesize", ignore_errors=True)
        start = time.monotonic()
        manifest = one.run("synthesize")
        return time.monotonic() - start, manifest["figures"]

    def asked(self, *more: str) -> list[dict[str, Any]]:
        """REQUEST rows of the last run, each with its prompt as `asked`."""
        one = self.pipeline(*more)
        tasks = {task.name: task for task in chosen_tasks(one.config)}
        rows: list[dict[str, Any]] = []
        for name in tasks:
            rows += (one.folder("synthesize") / "requests" / name).read_table(schema.REQUEST).to_pylist()
        return [row | {"asked": prompt(tasks, row)} for row in rows]


def answers(figures: dict[str, Any]) -> int:
    return sum(one["now"]["rows"] for one in figures.values())


def only(**tasks: dict[str, Any]) -> str:
    """An override that turns on these tasks and no others."""
    return "synthesize.tasks=" + json.dumps(tasks)
