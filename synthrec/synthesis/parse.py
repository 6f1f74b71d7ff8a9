"""Completions -> labels, and rejects with reasons. Raw completions are kept, so a better parser needs no LLM."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from synthrec import schema
from synthrec.privacy.written import blanked, personal
from synthrec.storage import Folder
from synthrec.synthesis.breaker import Why
from synthrec.tasks import Rejection, Task


def parse(row: dict[str, Any], task: Task, store: Folder, out: Folder, wanted: Any) -> dict[str, Any]:
    """One unit of work: a list of completion files, and which of their rows the current config asked for.

    Args:
        wanted: a reference to the array of wanted request ids, shared by all units.
    """
    kept = pa.concat_tables([store.read_file(name, schema.COMPLETION) for name in row["names"]])
    # All at once: each call of is_in hashes the whole of the wanted ids.
    kept = kept.filter(pc.is_in(kept["id"], value_set=ray.get(wanted)))
    labels: list[dict[str, Any]] = []
    rejects: list[dict[str, str]] = []
    for completion in kept.to_pylist():
        result = verdict(task, completion)
        if isinstance(result, Rejection):
            raw = blanked(completion["text"] or "")
            rejects.append(schema.reject("synthesize", completion["id"], result.reason, result.detail, raw))
        else:
            labels.append(label(task, completion, result))
    name = f"{task.name}-{row['part']}.parquet"
    if labels:
        (out / "labels").write_table(name, schema.table(labels, schema.LABEL))
    if rejects:
        (out / "rejects").write_table(name, schema.table(rejects, schema.REJECT))
    tokens = {c: pc.sum(kept[c]).as_py() or 0 for c in ("prompt_tokens", "completion_tokens")}
    why = tally((one["reason"], one["detail"] or one["raw"]) for one in rejects)
    return {"labels": len(labels), "rejects": len(rejects), **tokens, "why": json.dumps(why, ensure_ascii=False)}


def verdict(task: Task, completion: dict[str, Any]) -> dict[str, Any] | Rejection:
    """What a COMPLETION row means: a LABEL row without ids, or why there is none."""
    if completion["error"]:
        return Rejection("engine error", completion["error"])
    if completion["text"] and (kinds := personal(completion["text"])):
        return Rejection("personal data", ", ".join(kinds))  # a pseudonym too: no shopper searches or writes like that
    return task.parse(completion)


def tally(refused: Iterable[tuple[str, str]]) -> Why:
    """The commonest reasons of (reason, example) pairs, each counted, with its first example."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for reason, example in refused:
        counts[reason] += 1
        examples.setdefault(reason, example[:200])
    return {reason: (count, examples[reason]) for reason, count in counts.most_common(20)}


def label(task: Task, completion: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """A LABEL row."""
    carried = ("task", "facet", "language", "labels", "prior", "model", "prompt", "sources")
    return {
        "id": schema.row_id("label", completion["id"]),
        "request_id": completion["id"],
        **{key: completion[key] for key in carried},
        **parsed,
    }
