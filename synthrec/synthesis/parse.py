"""Completions -> labels, and rejects with reasons. Raw completions are kept, so a better parser needs no LLM."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from synthrec import schema
from synthrec.storage import Folder
from synthrec.tasks import Rejection, Task


def parse(row: dict[str, Any], task: Task, store: Folder, out: Folder, wanted: Any) -> dict[str, Any]:
    """One unit of work: a list of completion files, and which of their rows the current config asked for.

    Args:
        wanted: a reference to the array of wanted request ids, shared by all units.
    """
    kept = pa.concat_tables([_wanted(store, name, ray.get(wanted)) for name in row["names"]])
    labels: list[dict[str, Any]] = []
    rejects: list[dict[str, str]] = []
    why: Counter[str] = Counter()
    for completion in kept.to_pylist():
        result = Rejection("engine error", completion["error"]) if completion["error"] else task.parse(completion)
        if isinstance(result, Rejection):
            raw = completion["text"] or ""
            rejects.append(schema.reject("synthesize", completion["id"], result.reason, result.detail, raw))
            why[f"engine: {completion['error']}" if completion["error"] else result.reason] += 1
        else:
            labels.append(_label(task, completion, result))
    name = f"{task.name}-{row['part']}.parquet"
    if labels:
        (out / "labels").write_table(name, schema.table(labels, schema.LABEL))
    if rejects:
        (out / "rejects").write_table(name, schema.table(rejects, schema.REJECT))
    tokens = {c: pc.sum(kept[c]).as_py() or 0 for c in ("prompt_tokens", "completion_tokens")}
    told = json.dumps(dict(why.most_common(20)), ensure_ascii=False)
    return {"labels": len(labels), "rejects": len(rejects), **tokens, "why": told}


def _wanted(store: Folder, name: str, ids: pa.Array) -> pa.Table:
    with store.fs.open_input_file(f"{store.path}/{name}") as file:
        table = pq.read_table(file)
    return table.filter(pc.is_in(table["id"], value_set=ids)).cast(schema.COMPLETION)


def _label(task: Task, completion: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": schema.row_id("label", completion["id"]),
        "request_id": completion["id"],
        "task": task.name,
        "language": completion["language"],
        "model": completion["model"],
        **parsed,
    }
