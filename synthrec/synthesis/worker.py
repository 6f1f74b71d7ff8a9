"""The actor that holds an engine: requests in, completions written, an account of them out."""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.engines import Answer, Engine, load
from synthrec.errors import UserError
from synthrec.storage import Folder
from synthrec.synthesis.parse import tally, verdict
from synthrec.tasks import Rejection, Task


class Worker:
    """Answers a batch and writes it as one file before it reports it: what is reported is safe.

    The file's name is a hash of the rows in it, so a batch that Ray runs again replaces itself.
    """

    def __init__(self, engine: EngineSettings, task: Task, store: Folder, model: str) -> None:
        self._wrong: UserError | None = None
        try:
            self._engine = load(engine)
        except UserError as error:  # Ray would tell of a dead actor; the first batch can tell what is wrong
            self._wrong = error
        self._task, self._store, self._model = task, store, model

    def __call__(self, batch: pa.Table) -> pa.Table:
        start = time.monotonic()
        try:
            rows = self._answered(batch.to_pylist())
            wrong = None
        except UserError as error:  # an exception would lose its words on the way through Ray
            rows, wrong = [], [error.problem, error.hint]
        account = self._account(rows) | {"seconds": time.monotonic() - start, "wrong": json.dumps(wrong)}
        return pa.Table.from_pylist([account])

    def _answered(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The completions of a batch, written."""
        if self._wrong:
            raise self._wrong
        answers = ask(self._engine, self._task, requests)
        rows = [completion(r, a, self._model) for r, a in zip(requests, answers, strict=True)]
        name = f"{schema.row_id(*[r['id'] for r in rows])}.parquet"
        good = [r for r in rows if r["error"] is None]
        bad = [r for r in rows if r["error"] is not None]
        if good:
            (self._store / "done").write_table(name, schema.table(good, schema.COMPLETION))
        if bad:  # kept for the record, and asked again next time
            (self._store / "failed").write_table(name, schema.table(bad, schema.COMPLETION))
        return rows

    def _account(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        refused = [(v, row) for row in rows if isinstance(v := verdict(self._task, row), Rejection)]
        why = tally((v.reason, v.detail or row["text"] or "") for v, row in refused)
        return {
            "rows": len(rows),
            "refused": len(refused),
            "prompt_tokens": sum(r["prompt_tokens"] for r in rows),
            "completion_tokens": sum(r["completion_tokens"] for r in rows),
            "why": json.dumps(why, ensure_ascii=False),
        }


def ask(engine: Engine, task: Task, requests: list[dict[str, Any]]) -> list[Answer]:
    """Answers in the requests' order; they may mix languages, whose choices and shared prefixes differ."""
    answers: list[Answer] = [Answer(error="not asked")] * len(requests)
    for language in dict.fromkeys(r["language"] for r in requests):
        at = [i for i, r in enumerate(requests) if r["language"] == language]
        prompts = [task.render(language, schema.strings(requests[i]["fields"])) for i in at]
        if task.chooses:
            got = engine.choose(prompts, task.choices[language])
        else:
            got = engine.generate(prompts, task.sampling, [int(requests[i]["id"][:7], 16) for i in at])
        for i, answer in zip(at, got, strict=True):
            answers[i] = answer
    return answers


def completion(request: dict[str, Any], answer: Answer, model: str) -> dict[str, Any]:
    """A COMPLETION row."""
    return {
        **request,
        "model": model,
        "text": answer.text,
        "logprobs": answer.logprobs,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "error": answer.error,
    }
