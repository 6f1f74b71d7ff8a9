"""The actor that holds an engine: requests in, completions written, an account of them out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.engines import Answer, Engine, Sampling, load
from synthrec.engines.base import with_tokens
from synthrec.errors import UserError
from synthrec.privacy.written import blanked
from synthrec.storage import Folder
from synthrec.synthesis.metrics import Metrics
from synthrec.synthesis.parse import tally, verdict
from synthrec.tasks import Rejection, Task

Row = dict[str, Any]
MOST_PRIORS = 10_000  # kept; those of choices that differ row by row are not asked for again anyway


class Worker:
    """Answers a batch and writes it as files, one a task, before it reports it: what is reported is safe.

    A file's name is a hash of the rows in it, so a batch that Ray runs again replaces itself. Two batches are in work
    at once (see the plan): while the last answers of one are awaited, the next one's fill the engine.
    """

    def __init__(self, engine: EngineSettings, tasks: dict[str, Task], store: Folder, model: str) -> None:
        self._wrong: UserError | None = None
        try:
            self._engine = load(engine)
        except UserError as error:  # Ray would tell of a dead actor; the first batch can tell what is wrong
            self._wrong = error
        self._tasks, self._store, self._model = tasks, store, model
        self._priors: Priors = {}
        self._metrics = Metrics(model)

    def __call__(self, batch: pa.Table) -> pa.Table:
        try:
            if self._wrong:
                raise self._wrong
            requests = batch.to_pylist()
            answers = ask(self._engine, self._tasks, requests, self._priors)
            rows = [completion(*pair, self._model) for pair in zip(requests, answers, strict=True)]
            accounts = keep(rows, self._tasks, self._store, self._metrics)
        except UserError as error:  # an exception would lose its words on the way through Ray
            accounts = [EMPTY_ACCOUNT | {"wrong": json.dumps([error.problem, error.hint])}]
        return pa.Table.from_pylist(accounts)


EMPTY_ACCOUNT: Row = {
    "task": "",
    "rows": 0,
    "refused": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "why": "{}",
    "wrong": "null",
}


def keep(rows: list[Row], tasks: dict[str, Task], store: Folder, metrics: Metrics) -> list[Row]:
    """Write COMPLETION rows, by task, and account for them. Personal data that the LLM wrote never reaches the disk."""
    rows = [row | {key: row[key] and blanked(_whole(row[key])) for key in ("text", "error")} for row in rows]
    accounts = []
    for name in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == name]
        file = f"{schema.row_id(*[r['id'] for r in own])}.parquet"
        good = [r for r in own if r["error"] is None]
        bad = [r for r in own if r["error"] is not None]
        if good:
            (store / name / "done").write_table(file, schema.table(good, schema.COMPLETION))
        if bad:  # kept for the record, and asked again next time
            (store / name / "failed").write_table(file, schema.table(bad, schema.COMPLETION))
        accounts.append(_account(tasks[name], own))
        metrics.count(accounts[-1])
    return accounts


def _whole(text: str) -> str:
    """Without halves of characters, as a server that cuts an emoji sends them: no file holds them."""
    return text.encode("utf-8", "replace").decode()


def _account(task: Task, rows: list[Row]) -> Row:
    refused = [(v, row) for row in rows if isinstance(v := verdict(task, row), Rejection)]
    why = tally((v.reason, v.detail or row["text"] or "") for v, row in refused)
    return EMPTY_ACCOUNT | {
        "task": task.name,
        "rows": len(rows),
        "refused": len(refused),
        "prompt_tokens": sum(r["prompt_tokens"] for r in rows),
        "completion_tokens": sum(r["completion_tokens"] for r in rows),
        "why": json.dumps(why, ensure_ascii=False),
    }


Priors = dict[tuple[str, tuple[str, ...]], tuple[float, ...]]  # (empty prompt, choices) -> their log-probabilities


def ask(engine: Engine, tasks: dict[str, Task], requests: Sequence[Row], priors: Priors) -> list[tuple[Answer, Any]]:
    """Answers in the requests' order, each with the prior of its choices (None where it was written).

    Args:
        priors: known from before; those asked for now are added.
    """
    prompts = [prompt(tasks, row) for row in requests]
    answers: list[tuple[Answer, Any]] = [(Answer(error="not asked"), None)] * len(requests)
    for sampling, at in _by_sampling(tasks, requests).items():
        seeds = [seed(requests[i]) for i in at]
        for i, answer in zip(at, engine.generate([prompts[i] for i in at], sampling, seeds), strict=True):
            answers[i] = (answer, None)
    at = [i for i, row in enumerate(requests) if row["choices"] is not None]
    keys = [(empty(tasks, requests[i]), tuple(requests[i]["choices"])) for i in at]
    unknown = list(dict.fromkeys(key for key in keys if key not in priors))
    # One call for both: no slot idles between the two.
    asked = [(prompts[i], tuple(requests[i]["choices"])) for i in at] + unknown
    got = engine.choose([one for one, _ in asked], [words for _, words in asked]) if asked else []
    fresh = dict(zip(unknown, got[len(at) :], strict=True))
    known = {key: priors[key] for key in keys if key in priors}
    known |= {key: one.logprobs for key, one in fresh.items() if one.logprobs}
    lost = {key: one.error or "no probabilities" for key, one in fresh.items() if key not in known}
    if len(priors) > MOST_PRIORS:
        priors.clear()
    priors.update(known)
    for i, key, answer in zip(at, keys, got, strict=False):
        if key in fresh:  # the first row that wanted it pays for it
            answer = with_tokens(answer, fresh.pop(key))
        if key in lost and tasks[requests[i]["task"]].against_prior and answer.error is None:  # by no other rule
            answer = replace(answer, logprobs=None, error=f"no prior of the choices: {lost[key]}")
        answers[i] = (answer, known.get(key))
    return answers


def _by_sampling(tasks: dict[str, Task], requests: Sequence[Row]) -> dict[Sampling, list[int]]:
    """Places of the requests that are to be written, by how."""
    found: dict[Sampling, list[int]] = {}
    for i, row in enumerate(requests):
        if row["choices"] is None:
            found.setdefault(tasks[row["task"]].sampling(row["facet"]), []).append(i)
    return found


def prompt(tasks: dict[str, Task], row: Row) -> str:
    return tasks[row["task"]].render(row["language"], row["facet"], schema.strings(row["fields"]))


def empty(tasks: dict[str, Task], row: Row) -> str:
    """The row's prompt with nothing in it to judge."""
    return tasks[row["task"]].empty(row["language"], row["facet"], schema.strings(row["fields"]))


def seed(row: Row) -> int:
    return int(row["id"][:7], 16)


def completion(request: Row, answered: tuple[Answer, Any], model: str) -> Row:
    """A COMPLETION row."""
    answer, prior = answered
    return {
        **request,
        "model": model,
        "text": answer.text,
        "logprobs": answer.logprobs,
        "prior": prior,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "error": answer.error,
    }
