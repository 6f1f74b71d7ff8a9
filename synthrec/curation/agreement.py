"""Labels to trust: by how far the best is ahead of the second, and by whether a second opinion says the same.

A second opinion is another prompt (an own task that reads the same records) or another engine (the labels of another
run). What two ways of asking agree on is right more often than either (self-consistency, Wang et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow.dataset as pads

from synthrec import schema
from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.storage import Folder

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


def opinions(parts: Iterable[list[Row]], aids: Aids) -> Opinions:
    """The labels of `curate.second`, by what they are about."""
    found: Opinions = {}
    tasks = {row["task"] for rows in parts for row in rows[:1]}
    for task, (folder, other) in ((task, _where(aids, task)) for task in tasks & set(aids.config.curate.second)):
        columns = ["facet", "sources", "label"]
        for row in folder.read_table(schema.LABEL, columns, pads.field("task") == other).to_pylist():
            found[task, row["facet"], _about(row)] = row["label"]
    return found


def agreed(rows: list[Row], aids: Aids, other: Opinions) -> Outcome:
    """Refuse chosen labels with which the second opinion differs; where there is none, the label is kept."""

    def why(row: Row) -> tuple[str, str] | None:
        said = other.get((row["task"], row["facet"], _about(row)))
        if row["labels"] is None or said is None or said == row["label"]:
            return None
        return "two opinions differ", f"{row['label']}, and the other says {said}"

    return split(rows, why)


def _about(row: dict[str, Any]) -> str:
    return "\n".join(row["sources"] or [])


def _where(aids: Aids, task: str) -> tuple[Folder, str]:
    """Folder and task of the second opinion: a task of this run, or `<folder of labels>:<task>`."""
    where, _, name = aids.config.curate.second[task].rpartition(":")
    return (Folder.open(where) if where else aids.labels), name
