"""Curation as Ray Data tasks: labels -> parts in which a product's rows stand together -> steps, a part at a time.

The steps of a task run in rounds: a round begins at a step that learns from all rows, which needs those before it to
have seen every part. A part that a round has done is not done again when a killed job is run again.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from synthrec import cluster, schema
from synthrec.console import Meter
from synthrec.curation.base import Aids, Parts, Row, Step
from synthrec.privacy.recognisers import find
from synthrec.storage import Folder

ROWS_A_PART = 20_000


@dataclass(frozen=True)
class Round:
    """Steps of one task that run on a part in one go."""

    steps: tuple[Step, ...]
    source: Folder  # parts to read
    out: Folder  # parts to write
    prefix: str = ""  # of their names
    last: bool = False  # of the task's


def curate(labels: Folder, steps: Sequence[Step], aids: Aids, out: Folder, meter: Meter) -> dict[str, dict[str, Any]]:
    """Every label of a folder is kept in `out/labels` or refused in `out/rejects`; augmentation adds to those kept.

    Returns:
        task -> counts: rows `in` and `kept`, those of each of the `steps`, `refused` by reason, `personal` data kept.
    """
    parts = aids.work / "parts"
    found = _scatter(labels, parts)
    figures = {task: {"in": count, "kept": count, "steps": []} for task, count in found.items()}
    rounds = {task: _rounds(task, steps, parts / task, out) for task in found}
    for number in range(max(map(len, rounds.values()), default=0)):
        now = {task: some[number] for task, some in rounds.items() if number < len(some)}
        _run(now, number, aids, out, figures, meter)
    return figures


def _rounds(task: str, steps: Sequence[Step], parts: Folder, out: Folder) -> list[Round]:
    groups: list[list[Step]] = [[]]
    for step in steps:
        if step.concerns(task):
            if step.learn and groups[-1]:
                groups.append([])
            groups[-1].append(step)
    last = len(groups) - 1
    return [
        Round(tuple(group), parts / str(n), parts / str(n + 1))
        if n < last
        else Round(tuple(group), parts / str(n), out / "labels", f"{task}-", last=True)
        for n, group in enumerate(groups)
    ]


# Parts.


def _scatter(labels: Folder, parts: Folder) -> dict[str, int]:
    """Labels -> `parts/<task>/0/`; returns how many of each task, those written twice counted once."""
    pieces = parts / "pieces"
    pieces.delete()  # of a run that was stopped
    names = labels.files(".parquet")
    rows = sum(labels.rows(name) for name in names)
    units = [{"name": name} for name in names]
    tasks: set[str] = set()
    scatter = partial(_to_pieces, labels=labels, pieces=pieces, count=1 + rows // ROWS_A_PART)
    for one in cluster.work(units, scatter, num_cpus=0.5):
        tasks |= set(json.loads(one["tasks"]))
    units = [
        {"task": task, "bucket": bucket}
        for task in sorted(tasks)
        for bucket in sorted({name.split("/")[0] for name in (pieces / task).files()})
    ]
    counts: Counter[str] = Counter(dict.fromkeys(sorted(tasks), 0))
    for one in cluster.work(units, partial(_to_part, pieces=pieces, parts=parts), num_cpus=0.5):
        counts[one["task"]] += one["rows"]
    pieces.delete()
    return dict(counts)


def _to_pieces(row: dict[str, Any], labels: Folder, pieces: Folder, count: int) -> dict[str, Any]:
    table = labels.read_file(row["name"], schema.LABEL)
    keys = table.select(["task", "product_id", "id"]).to_pylist()
    places = [(one["task"], zlib.crc32((one["product_id"] or one["id"]).encode()) % count) for one in keys]
    rows: dict[tuple[str, int], list[int]] = {}
    for at, place in enumerate(places):
        rows.setdefault(place, []).append(at)
    for (task, bucket), some in rows.items():
        (pieces / task / f"{bucket:05d}").write_table(row["name"].replace("/", "-"), table.take(pa.array(some)))
    return {"tasks": json.dumps(sorted({task for task, _ in rows}))}


def _to_part(row: dict[str, Any], pieces: Folder, parts: Folder) -> dict[str, Any]:
    """A row written twice by a batch that was run again is one row, and no refusal."""
    table = (pieces / row["task"] / row["bucket"]).read_table(schema.LABEL).sort_by("id")
    ids = table["id"].to_pylist()
    table = table.take(pa.array([at for at, one in enumerate(ids) if at == 0 or one != ids[at - 1]], pa.int64()))
    (parts / row["task"] / "0").write_table(f"{row['bucket']}.parquet", table)
    return {"task": row["task"], "rows": len(table)}


# Rounds.


def _run(
    now: dict[str, Round], number: int, aids: Aids, out: Folder, figures: dict[str, dict[str, Any]], meter: Meter
) -> None:
    """One round of every task that has one, side by side."""
    learnt = {}
    for task, one in now.items():
        first = next(iter(one.steps), None)
        result = first.learn(Parts(one.source), aids) if first and first.learn else None
        learnt[task] = ray.put(result)
        figures[task] |= {"refused": figures[task].get("refused", Counter()), "personal": Counter()}
        figures[task]["steps"] += [{"step": step.name, "kept": 0, "refused": 0} for step in one.steps]
    units = [{"task": task, "name": name} for task, one in now.items() for name in Parts(one.source).names]
    cpus = max((step.cpus for one in now.values() for step in one.steps), default=0.5)
    work = partial(_part, rounds=now, number=number, learnt=learnt, aids=aids, rejects=out / "rejects")
    for answer in cluster.work(units, work, num_cpus=cpus):
        own, found = figures[answer["task"]], json.loads(answer["found"])
        own["kept"] += found["kept"] - found["rows"]
        own["refused"].update(found["refused"])
        own["personal"].update(found["personal"])
        size = len(now[answer["task"]].steps)
        for total, (kept, refused) in zip(own["steps"][len(own["steps"]) - size :], found["steps"], strict=True):
            total["kept"] += kept
            total["refused"] += refused
        meter.advance(found["rows"])


def _part(
    row: dict[str, Any], rounds: dict[str, Round], number: int, learnt: dict[str, Any], aids: Aids, rejects: Folder
) -> dict[str, Any]:
    """One unit of work: a part through the round's steps."""
    one, name = rounds[row["task"]], f"{rounds[row['task']].prefix}{row['name']}"
    done = aids.work / "done" / row["task"]
    note = f"{number}-{row['name']}.json"
    if done.exists(note):
        return {"task": row["task"], "found": json.dumps(done.read_json(note))}
    rows = Parts(one.source).read(row["name"])
    found: dict[str, Any] = {"rows": len(rows), "steps": []}
    refused_rows: list[dict[str, str]] = []
    for place, step in enumerate(one.steps):
        rows, refused = step.apply(rows, aids, ray.get(learnt[row["task"]]) if place == 0 and step.learn else None)
        refused_rows += [schema.reject("curate", r["id"], why, detail, r["text"]) for r, why, detail in refused]
        found["steps"].append([len(rows), len(refused)])
    if refused_rows:
        rejects.write_table(f"{row['task']}-{number}-{row['name']}", schema.table(refused_rows, schema.REJECT))
    one.out.write_table(name, schema.table(sorted(rows, key=lambda r: str(r["id"])), schema.LABEL))
    found["kept"] = len(rows)
    found["refused"] = Counter(r["reason"] for r in refused_rows)
    found["personal"] = _personal(rows, aids) if one.last else {}  # of what is kept in the end
    done.write_json(note, found)
    return {"task": row["task"], "found": json.dumps(found)}


def _personal(rows: list[Row], aids: Aids) -> dict[str, int]:
    kinds = aids.config.privacy.kinds
    return dict(Counter(span.kind for row in rows for span in find(row["text"], kinds)))
