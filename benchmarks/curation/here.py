"""The curate stage's steps in this process: a few hundred rows are one part, and there are many arms.

What it keeps is what the stage keeps (a test holds the two together); it leaves out parts, rejects and the data card.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from synthrec import cluster, schema
from synthrec.config import Config
from synthrec.curation import Aids, Parts, Row, chosen
from synthrec.stages.curate import catalogue, gold, scored
from synthrec.storage import Folder

# What these learn hangs on the catalogue alone: the same in every arm.
OF_CATALOGUE = ("round_trip",)
# What these learn is laid out on Ray, however few the rows.
ON_RAY = ("near_duplicates",)


def curate(config: Config, prepared: Folder, labels: Folder, work: Folder, known: dict[str, Any]) -> list[Row]:
    """LABEL rows that the config's steps keep, in order of id.

    Args:
        known: what steps have learnt of this catalogue in an earlier call; is added to.
    """
    aids = Aids(
        config,
        partial(catalogue, prepared),
        partial(scored, labels),
        labels,
        work,
        partial(gold, config, Folder.open(config.run_dir)),
    )
    rows = {row["id"]: row for row in labels.read_table(schema.LABEL).to_pylist()}
    by_task: dict[str, list[Row]] = {}
    for row in sorted(rows.values(), key=lambda one: str(one["id"])):
        by_task.setdefault(row["task"], []).append(row | {"fields": schema.strings(row["fields"])})
    return [row for task, some in by_task.items() for row in _through(task, some, aids, known)]


def _through(task: str, rows: list[Row], aids: Aids, known: dict[str, Any]) -> list[Row]:
    for step in chosen(aids.config.curate.steps):
        if step.concerns(task):
            learnt = known.get(step.name)
            if step.learn and learnt is None:
                if step.name in ON_RAY:
                    cluster.start()
                learnt = step.learn(_parts(rows, aids.work / task), aids)
                if step.name in OF_CATALOGUE:
                    known[step.name] = learnt
            rows, _ = step.apply(rows, aids, learnt)
    return sorted(rows, key=lambda one: str(one["id"]))


def _parts(rows: list[Row], folder: Folder) -> Parts:
    """All rows as one part, in a file: a step may read it where it learns."""
    folder.delete()
    folder.write_table("0.parquet", schema.table(rows, schema.LABEL))
    return Parts(folder)
