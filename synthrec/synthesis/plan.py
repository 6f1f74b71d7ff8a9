"""The Ray Data plan of one wave of tasks: requests to ask -> accounts of the batches that were answered and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, Dataset

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.synthesis.metrics import Metrics
from synthrec.synthesis.worker import Worker, empty, keep, prompt, seed
from synthrec.tasks import Task

OTHER_NAMES = {"prompt": "made_of", "choices": "offered"}
AT_ONCE = 2  # batches in work in one engine


def plan(
    engine: EngineSettings, tasks: Sequence[Task], asked: Folder, store: Folder, wanted: dict[str, Any]
) -> Dataset:
    """Of the requests in `asked/<task>/`, those whose ids are wanted, answered into `store/<task>/`.

    Args:
        wanted: task -> reference to the array of ids.
    """
    files = [f"{asked.path}/{t.name}/{n}" for t in tasks for n in (asked / t.name).files(".parquet")]
    # Little of a core, and the same for both: Ray fuses them into one task a file, and starts few processes for it.
    light: dict[str, Any] = {"num_cpus": 0.25}
    rows = (
        ray.data.read_parquet(
            files, filesystem=asked.fs, override_num_blocks=len(files), concurrency=1, **light
        )  # one file after the other: requests that begin alike stand together
        .map_batches(partial(_among, wanted=wanted), batch_format="pyarrow", batch_size=None, **light)
        # Ray hands an actor a block at a time and reports when it is done: with a block a batch, progress is smooth.
        .repartition(target_num_rows_per_block=engine.resources.batch_size)
    )
    by_name = {task.name: task for task in tasks}
    answered = _through_vllm if engine.kind == "vllm" else _through_workers
    return answered(rows, engine, by_name, store)


def _among(batch: pa.Table, wanted: dict[str, Any]) -> pa.Table:
    tasks = pc.unique(batch["task"]).to_pylist()  # small files of several tasks may be read together
    ids = pa.chunked_array([ray.get(wanted[task]) for task in tasks], pa.string())
    return batch.filter(pc.is_in(batch["id"], value_set=ids))


def _through_workers(rows: Dataset, engine: EngineSettings, tasks: dict[str, Task], store: Folder) -> Dataset:
    """Engines that live in an actor of ours."""
    resources = engine.resources
    return rows.map_batches(
        Worker,
        fn_constructor_args=(engine, tasks, store, requests.model_name(engine)),
        batch_size=resources.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=resources.actors[0],
            max_size=resources.actors[1],
            max_tasks_in_flight_per_actor=2 * AT_ONCE,
            max_concurrent_calls_per_actor=AT_ONCE,
            enable_true_multi_threading=True,
        ),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
    )


def _through_vllm(rows: Dataset, engine: EngineSettings, tasks: dict[str, Task], store: Folder) -> Dataset:
    """vLLM, laid out and fed by ray.data.llm."""
    from synthrec.engines.vllm import processor

    model = requests.model_name(engine)
    light: dict[str, Any] = {"num_cpus": 0.25}
    asked = rows.map_batches(partial(_as_prompts, tasks=tasks), batch_format="pyarrow", batch_size=None, **light)
    return processor(engine)(asked).map_batches(
        partial(_kept, tasks=tasks, store=store, model=model), batch_format="pyarrow", batch_size=None, **light
    )


def _as_prompts(batch: pa.Table, tasks: dict[str, Task]) -> pa.Table:
    """Requests with what the engine must know of each: prompt, empty prompt, sampling, seed."""
    rows = batch.to_pylist()
    columns = {
        "text_of": [prompt(tasks, row) for row in rows],
        "blank": [empty(tasks, row) if row["choices"] is not None else None for row in rows],
        "sampling": [json.dumps(asdict(tasks[row["task"]].sampling(row["facet"]))) for row in rows],
    }
    # The engine takes `prompt` and `choices` for itself: those of the requests travel under other names.
    made = batch.rename_columns(["made_of" if name == "prompt" else name for name in batch.column_names])
    made = made.append_column("offered", batch["choices"])
    made = made.append_column("prompt", pa.array(columns["text_of"], pa.string()))
    for name in ("blank", "sampling"):
        made = made.append_column(name, pa.array(columns[name], pa.string()))
    return made.append_column("seed", pa.array([seed(row) for row in rows], pa.int64()))


def _kept(batch: pa.Table, tasks: dict[str, Task], store: Folder, model: str) -> pa.Table:
    """Answered rows, written as completions and accounted for."""
    rows = [
        {name: row[OTHER_NAMES.get(name, name)] for name in schema.REQUEST.names}
        | {key: row[key] for key in ("text", "logprobs", "prior", "prompt_tokens", "completion_tokens", "error")}
        | {"model": model}
        for row in batch.to_pylist()
    ]
    return pa.Table.from_pylist(keep(rows, tasks, store, Metrics(model)))
