"""The actor that holds an engine, in this process: what it asks of it, and what it writes of the answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.config import QueriesTask, SentimentTask
from synthrec.engines import load
from synthrec.storage import Folder
from synthrec.synthesis import worker as workers
from synthrec.synthesis.requests import spaced
from synthrec.synthesis.worker import Worker, ask
from synthrec.tasks import TASKS

SETTINGS = EngineSettings(kind="fake", model="none")
PHRASES = {"en": ["good", "just what I wanted"], "zh": ["好", "差"]}


class Recorder:
    """The fake engine, which keeps what it was asked."""

    def __init__(self):
        self.engine = load(SETTINGS)
        self.written, self.chosen = [], []

    def generate(self, prompts, sampling, seeds):
        self.written.append((list(prompts), sampling, list(seeds)))
        return self.engine.generate(prompts, sampling, seeds)

    def choose(self, prompts, choices):
        self.chosen.append(list(zip(prompts, map(tuple, choices), strict=True)))
        return self.engine.choose(prompts, choices)


@pytest.fixture
def tasks():
    return {"queries": TASKS["queries"](QueriesTask()), "sentiment": TASKS["sentiment"](SentimentTask())}


@pytest.fixture
def recorder(monkeypatch):
    one = Recorder()
    monkeypatch.setattr(workers, "load", lambda settings: one)
    return one


def review(number, language="en", words=None):
    words = words or {"en": ["good", "bad"], "zh": ["好", "差"]}[language]
    return {
        "id": schema.row_id("review", number, language),
        "task": "sentiment",
        "facet": "",
        "language": language,
        "sample": 0,
        "fields": [("text", f"text {number}"), ("product_id", f"k{number}"), ("review", f"review:{number}")],
        "labels": ["positive", "negative"],
        "choices": [spaced(word, language) for word in words],
        "sources": [f"review:{number}"],
        "prompt": "a hash",
    }


def query(number, language="en"):
    return review(number, language) | {
        "id": schema.row_id("query", number, language),
        "task": "queries",
        "fields": [("product", f"kettle {number}"), ("aspect", "quiet"), ("product_id", f"k{number}")],
        "labels": None,
        "choices": None,
    }


MIXED = [review(1), query(1), review(2, "zh"), query(2, "zh"), review(3), query(3), review(4, "zh")]


def test_empty_prompts_are_asked_once_for_each_choices_and_kept(tasks, recorder):
    priors = {}
    rows = [review(1), review(2), review(3, "zh"), review(4, words=PHRASES["en"]), review(5)]
    first = ask(recorder, tasks, rows, priors)
    (asked,) = recorder.chosen  # rows and empty prompts in one call
    blank = {la: tasks["sentiment"].empty(la, "", {"text": "", "product_id": "", "review": ""}) for la in ("en", "zh")}
    words = [(blank["en"], (" good", " bad")), (blank["zh"], ("好", "差"))]
    words.append((blank["en"], (" good", " just what I wanted")))
    assert asked[len(rows) :] == words
    expected = {key: recorder.engine.choose([key[0]], [key[1]])[0].logprobs for key in words}
    assert priors == expected
    assert [prior for _, prior in first] == [expected[words[n]] for n in (0, 0, 1, 2, 0)]

    second = ask(recorder, tasks, [review(6), review(7, "zh")], priors)
    assert len(recorder.chosen[1]) == 2  # the rows alone
    assert [prior for _, prior in second] == [expected[words[0]], expected[words[1]]]


def test_answers_come_in_the_order_of_the_rows_of_all_tasks(tasks, recorder):
    answers = ask(recorder, tasks, MIXED, {})
    ((prompts, sampling, seeds),) = recorder.written
    assert sampling == tasks["queries"].sampling("")
    assert seeds == [int(row["id"][:7], 16) for row in MIXED if row["choices"] is None]
    assert len(set(prompts)) == 3
    for row, (answer, prior) in zip(MIXED, answers, strict=True):
        prompt = tasks[row["task"]].render(row["language"], "", dict(row["fields"]))
        if row["task"] == "queries":
            assert prior is None
            assert answer.text == " ".join(prompt.split()[-4:])
        else:
            assert answer.logprobs == recorder.engine.choose([prompt], [row["choices"]])[0].logprobs
            assert prior


def test_a_batch_of_several_tasks_gives_an_account_and_a_file_a_task(tasks, tmp_path, ray_session):
    store = Folder.open(str(tmp_path))
    accounts = Worker(SETTINGS, tasks, store, "m")(schema.table(MIXED, schema.REQUEST)).to_pylist()
    assert [(one["task"], one["rows"], one["refused"]) for one in accounts] == [("sentiment", 4, 0), ("queries", 3, 0)]
    for one in accounts:
        (name,) = (store / one["task"] / "done").files()
        rows = (store / one["task"] / "done").read_table(schema.COMPLETION).to_pylist()
        own = [row["id"] for row in MIXED if row["task"] == one["task"]]
        assert name == f"{schema.row_id(*own)}.parquet"
        assert [row["id"] for row in rows] == own
        assert one["prompt_tokens"] == sum(row["prompt_tokens"] for row in rows) > 0
        assert {row["prior"] is None for row in rows} == {one["task"] == "queries"}
        assert {row["model"] for row in rows} == {"m"}
        assert json.loads(one["wrong"]) is None


def test_two_batches_at_once_are_written_as_one_after_the_other(tasks, tmp_path, ray_session):
    batches = [schema.table([review(10 * n + i, la) for i in range(5) for la in ("en", "zh")], schema.REQUEST)
               for n in range(6)]  # fmt: skip
    slow = SETTINGS.model_copy(update={"options": {"seconds": 0.005}})
    found = []
    for threads in (1, 2):
        store = Folder.open(str(tmp_path / str(threads)))
        worker = Worker(slow, tasks, store, "m")
        with ThreadPoolExecutor(threads) as pool:
            accounts = [table.to_pylist() for table in pool.map(worker, batches)]
        found.append((accounts, (store / "sentiment" / "done").read_table(schema.COMPLETION).sort_by("id").to_pylist()))
    assert found[0] == found[1]
    assert len(found[0][1]) == 60
    assert all(row["prior"] for row in found[0][1])


def test_an_engine_that_cannot_start_is_told_by_the_first_batch(tasks, tmp_path, ray_session):
    wrong = EngineSettings(model=str(tmp_path / "none.gguf"))
    (account,) = Worker(wrong, tasks, Folder.open(str(tmp_path / "store")), "m")(
        schema.table(MIXED, schema.REQUEST)
    ).to_pylist()
    problem, hint = json.loads(account["wrong"])
    assert "none.gguf" in problem
    assert "embedded" in hint
    assert account["rows"] == 0
