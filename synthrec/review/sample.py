"""Which rows a person sees: by turns from every stratum, so that rare labels and uncertain rows are among them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from synthrec import schema

Row = dict[str, Any]
UNSURE = 0.2  # a label that leads by less than this is in doubt


def sample(rows: list[Row], size: int, seed: int) -> list[Row]:
    """A stable sample of LABEL rows.

    Strata are task, question, language, label, and whether the label is in doubt. Each gives one row in turn, and so
    do tasks.
    Rows are ordered by a hash, so a larger sample begins with the smaller one, and other rows change little of it.
    """
    labels = defaultdict(set)
    for row in rows:
        labels[row["task"]].add(row["label"])
    strata: dict[str, dict[tuple[Any, ...], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        label = row["label"] if len(labels[row["task"]]) <= schema.FEW_LABELS else ""
        strata[row["task"]][row["facet"], row["language"], label, unsure(row)].append(row)
    ordered = []
    for task, groups in strata.items():
        turns = []
        for name, group in groups.items():
            group.sort(key=lambda row: schema.row_id(seed, row["id"]))
            turns += [(turn, schema.row_id(seed, *name), row) for turn, row in enumerate(group)]
        turns.sort(key=lambda one: one[:2])
        ordered += [(place, task, row) for place, (_, _, row) in enumerate(turns)]
    ordered.sort(key=lambda one: one[:2])
    return [row for _, _, row in ordered[:size]]


def unsure(row: Row) -> bool:
    """Whether the label leads the next one by little; a written one is never in doubt."""
    if not row["scores"] or len(row["scores"]) < 2:
        return False
    first, second = sorted(row["scores"], reverse=True)[:2]
    return bool(first - second < UNSURE)
