"""A few rows in this process, without Ray: to see what is asked and answered, and to measure what a job would take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from rich.table import Column, Table

from synthrec import console, schema
from synthrec.config import Config
from synthrec.engines import load
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.synthesis.budget import cost
from synthrec.synthesis.parse import label, verdict
from synthrec.synthesis.worker import Priors, ask, completion, prompt
from synthrec.tasks import Rejection, Shop, Task, chosen_tasks

Row = dict[str, Any]
WARM, SAMPLE = 8, 24  # answers a task that a dry run pays for; the first fill caches, and their time does not count


@dataclass(frozen=True)
class Tried:
    """A task's sample: the records it could have asked about, and the completions of those it did."""

    task: Task
    records: list[Row]
    rows: list[Row]  # COMPLETION rows
    asked_a_record: float  # requests that a record gives rise to, on average
    seconds: float  # an answer


@dataclass(frozen=True)
class Estimate:
    """What one task would take in all, by its sample."""

    task: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


def local(config: Config, prepared: Folder, count: int) -> None:
    """Ask about `count` records of each task, one after the other; print prompt, answer, and what became of it."""
    for tried in _tried(config, prepared, count, together=False):
        for row in tried.rows:
            result = verdict(tried.task, row)
            answer = row["error"] or row["text"] or _probabilities(row)
            console.rule(f"{_question(row)} · {row['id'][:8]}")
            console.say(_prompt(tried.task, row))
            console.say(f"→ {answer}")
            if isinstance(result, Rejection):
                console.say(f"✗ refused: {result.reason} {result.detail}")
            else:
                console.say(f"✓ {result['label']}: {result['text']}")


def dry_run(config: Config, prepared: Folder) -> list[Estimate]:
    """Print an example prompt of each task and language, and what the whole job would take by a measured sample."""
    found: list[Estimate] = []
    for tried in _tried(config, prepared, SAMPLE, together=True):
        for row in {_question(row): row for row in reversed(tried.rows)}.values():
            console.rule(f"{_question(row)}: an example prompt")
            console.say(_prompt(tried.task, row))
        _warn(tried)
        if tried.rows:
            found.append(_estimate(config, prepared, tried, found))
    _print(config, found)
    return found


def _warn(tried: Tried) -> None:
    """Of what makes an estimate too low."""
    wrong = [row["error"] for row in tried.rows if row["error"] is not None]
    if wrong:
        console.warn(f"{tried.task.name}: {len(wrong)} of {len(tried.rows)} answers failed: {wrong[0][:300]}")
    if len(wrong) < len(tried.rows) and not any(row["prompt_tokens"] for row in tried.rows):
        console.warn(f"{tried.task.name}: the server does not tell how many tokens its answers take")


def _tried(config: Config, prepared: Folder, count: int, together: bool) -> Iterator[Tried]:
    """Each task with its sample asked; a task that reads another's labels reads those of the sample before it."""
    engine = load(config.synthesize.engine)
    model = requests.model_name(config.synthesize.engine)
    labels: dict[str, list[Row]] = {}
    try:
        for task in chosen_tasks(config):
            records = labels.get(task.reads, []) if task.reads != "corpus" else _records(prepared, task, count)
            shop = Shop(prepared, getattr(task.settings, "pool_encoder", None))
            built = [list(requests.of_record(task, record, shop, model)) for record in records]
            asked = _chosen(built, count)
            priors: Priors = {}
            batches = [asked[:WARM], asked[WARM:]] if together else [[one] for one in asked]
            rows, seconds = [], 0.0
            for batch in filter(None, batches):
                start = time.monotonic()
                answers = ask(engine, {task.name: task}, batch, priors)
                rows += [completion(*pair, model) for pair in zip(batch, answers, strict=True)]
                seconds = (time.monotonic() - start) / len(batch)
            good = [(row, v) for row in rows if not isinstance(v := verdict(task, row), Rejection)]
            labels[task.name] = [label(task, row, parsed) for row, parsed in good]
            yield Tried(task, records, rows, sum(map(len, built)) / max(len(built), 1), seconds)
    finally:
        engine.close()


def _chosen(built: list[list[Row]], count: int) -> list[Row]:
    """`count` requests from as many records as there are, each record giving its facets in turn."""
    picked = [some[place % len(some)] for place, some in enumerate(filter(None, built))]
    rest = [one for some in built for one in some if one not in picked]
    return [*picked, *rest][:count]


def _records(prepared: Folder, task: Task, count: int) -> list[Row]:
    """Documents that the task reads, the same each time, languages in turn."""
    corpus = prepared / "corpus"
    rows = chain.from_iterable(next(requests.batches(corpus, n, task, None), []) for n in corpus.files(".parquet"))
    by_language: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: schema.row_id(row["doc_id"])):
        if task.speaks(row["language"]):
            by_language.setdefault(row["language"], []).append(row)
    return [row for turn in zip_longest(*by_language.values()) for row in turn if row][:count]


def _estimate(config: Config, prepared: Folder, tried: Tried, before: list[Estimate]) -> Estimate:
    """Means of the answers that came, for as many requests as the task will make."""
    task, rows = tried.task, [row for row in tried.rows if row["error"] is None] or tried.rows
    if task.reads == "corpus":
        corpus = prepared / "corpus"
        records = sum(requests.count(corpus, name, task) for name in corpus.files(".parquet"))
    else:  # as if each answer of the task before were accepted
        records = sum(one.requests for one in before if one.task == task.reads)
    total = round(min(records, task.limit or records) * tried.asked_a_record)
    share = total / len(rows)
    actors = config.synthesize.engine.resources.actors[1]
    return Estimate(
        task.name,
        total,
        round(share * sum(row["prompt_tokens"] for row in rows)),
        round(share * sum(row["completion_tokens"] for row in rows)),
        total * tried.seconds / actors,
    )


def _print(config: Config, found: list[Estimate]) -> None:
    engine = config.synthesize.engine
    columns = (Column(one, justify="right") for one in ("requests", "tokens read", "tokens written", "time", "cost"))
    table = Table("task", *columns, title=f"estimate, from {SAMPLE} answers a task", title_justify="left")
    whole = Estimate("all", *(sum(getattr(one, key) for one in found) for key in _COUNTS))  # type: ignore[arg-type]
    for one in [*found, whole]:
        money = cost(engine.prices, one.prompt_tokens, one.completion_tokens)
        told = "no prices" if money is None or engine.prices is None else f"{money:.4f} {engine.prices.currency}"
        numbers = (f"{value:,}" for value in (one.requests, one.prompt_tokens, one.completion_tokens))
        table.add_row(one.task, *numbers, console.clock(one.seconds), told)
    console.console.print(table)
    console.say(
        f"    time: with {engine.resources.actors[1]} engine actors like the one measured here, without their start. "
        "Answers that are there already are not taken off. Nothing was stored."
    )


_COUNTS = ("requests", "prompt_tokens", "completion_tokens", "seconds")


def _prompt(task: Task, row: Row) -> str:
    return prompt({task.name: task}, row)


def _question(row: Row) -> str:
    return " · ".join(filter(None, (row["task"], row["facet"], row["language"])))


def _probabilities(row: Row) -> str:
    """What the LLM thinks of each choice, before any calibration."""
    return ", ".join(
        f"{name} {math.exp(value):.3f}" for name, value in zip(row["labels"], row["logprobs"], strict=True)
    )
