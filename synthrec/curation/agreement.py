"""Labels to trust: by how far the best is ahead of the second, and by whether a second opinion says the same.

A second opinion is another prompt (an own task that reads the same records) or another engine (the labels of another
run). What two ways of asking agree on is right more often than either (self-consistency, Wang et al. 2023). Each way
has a lean of its own: where the list calibrates a task's labels first, its second opinion is calibrated alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from synthrec import schema
from synthrec.curation import calibrate
from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.errors import UserError
from synthrec.storage import Folder

COLUMNS = ["id", "task", "facet", "language", "sources", "text", "label", "labels", "scores", "prior"]
PART = 10_000  # rows that are Python objects at once

Opinions = dict[tuple[str, str, str], str]  # (task, facet, sources) -> the other's label


def ahead(rows: list[Row], aids: Aids) -> Outcome:
    """Refuse chosen labels whose probability is less than `curate.min_margin` above the next one's."""
    least = aids.config.curate.min_margin

    def why(row: Row) -> tuple[str, str] | None:
        if not row["scores"] or len(row["scores"]) < 2:
            return None
        best, second = sorted(row["scores"], reverse=True)[:2]
        if best - second >= least:
            return None
        return "uncertain", f"{best:.3f} against {second:.3f}, less than curate.min_margin = {least} apart"

    return split(rows, why)


@dataclass(frozen=True)
class _Slices:
    """A table's rows, some at a time, as often as wanted."""

    table: pa.Table

    def __iter__(self) -> Iterator[list[Row]]:
        for start in range(0, self.table.num_rows, PART):
            yield self.table.slice(start, PART).to_pylist()


def opinions(parts: Iterable[list[Row]], aids: Aids) -> Opinions:
    """The labels of `curate.second`, by what they are about.

    Raises:
        UserError: it names no labels; without any, all would seem to be agreed on.
    """
    found: Opinions = {}
    tasks = {row["task"] for rows in parts for row in rows[:1]}
    for task, (folder, other) in ((task, _where(aids, task)) for task in tasks & set(aids.config.curate.second)):
        before = len(found)
        about = (pads.field("task") == other) & pads.field("labels").is_valid()
        said = _Slices(folder.read_table(schema.LABEL, COLUMNS, about))
        lean = calibrate.learn(said, aids) if _calibrated(task, aids) else None
        for rows in said:
            for row in calibrate.calibrated(rows, aids, lean)[0] if lean else rows:
                found[task, row["facet"], _about(row)] = row["label"]
        if len(found) == before:
            raise UserError(
                f"curate.second.{task}: {folder} holds no chosen labels of a task '{other}'",
                "name a task of this run, or FOLDER-OF-LABELS:TASK of another",
            )
    return found


def agreed(rows: list[Row], aids: Aids, other: Opinions) -> Outcome:
    """Refuse chosen labels with which the second opinion differs; where there is none, the label is kept."""

    def why(row: Row) -> tuple[str, str] | None:
        said = other.get((row["task"], row["facet"], _about(row)))
        if row["labels"] is None or said is None or said == row["label"]:
            return None
        return "two opinions differ", f"{row['label']}, and the other says {said}"

    return split(rows, why)


def _calibrated(task: str, aids: Aids) -> bool:
    """Whether the task's own labels are, by the time they are held against the second opinion."""
    before = takewhile(lambda step: step != "agreement", aids.config.curate.steps)
    return task in calibrate.TASKS and "calibrate" in before


def _about(row: dict[str, Any]) -> str:
    return "\n".join(row["sources"] or [])


def _where(aids: Aids, task: str) -> tuple[Folder, str]:
    """Folder and task of the second opinion: a task of this run, or `<folder of labels>:<task>`."""
    where, _, name = aids.config.curate.second[task].rpartition(":")
    return (Folder.open(where, aids.config.storage.key_source) if where else aids.labels), name
