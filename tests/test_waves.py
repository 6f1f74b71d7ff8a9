"""Tasks in waves through prepare and synthesize on a real Ray: one plan a wave, budgets across tasks, tasks of YAML,
lineage, metrics. The fake engine answers, but where the answer itself matters."""

from __future__ import annotations

import re
import time

import httpx
import pytest
import ray
from little_shop import ENGINE, FAKE, PRODUCTS, REVIEWS, Shop, accounted, ids

from synthrec import schema
from synthrec.stages import synthesize

TASKS = {"queries": {"per_product": 2}, "relevance": {"candidates": 1}, "sentiment": {}}
ASKED = {"queries": 12, "sentiment": 4}
OWN = {
    "speed": {"reads": "review", "labels": {"en": ["came fast", "came late"], "zh": ["快递快", "送得太慢"]}},
    "gist": {"reads": "product", "prompt": {"en": "{text}\nIn short, {title}:", "zh": "{text}\n简单说，{title}："}},
    "echo": {"reads": "gist", "labels": ["short", "long"]},  # labels of a task of its own kind
}


@pytest.fixture(scope="module")
def first(tmp_path_factory, ray_session):
    shop = Shop(tmp_path_factory.mktemp("waves") / "shop")
    return shop.run(TASKS, FAKE, own_tasks=OWN), shop


@pytest.fixture
def plans(monkeypatch):
    """The tasks of each plan that the stage makes."""
    made, plan = [], synthesize.plan

    def watched(engine, tasks, *rest):
        made.append([task.name for task in tasks])
        return plan(engine, tasks, *rest)

    monkeypatch.setattr(synthesize, "plan", watched)
    return made


def test_all_tasks_are_answered_by_the_fake_engine(first):
    done, shop = first
    assert accounted(done)
    assert {task: done.asked[task] for task in ASKED} == ASKED
    assert (done.asked["speed"], done.asked["gist"], done.asked["echo"]) == (4, 6, 6)
    assert done.asked["relevance"] >= 12
    for task, asked in done.asked.items():
        assert done.figures[task]["labels"] == asked, task
        assert ids(shop.completions(task, "done")) == ids(done.requests[task])


def test_every_label_says_what_it_was_made_of(first):
    done, _ = first
    rows = done.labels.to_pylist()
    requests = {row["id"]: row for table in done.requests.values() for row in table.to_pylist()}
    documents = {f"product:{one[0]}" for one in PRODUCTS} | {f"review:{one[0]}" for one in REVIEWS}
    known = documents | {row["id"] for row in rows} | {one[0] for one in PRODUCTS}  # relevance names products bare
    assert {row["task"] for row in rows} == {*TASKS, *OWN}
    for row in rows:
        asked = requests[row["request_id"]]
        assert row["model"] == "fake:none"
        assert re.fullmatch("[0-9a-f]{16}", row["prompt"])
        assert row["sources"]
        assert set(row["sources"]) <= known, row["sources"]
        assert all(row[key] == asked[key] for key in ("prompt", "sources", "task", "language", "labels"))
    # One prompt a task and language, and none shared.
    assert len({row["prompt"] for row in rows}) == len({(row["task"], row["language"]) for row in rows})
    of_labels = {one for row in rows if row["task"] == "echo" for one in row["sources"]}
    assert of_labels == {row["id"] for row in rows if row["task"] == "gist"}


def test_completions_hold_the_prior_of_what_was_chosen_and_of_nothing_else(first):
    done, shop = first
    for task in (*TASKS, *OWN):
        for row in shop.completions(task, "done").to_pylist():
            if task in ("queries", "gist"):
                assert row["prior"] is row["logprobs"] is None
            else:
                assert len(row["prior"]) == len(row["logprobs"]) == len(row["choices"])
    # What no record can change is the same for all of a task and language.
    priors = {(row["language"], tuple(row["prior"])) for row in shop.completions("speed", "done").to_pylist()}
    assert sorted(language for language, _ in priors) == ["en", "zh"]
    labels = [row for row in done.labels.to_pylist() if row["task"] == "speed"]
    assert {tuple(row["prior"]) for row in labels} == {prior for _, prior in priors}


def test_labels_in_two_languages_are_called_by_the_first_one_s_words(first):
    done, _ = first
    rows = [row for row in done.requests["speed"].to_pylist() if row["language"] == "zh"]
    assert {tuple(row["choices"]) for row in rows} == {("快递快", "送得太慢")}
    assert {row["label"] for row in done.labels.to_pylist() if row["task"] == "speed"} <= {"came fast", "came late"}


def test_a_text_of_a_task_of_yaml_keeps_what_it_is_of(first):
    done, _ = first
    title = {product: title for product, _, title, _ in PRODUCTS}
    rows = [row for row in done.labels.to_pylist() if row["task"] == "gist"]
    assert {row["product_id"] for row in rows} == set(title)
    for row in rows:
        assert row["text"].rstrip("：:").endswith(title[row["product_id"]].split()[-1])  # the prompt's last words
        assert title[row["product_id"]] in schema.strings(row["fields"])["of"]


def test_tasks_that_read_the_corpus_share_a_plan_and_their_readers_another(tmp_path, ray_session, plans):
    Shop(tmp_path / "shop").run(TASKS, FAKE, own_tasks=OWN)
    assert plans == [["queries", "sentiment", "speed", "gist"], ["relevance", "echo"]]


def test_a_task_that_is_answered_is_left_out_of_the_next_plan(tmp_path, ray_session, plans):
    shop = Shop(tmp_path / "shop")
    only = {"queries": {"per_product": 2}}
    assert shop.run(only, FAKE).asked == {"queries": 12}
    done = shop.run({**only, "sentiment": {}}, FAKE)
    assert done.asked == {"queries": 0, "sentiment": 4}
    assert plans == [["queries"], ["sentiment"]]
    assert accounted(done)


@pytest.mark.slow
def test_a_budget_of_rows_is_kept_to_the_row_across_the_tasks_of_a_wave(tmp_path, ray_session, plans):
    shop = Shop(tmp_path / "shop")
    some = shop.run(TASKS, FAKE, budget={"rows": 14})
    assert some.asked == {"queries": 12, "sentiment": 2, "relevance": 0}
    assert (some.figures["sentiment"]["left"], plans) == (2, [["queries", "sentiment"]])
    first_two = ids(some.requests["sentiment"])[:2]  # by their hashes: a fair sample
    assert ids(shop.completions("sentiment", "done")) == first_two

    plans.clear()
    more = shop.run(TASKS, FAKE, budget={"rows": 18})
    assert {task: figures["left"] for task, figures in more.figures.items() if task != "relevance"} == {
        "queries": 0,
        "sentiment": 0,
    }
    assert more.asked == {"queries": 0, "sentiment": 2, "relevance": 2}
    assert plans == [["sentiment"], ["relevance"]]
    assert more.figures["relevance"]["left"] == more.figures["relevance"]["requests"] - 2


@pytest.mark.slow
def test_a_task_of_yaml_on_the_llm_chooses_phrases_and_writes_typed_fields(tmp_path, ray_session):
    own = {
        "mood": {"reads": "review", "labels": {"en": ["happy", "very angry"], "zh": ["高兴", "非常不满意"]}},
        "facts": {
            "reads": "product",
            "prompt": {"en": "{text}\nAs JSON: ", "zh": "{text}\nJSON："},
            "fields": {"indoors": "boolean", "pieces": "integer", "kind": ["tool", "toy"]},
            "max_records": 3,
        },
    }
    done = Shop(tmp_path / "shop").run(dict.fromkeys(TASKS), ENGINE, own_tasks=own, max_failure_rate=1.0)
    assert accounted(done)
    assert done.asked == {"mood": 4, "facts": 3}
    labels = done.labels.to_pylist()
    for row in (row for row in labels if row["task"] == "mood"):
        assert row["label"] in ("happy", "very angry")
        assert sum(row["scores"]) == pytest.approx(1)
    facts = [schema.strings(row["fields"]) for row in labels if row["task"] == "facts"]
    assert facts
    for row in facts:
        assert row["indoors"] in ("true", "false")
        assert row["kind"] in ("tool", "toy")
        int(row["pieces"])


# Metrics.


def exported():
    """What Ray's agents tell Prometheus: (metric, labels) -> value, of all nodes."""
    found = {}
    for node in ray.nodes():
        where = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for line in httpx.get(where, trust_env=False, timeout=10).text.splitlines():
            if line.startswith("ray_synthrec_"):
                name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
                key = name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))
                found[key] = found.get(key, 0.0) + float(value)
    return found


def total(found, name, **labels):
    return sum(value for (metric, own), value in found.items() if metric == name and set(labels.items()) <= own)


def test_prometheus_is_told_of_answers_and_tokens_by_task(tmp_path, ray_session):
    engine = FAKE | {"model": "counted"}  # not what other tests have counted
    done = Shop(tmp_path / "shop").run({"queries": {"per_product": 2}, "sentiment": {}}, engine)
    answers = {"name": "ray_synthrec_answers_total", "model": "fake:counted"}
    limit = time.monotonic() + 40  # agents gather every few seconds
    while total(found := exported(), **answers) < 16 and time.monotonic() < limit:
        time.sleep(1)
    for task, count in ASKED.items():
        assert total(found, **answers, task=task, outcome="accepted") == count, found
        tokens = {"name": "ray_synthrec_tokens_total", "model": "fake:counted", "task": task}
        assert total(found, **tokens, direction="read") == done.figures[task]["prompt_tokens"]
        assert total(found, **tokens, direction="written") == done.figures[task]["completion_tokens"]
