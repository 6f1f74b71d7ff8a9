"""Records -> requests: what to ask the LLM, each with an id that says what made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from synthrec import schema
from synthrec.config import Engine
from synthrec.storage import Folder
from synthrec.tasks import Shop, Task

ROWS_A_PART = 20_000


def model_name(engine: Engine) -> str:
    """What a row's id and lineage call the model. Layout on the cluster is no part of it."""
    chats = engine.server is not None and engine.server.style == "chat"
    return f"{engine.kind}:{engine.model}" + (":chat" if chats else "")


def build(row: dict[str, Any], task: Task, source: Folder, shop: Folder, out: Folder, model: str) -> dict[str, Any]:
    """One unit of work: read a part of the records, write its requests, count them. Writes the same when run again."""
    count = unspoken = 0
    rejects: list[dict[str, str]] = []
    for number, batch in enumerate(_batches(source, row["name"], task, row["limit_hash"])):
        rows = []
        for record in batch:
            if not task.speaks(record["language"]):
                unspoken += 1
                detail = f"task {task.name} has no prompt in '{record['language']}'"
                rejects.append(
                    schema.reject("synthesize", _id(record), "no prompt in this language", detail, record["text"])
                )
                continue
            rows += list(_requests(task, record, Shop(shop), model))
        (out / "requests" / task.name).write_table(
            f"{row['part']}-{number:04d}.parquet", schema.table(rows, schema.REQUEST)
        )
        count += len(rows)
    if rejects:
        (out / "rejects").write_table(
            f"requests-{task.name}-{row['part']}.parquet", schema.table(rejects, schema.REJECT)
        )
    return {"rows": count, "unspoken": unspoken}


def _id(record: dict[str, Any]) -> str:
    return str(record.get("doc_id") or record["id"])


def _requests(task: Task, record: dict[str, Any], shop: Shop, model: str) -> Iterator[dict[str, Any]]:
    language = record["language"]
    made_of = task.made_of(language)
    for sources, sample, fields in task.requests(record, shop):
        content = sorted(fields.items())
        yield {
            "id": schema.row_id(task.name, made_of, model, *sources, sample, content),
            "task": task.name,
            "language": language,
            "sample": sample,
            "fields": fields,
        }


def _batches(source: Folder, name: str, task: Task, limit_hash: str | None) -> Iterator[list[dict[str, Any]]]:
    """Records of the task's kind, a few thousand at a time; `limit_hash` keeps those whose hashed id is at most it."""
    data = pads.dataset(f"{source.path}/{name}", filesystem=source.fs, format="parquet")
    where = pads.field("kind") == task.kind if task.reads == "corpus" else None
    for batch in data.to_batches(filter=where, batch_size=ROWS_A_PART):
        rows = batch.to_pylist()
        yield [r for r in rows if limit_hash is None or schema.row_id(_id(r)) <= limit_hash]


def limit_hash(task: Task, source: Folder, names: list[str]) -> str | None:
    """The hash that just `task.limit` records do not exceed: a sample that does not depend on the files' order."""
    if task.limit is None:
        return None
    found = (one for name in names for batch in _batches(source, name, task, None) for one in batch)
    hashes = sorted(schema.row_id(_id(record)) for record in found)
    return hashes[min(task.limit, len(hashes)) - 1] if hashes else None


def ids(folder: Folder, names: list[str] | None = None) -> pa.Array:
    """All row ids of a folder's Parquet files, with memory for nothing else."""
    found: list[pa.Array] = []
    for name in folder.files(".parquet") if names is None else names:
        with folder.fs.open_input_file(f"{folder.path}/{name}") as file:
            found += pq.read_table(file, columns=["id"])["id"].chunks
    return pa.chunked_array(found, pa.string()).combine_chunks()
