"""synthesize: the corpus -> requests -> completions (by the LLM) -> labels.

Completions live in `synthesize/completions/<task>`, outside the fingerprinted folder: an answer that is paid for is
kept and found again by its request's id, whatever else changes.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy

from synthrec import cluster, console, models
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.synthesis.parse import parse
from synthrec.synthesis.worker import Worker
from synthrec.tasks import Task, chosen_tasks

FILES_A_UNIT = 200


def settings(config: Config) -> Any:
    tasks = [
        [t.name, t.settings.model_dump(), {la: t.made_of(la) for la in ("en", "zh")}] for t in chosen_tasks(config)
    ]
    engine = config.synthesize.engine.model_dump(include={"kind", "model", "context", "dtype"})
    return {
        "tasks": tasks,
        "engine": engine,
        "model": requests.model_name(config.synthesize.engine),
        "seed": config.seed,
    }


def run(context: Context) -> dict[str, Any]:
    engine = context.config.synthesize.engine
    if engine.kind == "llamacpp":
        models.gguf(engine.model)  # a missing model is the driver's to report, before any actor starts
    cluster.start()
    layout = engine.resources
    cpus, gpus = (layout.actors[0] * one for one in (layout.cpus, layout.gpus))
    cluster.need(cpus, gpus, "the LLM engine", "synthesize.engine.resources")
    return {task.name: _task(context, task) for task in chosen_tasks(context.config)}


def _task(context: Context, task: Task) -> dict[str, Any]:
    store = context.keep("completions") / task.name
    asked = _build(context, task)
    wanted = context.out / "requests" / task.name
    spent = _answer(context, task, wanted, store)
    found, why = _parse(context, task, wanted, store)
    whole = Counter(rows=found["labels"] + found["rejects"], refused=found["rejects"])
    _break_circuit(task, whole, why, context.config.synthesize.max_failure_rate, 1)  # a job can end before the window
    return {"requests": asked, **found, "now": spent}


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


def _answer(context: Context, task: Task, wanted: Folder, store: Folder) -> dict[str, Any]:
    """Ask the LLM what has not been answered yet. Stops, with reasons, when most answers are of no use."""
    names = [f"{wanted.path}/{n}" for n in wanted.files(".parquet")]
    (store / "failed").delete()
    done = requests.ids(store / "done")
    total = len(requests.ids(wanted))
    left = total - (pc.sum(pc.is_in(requests.ids(wanted), value_set=done)).as_py() or 0)
    account: Counter[str] = Counter({"rows": 0, "prompt_tokens": 0, "completion_tokens": 0})
    if not left:
        console.say(f"    {task.name}: all {total} answers are here already")
        return dict(account)
    settings, resources = context.config.synthesize, context.config.synthesize.engine.resources
    done_ref = ray.put(done)
    plan = (
        ray.data.read_parquet(names, filesystem=wanted.fs)
        .map_batches(partial(_pending, done=done_ref), batch_format="pyarrow", num_cpus=0.25, batch_size=None)
        # Ray hands an actor a block at a time and reports when it is done: with a block a batch, progress is smooth.
        .repartition(target_num_rows_per_block=resources.batch_size)
        .map_batches(
            Worker,
            fn_constructor_args=(settings.engine, task, store, requests.model_name(settings.engine)),
            batch_size=resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=resources.actors[0], max_size=resources.actors[1]),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
        )
    )
    why: Counter[str] = Counter()
    with console.meter(task.name, left) as meter:
        for one in cluster.stream(plan):
            if wrong := json.loads(one["wrong"]):
                raise UserError(*wrong)
            account.update({k: one[k] for k in ("rows", "refused", "prompt_tokens", "completion_tokens")})
            why.update(json.loads(one["why"]))
            _break_circuit(task, account, why, settings.max_failure_rate, settings.failure_window)
            seen = max(account["rows"], 1)
            tokens = (account["prompt_tokens"] + account["completion_tokens"]) / meter.seconds
            meter.advance(one["rows"], f"{100 * (1 - account['refused'] / seen):.0f}% accepted, {tokens:.0f} tokens/s")
    return dict(account)


def _pending(batch: pa.Table, done: Any) -> pa.Table:
    return batch.filter(pc.invert(pc.is_in(batch["id"], value_set=ray.get(done))))


def _break_circuit(task: Task, account: Counter[str], why: Counter[str], most: float, window: int) -> None:
    if account["rows"] >= window and account["refused"] > most * account["rows"]:
        told = "\n".join(f"  {count} x {reason}" for reason, count in why.most_common(3))
        raise UserError(
            f"{task.name}: {account['refused']} of {account['rows']} answers are of no use\n{told}",
            "try another model or prompt; answers so far are kept. synthesize.max_failure_rate sets the limit",
        )


def _parse(context: Context, task: Task, wanted: Folder, store: Folder) -> tuple[dict[str, Any], Counter[str]]:
    """Write the task's labels and rejects; returns the counts, and the reasons of the rejects."""
    for kind in ("labels", "rejects"):  # of a run that was stopped, and refused what is answered now
        _clear(context.out / kind, f"{task.name}-")
    names = store.files(".parquet")
    groups = [names[i : i + FILES_A_UNIT] for i in range(0, len(names), FILES_A_UNIT)]
    units = [{"names": group, "part": f"{number:05d}"} for number, group in enumerate(groups)]
    ids = ray.put(requests.ids(wanted))
    total: Counter[str] = Counter({"labels": 0, "rejects": 0, "prompt_tokens": 0, "completion_tokens": 0})
    why: Counter[str] = Counter()
    for one in cluster.work(units, partial(parse, task=task, store=store, out=context.out, wanted=ids), num_cpus=0.5):
        why.update(json.loads(one.pop("why")))
        total.update(one)
    return dict(total), why


def _clear(folder: Folder, prefix: str) -> None:
    for name in folder.files():
        if name.startswith(prefix):
            folder.fs.delete_file(f"{folder.path}/{name}")


STAGE = Stage("synthesize", "has the LLM write and score labels", ("prepare",), settings, run, version=2)
