"""prepare and synthesize on a real Ray, mostly with the embedded LLM: what is asked, what is kept, what is asked again.

Each asking costs seconds, mostly of starting: one run is made for all, and tests work on copies of its folder.
"""

from __future__ import annotations

import copy
import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from little_shop import ENGINE, FAKE, LONG, PRODUCTS, REVIEWS, TASKS_ON, Shop, accounted, ids
from pydantic import ValidationError

from synthrec import schema
from synthrec.config import Budget
from synthrec.config import Engine as EngineSettings
from synthrec.errors import UserError
from synthrec.storage import Folder
from synthrec.synthesis.breaker import Breaker
from synthrec.synthesis.budget import Purse
from synthrec.synthesis.worker import Worker
from synthrec.tasks import chosen_tasks

ANOTHER = ("k7", "en", "Fennick Muffin Tin", "Bakes twelve at a time. Nothing sticks to it.")
LABELS = {"relevance": [*"ESCI"], "sentiment": ["positive", "negative"]}


@pytest.fixture(scope="module")
def first(tmp_path_factory, ray_session):
    shop = Shop(tmp_path_factory.mktemp("first") / "shop")
    return SimpleNamespace(shop=shop, done=shop.run())


@pytest.fixture
def again(first, tmp_path):
    """The first run's shop, with a copy of its run directory."""
    shop = copy.copy(first.shop)
    shop.run_dir = tmp_path / "run"
    shutil.copytree(first.shop.run_dir, shop.run_dir)
    return shop


# The first run.


def test_every_request_is_answered_and_every_answer_is_a_label_or_a_reject(first):
    done = first.done
    assert {task: len(table) for task, table in done.requests.items()}["queries"] == 12
    assert len(done.requests["sentiment"]) == 4
    judged = {
        tuple(schema.strings(row["fields"])[k] for k in ("query", "product_id"))
        for row in done.requests["relevance"].to_pylist()
    }
    queries = {(row["text"], row["product_id"]) for row in done.labels.to_pylist() if row["task"] == "queries"}
    assert judged >= queries  # each query for its own product, and for rivals where it finds any
    assert len(queries) > 6
    assert accounted(done)
    assert done.asked == {task: len(table) for task, table in done.requests.items()}
    for task, figures in done.figures.items():
        assert figures["now"]["prompt_tokens"] == figures["prompt_tokens"] > 0
        assert figures["now"]["completion_tokens"] == figures["completion_tokens"] > 0
        assert ids(first.shop.completions(task, "done")) == ids(done.requests[task])
        assert len(first.shop.completions(task, "failed")) == 0


def test_files_have_the_schemas_that_are_declared(first):
    declared = {"labels": schema.LABEL, "rejects": schema.REJECT, "requests": schema.REQUEST}
    files = [(name, declared[name.split("/")[0]]) for name in first.done.out.files(".parquet")]
    paths = [(f"{first.done.out.path}/{name}", one) for name, one in files]
    store = Folder.open(str(first.shop.run_dir / "synthesize" / "completions"))
    paths += [(f"{store.path}/{name}", schema.COMPLETION) for name in store.files(".parquet")]
    assert len(paths) > 6
    for path, one in paths:
        assert pq.read_schema(path).remove_metadata().equals(one), path


def test_labels_say_what_they_are_of(first):
    rows = first.done.labels.to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["model"] for row in rows} == {"llamacpp:embedded"}
    language = {product[0]: product[1] for product in PRODUCTS}
    texts = {review: text for review, _, text in REVIEWS}
    queries = {row["text"] for row in rows if row["task"] == "queries"}
    for row in rows:
        assert row["language"] == language[row["product_id"]] or row["task"] == "relevance"
        if row["task"] == "queries":
            assert row["scores"] is row["score"] is None
            assert row["label"].rstrip("。.") in " ".join(p[3] for p in PRODUCTS)  # the aspect that was asked for
        else:
            assert row["labels"] == LABELS[row["task"]]
            assert row["label"] == row["labels"][row["scores"].index(row["score"])]
            assert row["score"] == max(row["scores"])
            assert sum(row["scores"]) == pytest.approx(1)
            assert row["text"] in (queries if row["task"] == "relevance" else texts.values())
    assert {row["language"] for row in rows if row["task"] == "queries"} == {"en", "zh"}
    sentiment = {row["text"]: row["scores"][0] for row in rows if row["task"] == "sentiment"}
    assert (
        sentiment[texts["r1"]] > sentiment[texts["r2"]] + 0.3
    )  # in Chinese so small a model tells them apart too little


# Again.


def test_running_again_does_nothing(first, capsys):
    files = sorted((path, path.stat().st_mtime_ns) for path in first.shop.run_dir.rglob("*"))
    done = first.shop.run()
    assert "synthesize is up to date" in capsys.readouterr().err
    assert done.manifest == first.done.manifest
    assert sorted((path, path.stat().st_mtime_ns) for path in first.shop.run_dir.rglob("*")) == files


@pytest.mark.parametrize("resources", [{}, {"batch_size": 2, "slots": 1, "cpus": 0.5}], ids=["same", "other layout"])
def test_what_has_been_answered_is_not_asked_again(again, first, resources):
    again.forget()
    done = again.run(engine=ENGINE | {"resources": ENGINE["resources"] | resources})
    assert done.asked == {"queries": 0, "relevance": 0, "sentiment": 0}
    assert done.manifest["fingerprint"] == first.done.manifest["fingerprint"]
    assert accounted(done)
    assert done.labels.sort_by("id").equals(first.done.labels.sort_by("id"))
    for task, figures in done.figures.items():  # what it cost in all is still told
        assert figures["prompt_tokens"] == first.done.figures[task]["prompt_tokens"]
        assert figures["now"]["prompt_tokens"] == 0


def test_one_more_product_asks_for_it_alone(again, first, tmp_path):
    larger = Shop(tmp_path / "larger", [ANOTHER, *PRODUCTS])
    larger.run_dir = again.run_dir
    done = larger.run({"queries": {"per_product": 2}, "sentiment": {}})
    assert done.asked == {"queries": 2, "sentiment": 0}
    assert accounted(done)
    new = set(ids(done.labels)) - set(ids(first.done.labels))
    assert {row["product_id"] for row in done.labels.to_pylist() if row["id"] in new} == {"k7"}
    assert set(ids(done.requests["queries"])) >= set(ids(first.done.requests["queries"]))


def test_a_setting_of_one_task_asks_again_for_that_task_alone(again, first):
    done = again.run({"queries": {"per_product": 1, "temperature": 0.1}, "sentiment": {}})
    assert done.asked == {"queries": 6, "sentiment": 0}
    assert accounted(done)
    assert not set(ids(done.requests["queries"])) & set(ids(first.done.requests["queries"]))
    # Back to the old setting: its answers are still there.
    assert again.run({"queries": {"per_product": 1}, "sentiment": {}}).asked == {"queries": 0, "sentiment": 0}
    assert len(again.completions("queries", "done")) == 12 + 6


def test_what_a_stopped_run_left_behind_is_not_taken_for_this_one_s(again, first):
    out = again.run().out.path
    left = [row | {"id": "0" * 32, "request_id": "1" * 32} for row in first.done.labels.to_pylist()[:1]]
    refused = [schema.reject("synthesize", "1" * 32, "engine error")]
    asked = [row | {"id": "1" * 32} for row in first.done.requests["relevance"].to_pylist()[:1]]
    for task in TASKS_ON:
        Folder.open(f"{out}/labels").write_table(f"{task}-00009.parquet", schema.table(left, schema.LABEL))
        Folder.open(f"{out}/rejects").write_table(f"{task}-00000.parquet", schema.table(refused, schema.REJECT))
        Folder.open(f"{out}/requests/{task}").write_table("9.parquet", schema.table(asked, schema.REQUEST))
    again.forget()
    done = again.run()
    assert done.out.path == out
    assert done.asked == {"queries": 0, "relevance": 0, "sentiment": 0}
    assert accounted(done)
    assert ids(done.labels) == ids(first.done.labels)


def test_a_batch_that_was_written_twice_is_told_twice_and_asked_no_more(again, first):
    again.forget()
    store = again.run_dir / "synthesize" / "completions" / "sentiment" / "done"
    for path in list(store.iterdir()):  # as when another batch size put the same rows in other files
        shutil.copy(path, store / f"0{path.name}")
    done = again.run()
    assert done.asked == {"queries": 0, "relevance": 0, "sentiment": 0}
    assert set(ids(done.labels)) == set(ids(first.done.labels))


# Failures.


@pytest.mark.slow
def test_a_prompt_beyond_the_context_costs_itself_alone_and_is_asked_again(tmp_path, ray_session):
    shop = Shop(tmp_path / "shop", [*PRODUCTS[:2], ("k9", "en", LONG, "Boils a litre in two minutes.")])
    only = {"queries": {"per_product": 1}}
    done = shop.run(only)
    assert (done.asked["queries"], done.figures["queries"]["labels"]) == (3, 2)
    assert accounted(done)
    (refused,) = done.rejects.to_pylist()
    assert refused["reason"] == "engine error"
    assert "context" in refused["detail"]
    (failed,) = shop.completions("queries", "failed").to_pylist()
    assert failed["id"] == refused["where"]
    assert failed["id"] not in ids(shop.completions("queries", "done"))

    assert done.figures["queries"]["failed"] == 1
    shop.ask_again(done)
    before, done = done, shop.run(only)
    assert done.asked["queries"] == 1  # the failed one, and only it
    assert done.out.path != before.out.path  # what was published, and may be read, stays as it was
    assert accounted(done)
    assert ids(shop.completions("queries", "failed")) == [failed["id"]]

    # The third time it is answered, as after a passing fault: no trace of the refusal is left.
    store = Folder.open(str(shop.run_dir / "synthesize" / "completions" / "queries"))
    (store / "failed").delete()
    store.write_table(
        "done/late.parquet", schema.table([failed | {"error": None, "text": "kettle"}], schema.COMPLETION)
    )
    shop.forget()
    done = shop.run(only)
    assert (done.asked["queries"], done.figures["queries"]["rejects"]) == (0, 0)
    assert accounted(done)
    with pytest.raises(UserError, match="no answer failed"):
        shop.ask_again(done)


def test_records_in_a_language_without_a_prompt_are_told(tmp_path, ray_session, capsys):
    german = ("k9", "de-DE", "Roter Wasserkocher", "Kocht einen Liter in zwei Minuten.")
    only = {"queries": {"per_product": 1}}
    done = Shop(tmp_path / "some", [*PRODUCTS[:2], german]).run(only, FAKE)
    assert "queries: 1 records are in languages" in capsys.readouterr().err
    assert done.figures["queries"]["requests"] == 2
    with pytest.raises(UserError, match="queries: 1 records are in languages") as told:
        Shop(tmp_path / "all", [german]).run(only, FAKE)
    assert "en, zh" in told.value.hint


def test_the_circuit_breaks_in_the_middle_of_a_job(tmp_path, ray_session):
    shop = Shop(tmp_path / "shop", [(f"k{n}", "en", LONG, "Boils a litre in two minutes.") for n in range(300)])
    engine = ENGINE | {"resources": ENGINE["resources"] | {"batch_size": 1}}
    with pytest.raises(UserError, match="of no use"):
        shop.run({"queries": {"per_product": 1}}, engine, failure_window=4)
    assert 4 <= len(shop.completions("queries", "failed")) < 300


@pytest.mark.slow
def test_a_context_too_small_for_any_prompt_is_told_and_asked_again_with_a_larger_one(tmp_path, ray_session):
    shop = Shop(tmp_path / "shop", [(i, la, title + " " + "word " * 150, text) for i, la, title, text in PRODUCTS[:2]])
    only = {"queries": {"per_product": 1}}
    with pytest.raises(UserError) as told:
        shop.run(only, ENGINE | {"context": 256})
    headline, *reasons = told.value.problem.splitlines()
    assert headline == "queries: 2 of the last 2 answers are of no use"
    assert reasons[0] == "  2 x engine error"
    assert "exceeds the available context size" in reasons[1]
    assert "synthesize.max_failure_rate" in told.value.hint
    assert not (shop.run_dir / "synthesize" / "manifest.json").exists()
    assert len(shop.completions("queries", "failed")) == 2

    done = shop.run(only)
    assert done.asked["queries"] == 2
    assert done.figures["queries"]["labels"] == 2
    assert len(shop.completions("queries", "failed")) == 0


@pytest.mark.parametrize(("refused", "breaks"), [(9, False), (10, False), (11, True)])
def test_the_circuit_breaks_above_the_limit_and_not_before_the_window(refused, breaks):
    why = {"engine error": (7, "busy"), "empty answer": (2, ""), "copy": (1, "kettle"), "odd": (1, "?")}
    Breaker("sentiment", 0.5, window=21).see(20, refused, why)
    if not breaks:
        Breaker("sentiment", 0.5, window=20).see(20, refused, why)
        return
    with pytest.raises(UserError) as told:
        Breaker("sentiment", 0.5, window=20).see(20, refused, why)
    assert told.value.problem.splitlines() == [
        "sentiment: 11 of the last 20 answers are of no use",
        "  7 x engine error",
        "      such as 'busy'",
        "  2 x empty answer",
        "  1 x copy",
        "      such as 'kettle'",
    ]
    assert "max_failure_rate" in told.value.hint


def test_only_the_last_answers_count():
    breaker = Breaker("sentiment", 0.5, window=10)
    for _ in range(100):
        breaker.see(5, 0, {})
    with pytest.raises(UserError, match="6 of the last 10"):
        for _ in range(3):
            breaker.see(5, 3, {"odd": (3, "")})


# Budgets.

QUERIES = {"queries": {"per_product": 2}}  # 12 requests


def test_a_budget_of_rows_is_kept_to_the_row_and_a_larger_one_goes_on(tmp_path, ray_session, capfd):
    shop = Shop(tmp_path / "shop")
    some = shop.run(QUERIES, FAKE, budget={"rows": 5})
    assert (some.asked["queries"], some.figures["queries"]["left"], len(some.labels)) == (5, 7, 5)
    assert "stopped at synthesize.budget.rows = 5 with 7 answers left" in capfd.readouterr().err
    assert shop.run(QUERIES, FAKE, budget={"rows": 5}).manifest == some.manifest  # nothing more to spend: a no-op
    rest = shop.run(QUERIES, FAKE, budget={"rows": 100})
    assert (rest.asked["queries"], rest.figures["queries"]["left"], len(rest.labels)) == (7, 0, 12)
    assert set(ids(some.labels)) < set(ids(rest.labels))
    assert accounted(rest)


@pytest.mark.parametrize(
    ("budget", "limit"), [({"tokens": 100}, "tokens = 100"), ({"money": 0.0001}, "money = 0.0001")]
)
def test_other_budgets_stop_within_a_batch_or_two(tmp_path, ray_session, capfd, budget, limit):
    shop = Shop(tmp_path / "shop")
    done = shop.run(QUERIES, FAKE | {"prices": {"prompt": 1, "completion": 2}}, budget=budget)
    told = capfd.readouterr().err
    assert f"stopped at synthesize.budget.{limit} with" in told
    assert 0 < done.asked["queries"] < 12
    assert done.asked["queries"] + done.figures["queries"]["left"] == 12
    tokens = [done.figures["queries"][one] for one in ("prompt_tokens", "completion_tokens")]
    assert done.figures["queries"]["money"] == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)


def test_tokens_that_were_spent_once_stay_spent(tmp_path, ray_session):
    """By answers to a prompt that nobody asks any more, and by failed ones that were asked anew."""
    shop = Shop(tmp_path / "shop")
    once = shop.run(QUERIES, FAKE)
    tokens = sum(once.figures["queries"][one] for one in ("prompt_tokens", "completion_tokens"))
    other = {"queries": {"per_product": 2, "temperature": 0.3}}
    assert shop.run(other, FAKE, budget={"tokens": tokens}).figures["queries"]["left"] == 12
    folder = shop.run_dir / "synthesize" / "completions"
    (folder / "queries" / "done").rename(folder / "queries" / "failed")
    assert shop.run(other, FAKE, budget={"tokens": tokens + 1}).asked["queries"] < 12
    assert not (folder / "queries" / "failed").exists()
    assert json.loads((folder / "deleted.json").read_text())["prompt_tokens"] > 0


@pytest.mark.parametrize("budget", [{"tokens": 10}, {"rows": 10}])
def test_a_server_that_counts_nothing_breaks_a_budget_of_tokens(budget):
    assert Purse(Budget(**budget)).blind(3, 0) == ("tokens" in budget)
    assert not Purse(Budget(**budget)).blind(3, 7)
    assert not Purse(Budget(**budget)).blind(0, 0)


def test_a_budget_spans_the_tasks(tmp_path, ray_session):
    done = Shop(tmp_path / "shop").run({"queries": {"per_product": 1}, "sentiment": {}}, FAKE, budget={"rows": 8})
    assert done.asked == {"queries": 6, "sentiment": 2}
    assert done.figures["sentiment"]["left"] == 2


def test_time_is_of_one_run():
    purse = Purse(Budget(seconds=60))
    assert purse.reached() is None
    purse.start -= 61
    assert purse.reached() == "synthesize.budget.seconds = 60"


def test_a_budget_of_money_needs_prices(tmp_path):
    with pytest.raises(ValidationError, match=r"budget.money needs engine.prices"):
        Shop(tmp_path / "shop").run(QUERIES, budget={"money": 1})


# The worker by itself.


@pytest.mark.parametrize("name", ["sentiment", "queries"])
def test_a_batch_of_both_languages_with_a_bad_prompt_is_answered_row_by_row(tmp_path, first, name):
    (task,) = (task for task in chosen_tasks(first.done.config) if task.name == name)
    known = {row["id"]: row for row in first.shop.completions(name, "done").to_pylist()}
    asked = first.done.requests[name].sort_by("id").to_pylist()
    rows = [row for la in ("zh", "en") for row in [r for r in asked if r["language"] == la][:2]]
    rows = [rows[0], rows[2], rows[1], rows[3]]  # languages in turn
    bad = rows[1] | {"id": "0" * 32, "fields": [("text", LONG), ("product", LONG), ("aspect", ""), ("product_id", "")]}
    batch = schema.table([*rows[:2], bad, *rows[2:]], schema.REQUEST)
    store = Folder.open(str(tmp_path / "store"))
    worker = Worker(EngineSettings.model_validate(ENGINE), {name: task}, store, "m")
    (account,) = worker(batch).to_pylist()
    files = store.files()
    (again,) = worker(batch).to_pylist()
    worker._engine.close()
    assert store.files() == files  # run again it replaces itself

    assert (account["rows"], account["refused"]) == (5, 1)
    assert json.loads(account["why"])["engine error"][0] == 1
    good = (store / name / "done").read_table(schema.COMPLETION).to_pylist()
    assert [row["id"] for row in good] == [row["id"] for row in rows]
    assert {row["model"] for row in good} == {"m"}
    for row in good:  # its own prompt, in its own language
        before = known[row["id"]]
        assert row["fields"] == before["fields"]
        if name == "queries":  # of what is chosen, the first row of a batch pays for the prior
            assert row["prompt_tokens"] == before["prompt_tokens"]
        assert (row["logprobs"] is None) == (name == "queries")
        assert (row["text"] is None) == (name == "sentiment")
    (failed,) = (store / name / "failed").read_table(schema.COMPLETION).to_pylist()
    assert again["prompt_tokens"] == sum(row["prompt_tokens"] for row in [*good, failed])
    assert (account["prompt_tokens"] > again["prompt_tokens"]) == (name == "sentiment"), "priors are asked once"
    assert failed["id"] == "0" * 32
