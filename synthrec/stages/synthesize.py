"""synthesize: the corpus -> requests -> completions (by the LLM) -> labels.

Completions live in `synthesize/completions/<task>`, outside the fingerprinted folder: an answer that is paid for is
kept and found again by its request's id, whatever else changes. Tasks are asked in waves: all that read the corpus
share the engine's actors, then all that read labels of these.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray

from synthrec import cluster, console, models
from synthrec.config import Config, check_egress
from synthrec.errors import UserError
from synthrec.pipeline import Context, Pipeline, Stage
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.synthesis.breaker import Breaker, Why
from synthrec.synthesis.budget import Purse, cost
from synthrec.synthesis.parse import parse
from synthrec.synthesis.plan import plan
from synthrec.tasks import Shop, Task, chosen_tasks, waves

MOST_FILES, MOST_BYTES = 200, 4_000_000  # of completions in a unit of work: some 40,000 rows
AGAIN = "again.json"  # beside the manifest: how often what failed was asked again
DELETED = "deleted.json"  # beside completions: tokens of failed answers that were asked anew
TOGETHER = 0.05  # seconds between accounts of one batch


def settings(config: Config) -> Any:
    own = config.synthesize
    tasks = [
        [task.identity(), task.settings.model_dump() if hasattr(task.settings, "model_dump") else task.settings]
        for task in chosen_tasks(config)
    ]
    made_of = {
        "tasks": tasks,
        "files": [
            hashlib.sha256(Path(one.file).read_bytes()).hexdigest() for one in own.own_tasks.values() if one.file
        ],
        "engine": own.engine.model_dump(include={"kind", "model", "context", "dtype"}),
        "model": requests.model_name(own.engine),
        "seed": config.seed,
        "budget": own.budget.model_dump(),
    }
    again = _attempts(config)
    return made_of | ({"again": again} if again else {})


def ask_again(pipeline: Pipeline) -> None:
    """Have the next run ask what failed or was left. Its result is another: what is published stays as it is.

    Raises:
        UserError: every request has its answer.
    """
    done = pipeline.manifest("synthesize")
    if done is None:
        return  # whatever has no answer is asked anyway
    if not sum(one["failed"] + one["left"] for one in done["figures"].values()):
        raise UserError("nothing is to be asked again: no answer failed", "change a task or the seed for other answers")
    (pipeline.root / "synthesize").write_json(AGAIN, _attempts(pipeline.config) + 1)


def _attempts(config: Config) -> int:
    """How often what failed was asked again."""
    folder = Folder.open(config.run_dir, config.storage.key_source) / "synthesize"
    return int(folder.read_json(AGAIN)) if folder.exists(AGAIN) else 0


@dataclass
class Job:
    """One task, and how far it is."""

    task: Task
    store: Folder  # of its completions
    requests: int = 0
    missing: int = 0  # without an answer before this run
    now: Counter[str] = field(default_factory=lambda: Counter({"rows": 0, "prompt_tokens": 0, "completion_tokens": 0}))

    @property
    def left(self) -> int:
        return self.missing - self.now["rows"]


def run(context: Context) -> dict[str, Any]:
    own = context.config.synthesize
    check_egress(context.config)
    if own.engine.kind == "llamacpp":
        models.gguf(own.engine.model)  # a missing model is the driver's to report, before any actor starts
    cluster.start()
    layout = own.engine.resources
    cpus, gpus = (layout.actors[0] * one for one in (layout.cpus, layout.gpus))
    cluster.need(cpus, gpus, "the LLM engine", "synthesize.engine.resources")
    purse = Purse(own.budget, own.engine.prices)
    purse.pay(0, **_paid(context.keep("completions")))
    figures: dict[str, Any] = {}
    for wave in waves(chosen_tasks(context.config)):
        jobs = [_build(context, task) for task in wave]
        _answer(context, jobs, purse)
        figures |= {job.task.name: _result(context, job) for job in jobs}
    if left := sum(one["left"] for one in figures.values()):
        console.warn(f"stopped at {purse.reached()} with {left} answers left; raise it, and only those are asked")
    if purse.money is not None and own.engine.prices:
        console.say(f"    {purse.tokens} tokens, {purse.money:.4f} {own.engine.prices.currency}")
    return figures


def _build(context: Context, task: Task) -> Job:
    """Write the task's requests; records of the corpus, or the labels of the task it reads."""
    prepared = context.inputs["prepare"]
    source = prepared / "corpus" if task.reads == "corpus" else context.out / "labels"
    names = [n for n in source.files(".parquet") if task.reads == "corpus" or n.startswith(f"{task.reads}-")]
    if task.reads != "corpus" and not names:
        console.warn(f"{task.name}: no labels of task {task.reads} to read; nothing to do")
    (context.out / "requests" / task.name).delete()  # of a run that was stopped, which may have read other labels
    limit = requests.limit_hash(task, source, names)
    units = [{"name": n, "part": n.removesuffix(".parquet"), "limit_hash": limit} for n in names]
    shop = Shop(prepared, getattr(task.settings, "pool_encoder", None))
    model = requests.model_name(context.config.synthesize.engine)
    build = partial(requests.build, task=task, source=source, shop=shop, out=context.out, model=model)
    built = list(cluster.work(units, build, num_cpus=0.5))
    count, unspoken = (sum(one[key] for one in built) for key in ("rows", "unspoken"))
    if unspoken:
        told = f"{task.name}: {unspoken} records are in languages that the task has no prompt in"
        if not count:
            raise UserError(told, f"it has: {', '.join(sorted(task.languages))}; see rejects/ in {context.out}")
        console.warn(told)
    return Job(task, context.keep("completions") / task.name, count)


def _answer(context: Context, jobs: list[Job], purse: Purse) -> None:
    """Ask the LLM what has not been answered yet, within the budget.

    Raises:
        UserError: when most of the last answers of a task are of no use, with reasons.
    """
    asked = context.out / "requests"
    wanted: dict[str, Any] = {}  # task -> reference to the ids to ask; the driver itself holds none
    for job in jobs:
        _drop_failed(context.keep("completions"), job)
        wanted[job.task.name], counts = _unanswered(asked / job.task.name, job.store / "done")
        job.missing = counts.pop("missing")
        purse.pay(counts["rows"])
        if not job.missing:
            console.say(f"    {job.task.name}: all {job.requests} answers are here already")
    totals: dict[str, int] = {}
    for job in jobs:
        room = None if purse.rows_left is None else max(0, purse.rows_left - sum(totals.values()))
        totals[job.task.name] = job.missing if room is None else min(room, job.missing)
        if room is not None:
            wanted[job.task.name] = ray.remote(requests.first).remote(wanted[job.task.name], room)
    if not any(totals.values()) or purse.reached():
        return
    own = context.config.synthesize
    todo = [job.task for job in jobs if totals[job.task.name]]
    stream = cluster.stream(plan(own.engine, todo, asked, context.keep("completions"), wanted))
    by_name = {job.task.name: job for job in jobs}
    with console.meters(totals) as meters, closing(stream) as accounts:
        _watch(accounts, by_name, meters, purse, own.max_failure_rate, own.failure_window)


def _paid(completions: Folder) -> dict[str, int]:
    """Tokens that all answers of this run directory took, those that were deleted since among them."""
    look: Any = ray.remote(num_cpus=0.5)(requests.paid)
    total = Counter(dict(ray.get(look.remote(completions))))
    total.update(completions.read_json(DELETED) if completions.exists(DELETED) else {})
    return dict(total)


def _drop_failed(completions: Folder, job: Job) -> None:
    """They are asked anew. What they cost stays in the books, at worst twice where a kill comes between."""
    failed = job.store / "failed"
    spent = Counter(requests.paid(failed))
    if any(spent.values()):
        spent.update(completions.read_json(DELETED) if completions.exists(DELETED) else {})
        completions.write_json(DELETED, dict(spent))
    failed.delete()


def _unanswered(asked: Folder, done: Folder) -> tuple[Any, dict[str, int]]:
    """A reference to the ids without an answer, and counts; see `requests.unanswered`."""
    look: Any = ray.remote(num_cpus=0.5, num_returns=2)(requests.unanswered)
    ids, counts = look.remote(asked, done)
    return ids, ray.get(counts)


def _watch(
    accounts: Any, jobs: dict[str, Job], meters: dict[str, console.Meter], purse: Purse, most: float, window: int
) -> None:
    """Count answers as they come; stop at a budget's limit."""
    breakers = {name: Breaker(name, most, window) for name in jobs}
    begun = last = time.monotonic()
    for one in accounts:
        if wrong := json.loads(one["wrong"]):
            raise UserError(*wrong)
        now, meter = jobs[one["task"]].now, meters[one["task"]]
        arrived = time.monotonic()
        if arrived - last > TOGETHER:  # what arrives together was in work together
            begun = last
        last = arrived
        meter.begin(begun)
        counts = {k: one[k] for k in ("rows", "prompt_tokens", "completion_tokens")}
        now.update(counts | {"refused": one["refused"]})
        purse.pay(**counts)
        if purse.blind(one["rows"] - one["refused"], one["prompt_tokens"] + one["completion_tokens"]):
            raise UserError(
                "the server does not tell how many tokens its answers take: no budget of tokens or money can be kept",
                "set synthesize.budget.rows instead",
            )
        accepted = 100 * (1 - now["refused"] / max(now["rows"], 1))
        tokens = (now["prompt_tokens"] + now["completion_tokens"]) / meter.seconds
        meter.advance(one["rows"], f"{accepted:.0f}% accepted, {tokens:.0f} tokens/s")
        if meter.done == meter.total:
            meter.end()
        breakers[one["task"]].see(one["rows"], one["refused"], json.loads(one["why"]))
        if purse.reached():
            return


def _result(context: Context, job: Job) -> dict[str, Any]:
    """Parse the task's answers into labels and rejects; its figures for the manifest."""
    own = context.config.synthesize
    found, why = _parse(context, job)
    # A job can end before the window is full.
    Breaker(job.task.name, own.max_failure_rate, 1).see(found["labels"] + found["rejects"], found["rejects"], why)
    money = cost(own.engine.prices, found["prompt_tokens"], found["completion_tokens"])
    bad = job.store / "failed"  # of this run alone
    if failed := sum(bad.rows(name) for name in bad.files(".parquet")):
        console.warn(f"{job.task.name}: {failed} answers failed, see rejects/; `synthrec synthesize --again` asks them")
    now = dict(job.now)
    return {"requests": job.requests, **found, "failed": failed, "money": money, "left": job.left, "now": now}


def _parse(context: Context, job: Job) -> tuple[dict[str, Any], Why]:
    """Write the task's labels and rejects; returns the counts, and the reasons of the rejects."""
    name = job.task.name
    for kind in ("labels", "rejects"):  # of a run that was stopped, and refused what is answered now
        _clear(context.out / kind, f"{name}-")
    groups = _in_groups(job.store)
    units = [{"names": group, "part": f"{number:05d}"} for number, group in enumerate(groups)]
    ids = ray.remote(num_cpus=0.5)(requests.ids).remote(context.out / "requests" / name)
    total: Counter[str] = Counter({"labels": 0, "rejects": 0, "prompt_tokens": 0, "completion_tokens": 0})
    why: Why = {}
    work = partial(parse, task=job.task, store=job.store, out=context.out, wanted=ids)
    for one in cluster.work(units, work, num_cpus=0.5):
        for reason, (count, example) in json.loads(one.pop("why")).items():
            before = why.get(reason, (0, example))
            why[reason] = (before[0] + count, before[1])
        total.update(one)
    return dict(total), why


def _in_groups(store: Folder) -> list[list[str]]:
    """Files of completions, taken together as far as one process should hold."""
    groups: list[list[str]] = []
    room = 0
    for name, size in store.sizes(".parquet").items():
        if not groups or size > room or len(groups[-1]) == MOST_FILES:
            groups.append([])
            room = MOST_BYTES
        groups[-1].append(name)
        room -= size
    return groups


def _clear(folder: Folder, prefix: str) -> None:
    for name in folder.files():
        if name.startswith(prefix):
            folder.fs.delete_file(f"{folder.path}/{name}")


STAGE = Stage("synthesize", "has the LLM write and score labels", ("prepare",), settings, run, version=6)
