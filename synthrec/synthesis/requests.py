"""Records -> requests: what to ask the LLM, each with an id that says what made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from synthrec import schema
from synthrec.config import Engine
from synthrec.storage import Folder
from synthrec.tasks import Shop, Task

ROWS_A_PART = 20_000
ROWS_A_RUN = 512  # requests with the same prompt that stand together, so that an engine can reuse what they begin with


def model_name(engine: Engine) -> str:
    """What a row's id and lineage call the model. Layout on the cluster is no part of it."""
    chats = engine.chat or (engine.server is not None and engine.server.style == "chat")
    return f"{engine.kind}:{engine.model}" + (":chat" if chats else "")


def build(row: dict[str, Any], task: Task, source: Folder, shop: Shop, out: Folder, model: str) -> dict[str, Any]:
    """One unit of work: read a part of the records, write its requests, count them. Writes the same when run again."""
    count = unspoken = 0
    made_of = cache(task.made_of)  # once a prompt, not once a row
    rejects: list[dict[str, str]] = []
    for number, batch in enumerate(batches(source, row["name"], task, row["limit_hash"])):
        rows: list[dict[str, Any]] = []
        for record in batch:
            if not task.speaks(record["language"]):
                unspoken += 1
                detail = f"task {task.name} has no prompt in '{record['language']}'"
                rejects.append(
                    schema.reject("synthesize", _id(record), "no prompt in this language", detail, record["text"])
                )
                continue
            rows += of_record(task, record, shop, model, made_of)
        (out / "requests" / task.name).write_table(
            f"{row['part']}-{number:04d}.parquet", schema.table(in_runs(rows), schema.REQUEST)
        )
        count += len(rows)
    if rejects:
        (out / "rejects").write_table(
            f"requests-{task.name}-{row['part']}.parquet", schema.table(rejects, schema.REJECT)
        )
    return {"rows": count, "unspoken": unspoken}


def _id(record: dict[str, Any]) -> str:
    return str(record.get("doc_id") or record["id"])


def of_record(
    task: Task, record: dict[str, Any], shop: Shop, model: str, made_of: Callable[[str, str], str] | None = None
) -> Iterator[dict[str, Any]]:
    """REQUEST rows of one record. `made_of`: the task's, or a quicker one that gives the same."""
    language = record["language"]
    for ask in task.requests(record, shop):
        print_ = (made_of or task.made_of)(language, ask.facet)
        content = [sorted(ask.fields.items()), list((ask.options or {}).items())]
        yield {
            "id": schema.row_id(task.name, print_, model, *ask.sources, ask.sample, content),
            "task": task.name,
            "facet": ask.facet,
            "language": language,
            "sample": ask.sample,
            "fields": ask.fields,
            "labels": None if ask.options is None else list(ask.options),
            "choices": None if ask.options is None else [spaced(word, language) for word in ask.options.values()],
            "sources": ask.sources,
            "prompt": print_,
        }


def spaced(word: str, language: str) -> str:
    """A word as it stands after text: with a space before it, but in Chinese."""
    return word if language == "zh" else f" {word}"


def in_runs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of their ids, a few hundred at a time sorted by prompt: any stretch is still a fair sample."""
    rows = sorted(rows, key=lambda row: str(row["id"]))
    runs = (rows[i : i + ROWS_A_RUN] for i in range(0, len(rows), ROWS_A_RUN))
    return [row for run in runs for row in sorted(run, key=lambda row: (row["facet"], row["language"], row["id"]))]


def batches(source: Folder, name: str, task: Task, limit_hash: str | None) -> Iterator[list[dict[str, Any]]]:
    """Records of the task's kind, a few thousand at a time; `limit_hash` keeps those whose hashed id is at most it."""
    data = pads.dataset(f"{source.path}/{name}", filesystem=source.fs, format="parquet")
    where = pads.field("kind") == task.kind if task.reads == "corpus" else None
    for batch in data.to_batches(filter=where, batch_size=ROWS_A_PART):
        rows = batch.to_pylist()
        yield [r for r in rows if limit_hash is None or schema.row_id(_id(r)) <= limit_hash]


def count(source: Folder, name: str, task: Task) -> int:
    """How many records of a part the task reads."""
    data, where = _data(source, name, task)
    return int(data.count_rows(filter=where))


def _data(source: Folder, name: str, task: Task) -> tuple[pads.Dataset, pads.Expression | None]:
    data = pads.dataset(f"{source.path}/{name}", filesystem=source.fs, format="parquet")
    spoken = pads.field("language").isin(sorted(task.languages))
    return data, (pads.field("kind") == task.kind) & spoken if task.reads == "corpus" else None


def limit_hash(task: Task, source: Folder, names: list[str]) -> str | None:
    """The hash that just `task.limit` records do not exceed: a sample that does not depend on the files' order."""
    if task.limit is None:
        return None
    found = (one for name in names for batch in batches(source, name, task, None) for one in batch)
    hashes = sorted(schema.row_id(_id(record)) for record in found)
    return hashes[min(task.limit, len(hashes)) - 1] if hashes else None


def unanswered(asked: Folder, done: Folder) -> tuple[pa.Array, dict[str, int]]:
    """Ids of a task's requests that have no answer yet.

    Returns:
        The ids; and counts: how many are `missing`, and `rows` and tokens of the answers that are there.
    """
    everything = ids(asked)
    missing = everything.filter(pc.invert(pc.is_in(everything, value_set=ids(done))))
    return missing, {"missing": len(missing), **spent(done, everything)}


def first(ids: pa.Array, count: int) -> pa.Array:
    """The first so many by their hashes: a fair sample, whatever the files' order."""
    return ids.take(pc.sort_indices(ids))[:count]


def spent(store: Folder, wanted: pa.Array) -> dict[str, int]:
    """Rows and tokens of the stored answers to the wanted requests."""
    total = {"rows": 0, "prompt_tokens": 0, "completion_tokens": 0}
    for name in store.files(".parquet"):
        with store.fs.open_input_file(f"{store.path}/{name}") as file:
            table = pq.read_table(file, columns=["id", "prompt_tokens", "completion_tokens"])
        table = table.filter(pc.is_in(table["id"], value_set=wanted))
        total["rows"] += table.num_rows
        for column in ("prompt_tokens", "completion_tokens"):
            total[column] += pc.sum(table[column]).as_py() or 0
    return total


def paid(completions: Folder) -> dict[str, int]:
    """Tokens of all answers that are stored, failed ones and those that nobody asks for any more among them."""
    total = {"prompt_tokens": 0, "completion_tokens": 0}
    found = pafs.FileSelector(completions.path, recursive=True, allow_not_found=True)
    for file in completions.fs.get_file_info(found):
        if file.path.endswith(".parquet"):
            with completions.fs.open_input_file(file.path) as opened:
                table = pq.read_table(opened, columns=list(total))
            for column in total:
                total[column] += pc.sum(table[column]).as_py() or 0
    return total


def ids(folder: Folder, names: list[str] | None = None) -> pa.Array:
    """All row ids of a folder's Parquet files, with memory for nothing else."""
    found: list[pa.Array] = []
    for name in folder.files(".parquet") if names is None else names:
        with folder.fs.open_input_file(f"{folder.path}/{name}") as file:
            found += pq.read_table(file, columns=["id"])["id"].chunks
    return pa.chunked_array(found, pa.string()).combine_chunks()
