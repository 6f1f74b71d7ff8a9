"""synthesize: the corpus -> requests -> completions (by the LLM) -> labels.

Completions live in `synthesize/completions/<task>`, outside the fingerprinted folder: an answer that is paid for is
kept and found again by its request's id, whatever else changes.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy

from synthrec import cluster, console, models
from synthrec.config import Config, Engine
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.synthesis.breaker import Breaker, Why
from synthrec.synthesis.budget import Purse, cost
from synthrec.synthesis.parse import parse
from synthrec.synthesis.worker import Worker
from synthrec.tasks import Task, chosen_tasks

FILES_A_UNIT = 200
READERS = 2  # tasks that read requests: the LLM is what takes time


def settings(config: Config) -> Any:
    tasks = [
        [t.name, t.settings.model_dump(), {la: t.made_of(la) for la in ("en", "zh")}] for t in chosen_tasks(config)
    ]
    own = config.synthesize
    return {
        "tasks": tasks,
        "engine": own.engine.model_dump(include={"kind", "model", "context", "dtype"}),
        "model": requests.model_name(own.engine),
        "seed": config.seed,
        "budget": own.budget.model_dump(),
    }


def run(context: Context) -> dict[str, Any]:
    own = context.config.synthesize
    if own.engine.kind == "llamacpp":
        models.gguf(own.engine.model)  # a missing model is the driver's to report, before any actor starts
    cluster.start()
    layout = own.engine.resources
    cpus, gpus = (layout.actors[0] * one for one in (layout.cpus, layout.gpus))
    cluster.need(cpus, gpus, "the LLM engine", "synthesize.engine.resources")
    purse = Purse(own.budget, own.engine.prices)
    figures = {task.name: _task(context, task, purse) for task in chosen_tasks(context.config)}
    if left := sum(one["left"] for one in figures.values()):
        console.warn(f"stopped at {purse.reached()} with {left} answers left; raise it, and only those are asked")
    if purse.money is not None and own.engine.prices:
        console.say(f"    {purse.tokens} tokens, {purse.money:.4f} {own.engine.prices.currency}")
    return figures


def _task(context: Context, task: Task, purse: Purse) -> dict[str, Any]:
    store = context.keep("completions") / task.name
    own = context.config.synthesize
    asked = _build(context, task)
    wanted = context.out / "requests" / task.name
    now, left = _answer(context, task, wanted, store, purse)
    found, why = _parse(context, task, wanted, store)
    # A job can end before the window is full.
    Breaker(task.name, own.max_failure_rate, 1).see(found["labels"] + found["rejects"], found["rejects"], why)
    money = cost(own.engine.prices, found["prompt_tokens"], found["completion_tokens"])
    return {"requests": asked, **found, "money": money, "left": left, "now": now}


def _build(context: Context, task: Task) -> int:
    """Write the task's requests; records of the corpus, or the labels of the task it reads."""
    corpus = context.inputs["prepare"] / "corpus"
    source = corpus if task.reads == "corpus" else context.out / "labels"
    names = [n for n in source.files(".parquet") if task.reads == "corpus" or n.startswith(f"{task.reads}-")]
    if task.reads != "corpus" and not names:
        console.warn(f"{task.name}: no labels of task {task.reads} to read; nothing to do")
    (context.out / "requests" / task.name).delete()  # of a run that was stopped, which may have read other labels
    limit = requests.limit_hash(task, source, names)
    units = [{"name": n, "part": n.removesuffix(".parquet"), "limit_hash": limit} for n in names]
    shop = context.inputs["prepare"] / "catalogue"
    model = requests.model_name(context.config.synthesize.engine)
    build = partial(requests.build, task=task, source=source, shop=shop, out=context.out, model=model)
    return sum(one["rows"] for one in cluster.work(units, build, num_cpus=0.5))


def _answer(context: Context, task: Task, wanted: Folder, store: Folder, purse: Purse) -> tuple[dict[str, Any], int]:
    """Ask the LLM what has not been answered yet, within the budget; returns what that took, and how many are left.

    Raises:
        UserError: when most of the last answers are of no use, with reasons.
    """
    (store / "failed").delete()
    everything = requests.ids(wanted)
    purse.pay(**requests.spent(store / "done", everything))
    missing = everything.filter(pc.invert(pc.is_in(everything, value_set=requests.ids(store / "done"))))
    asked = missing.take(pc.sort_indices(missing))[: purse.rows_left]
    account: Counter[str] = Counter({"rows": 0, "prompt_tokens": 0, "completion_tokens": 0})
    if not len(missing):
        console.say(f"    {task.name}: all {len(everything)} answers are here already")
    if not len(asked) or purse.reached():
        return dict(account), len(missing)
    own = context.config.synthesize
    breaker = Breaker(task.name, own.max_failure_rate, own.failure_window)
    plan = _plan(own.engine, task, wanted, store, asked)
    with console.meter(task.name, len(asked)) as meter, closing(cluster.stream(plan)) as batches:
        for one in batches:
            if wrong := json.loads(one["wrong"]):
                raise UserError(*wrong)
            counts = {k: one[k] for k in ("rows", "prompt_tokens", "completion_tokens")}
            account.update(counts | {"refused": one["refused"]})
            purse.pay(**counts)
            accepted = 100 * (1 - account["refused"] / max(account["rows"], 1))
            tokens = (account["prompt_tokens"] + account["completion_tokens"]) / meter.seconds
            meter.advance(one["rows"], f"{accepted:.0f}% accepted, {tokens:.0f} tokens/s")
            breaker.see(one["rows"], one["refused"], json.loads(one["why"]))
            if purse.reached():
                break
    return dict(account), len(missing) - account["rows"]


def _plan(engine: Engine, task: Task, wanted: Folder, store: Folder, asked: pa.Array) -> ray.data.Dataset:
    """Requests to ask -> accounts of the batches that were answered and written."""
    names = [f"{wanted.path}/{n}" for n in wanted.files(".parquet")]
    resources = engine.resources
    # Little of a core, and the same for both: Ray fuses them into one task a file, and starts few processes for it.
    light: dict[str, Any] = {"num_cpus": 0.25}
    return (
        ray.data.read_parquet(
            names, filesystem=wanted.fs, override_num_blocks=len(names), ray_remote_args=light, concurrency=READERS
        )
        .map_batches(partial(_among, ids=ray.put(asked)), batch_format="pyarrow", batch_size=None, **light)
        # Ray hands an actor a block at a time and reports when it is done: with a block a batch, progress is smooth.
        .repartition(target_num_rows_per_block=resources.batch_size)
        .map_batches(
            Worker,
            fn_constructor_args=(engine, task, store, requests.model_name(engine)),
            batch_size=resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=resources.actors[0], max_size=resources.actors[1]),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
        )
    )


def _among(batch: pa.Table, ids: Any) -> pa.Table:
    return batch.filter(pc.is_in(batch["id"], value_set=ray.get(ids)))


def _parse(context: Context, task: Task, wanted: Folder, store: Folder) -> tuple[dict[str, Any], Why]:
    """Write the task's labels and rejects; returns the counts, and the reasons of the rejects."""
    for kind in ("labels", "rejects"):  # of a run that was stopped, and refused what is answered now
        _clear(context.out / kind, f"{task.name}-")
    names = store.files(".parquet")
    groups = [names[i : i + FILES_A_UNIT] for i in range(0, len(names), FILES_A_UNIT)]
    units = [{"names": group, "part": f"{number:05d}"} for number, group in enumerate(groups)]
    ids = ray.put(requests.ids(wanted))
    total: Counter[str] = Counter({"labels": 0, "rejects": 0, "prompt_tokens": 0, "completion_tokens": 0})
    why: Why = {}
    for one in cluster.work(units, partial(parse, task=task, store=store, out=context.out, wanted=ids), num_cpus=0.5):
        for reason, (count, example) in json.loads(one.pop("why")).items():
            before = why.get(reason, (0, example))
            why[reason] = (before[0] + count, before[1])
        total.update(one)
    return dict(total), why


def _clear(folder: Folder, prefix: str) -> None:
    for name in folder.files():
        if name.startswith(prefix):
            folder.fs.delete_file(f"{folder.path}/{name}")


STAGE = Stage("synthesize", "has the LLM write and score labels", ("prepare",), settings, run, version=2)
