"""The actor that holds an engine, in this process: what it asks of it, and what it writes of the answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from synthrec import schema
from synthrec.config import Engine as EngineSettings
from synthrec.config import QueriesTask, SentimentTask
from synthrec.engines import Answer, load
from synthrec.storage import Folder
from synthrec.synthesis import worker as workers
from synthrec.synthesis.metrics import Metrics
from synthrec.synthesis.requests import spaced
from synthrec.synthesis.worker import Worker, ask, keep
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


def test_the_first_row_that_wants_a_prior_pays_for_it(tasks, recorder):
    rows = [review(1), review(2), review(3, "zh")]
    alone = [one.prompt_tokens for one in recorder.engine.choose(*zip(*both(tasks, rows), strict=True))]
    blank = {la: tasks["sentiment"].empty(la, "", {"text": "", "product_id": "", "review": ""}) for la in ("en", "zh")}
    prior = {la: recorder.engine.choose([text], [(" good", " bad")])[0].prompt_tokens for la, text in blank.items()}
    found = [answer.prompt_tokens for answer, _ in ask(recorder, tasks, rows, {})]
    assert found == [alone[0] + prior["en"], alone[1], alone[2] + prior["zh"]]


def both(tasks, rows):
    return [(workers.prompt(tasks, row), tuple(row["choices"])) for row in rows]


def test_a_known_prior_is_there_though_the_book_of_them_is_full(tasks, recorder, monkeypatch):
    monkeypatch.setattr(workers, "MOST_PRIORS", 0)
    priors = {}
    ask(recorder, tasks, [review(1)], priors)
    (_, prior), *_ = ask(recorder, tasks, [review(2), review(3, "zh")], priors)
    assert prior is not None


@pytest.mark.parametrize("against_prior", [True, False])
def test_a_row_whose_prior_failed_is_judged_by_no_other_rule(tasks, recorder, against_prior):
    def choose(prompts, choices):
        found = recorder.engine.choose(prompts, choices)
        return [*found[:2], *(Answer(error="busy") for _ in found[2:])]

    recorder.choose = choose
    tasks["sentiment"].against_prior = against_prior
    answers = ask(recorder, tasks, [review(1), review(2)], {})
    assert [prior for _, prior in answers] == [None, None]
    expected = "no prior of the choices: busy" if against_prior else None
    assert [answer.error for answer, _ in answers] == [expected] * 2
    assert all((answer.logprobs is None) == against_prior for answer, _ in answers)


def test_half_a_character_is_no_reason_to_lose_a_batch(tasks, tmp_path, ray_session):
    rows = [workers.completion(query(n), (Answer(text=f"nice {n} \ud83d"), None), "m") for n in range(2)]
    store = Folder.open(str(tmp_path))
    keep(rows, tasks, store, Metrics("m"))
    assert (store / "queries" / "done").read_table(schema.COMPLETION)["text"].to_pylist() == ["nice 0 ?", "nice 1 ?"]


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
            accounts = pa.concat_tables(pool.map(worker, batches))
        rows = (store / "sentiment" / "done").read_table(schema.COMPLETION).sort_by("id")
        # Which batch pays for a prior that both want is a matter of luck.
        found.append([one.drop_columns(["prompt_tokens", "completion_tokens"]).to_pylist() for one in (accounts, rows)])
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
