"""Tasks of a user's own: in YAML alone, and as a Python file that travels to workers that do not have it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from ray import cloudpickle
from task_rows import MODEL, PRODUCTS, completion, product, query, review, shopper

from synthrec.config import load
from synthrec.errors import UserError
from synthrec.synthesis import requests
from synthrec.tasks import Rejection, chosen_tasks

LEAST = {"name": "shop", "run_dir": "runs/shop", "sources": {"products": {"path": "products.jsonl"}}}


@pytest.fixture
def declare(tmp_path):
    """`declare(name, **settings)`: the task of a config file that turns it on and nothing else."""

    def declare(name, **settings):
        path = tmp_path / "shop.yaml"
        values = LEAST | {"seed": 7, "synthesize": {"tasks": {}, "own_tasks": {name: settings}}}
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        (task,) = chosen_tasks(load(path))
        return task

    return declare


def told(declare, **settings):
    """The problem and the hint that declaring a task called `mine` ends in."""
    with pytest.raises(UserError) as found:
        declare("mine", **settings)
    return found.value.problem, found.value.hint


# In YAML alone.

PROBLEM = {"en": ["broken", "late", "no problem"], "zh": ["坏了", "晚到", "没有问题"]}


def test_labels_alone_are_a_task_in_both_languages(declare):
    task = declare("problem", reads="review", labels=PROBLEM, max_records=9)
    assert (task.name, task.reads, task.kind, task.limit, task.seed) == ("problem", "corpus", "review", 9, 7)
    for language, text in (("en", "Came\na week late"), ("zh", "等了一个星期")):
        (ask,) = task.requests(review(1, language, text), None)
        assert ask.sources == ["review:r1"]
        assert ask.options == dict(zip(PROBLEM["en"], PROBLEM[language], strict=True))  # labels are the first's
        prompt = task.render(language, ask.facet, ask.fields)
        assert all(word in prompt for word in PROBLEM[language])
        assert text.replace("\n", " ") in prompt
        empty = task.empty(language, ask.facet, ask.fields)
        assert text.replace("\n", " ") not in empty
        assert all(word in empty for word in PROBLEM[language])
        (row,) = requests.of_record(task, review(1, language, text), None, MODEL)
        assert (row["task"], row["labels"]) == ("problem", PROBLEM["en"])


def test_labels_that_are_the_same_in_all_languages(declare):
    task = declare("mine", reads="search", labels=["A", "B"])
    assert task.speaks("en")
    assert task.speaks("zh")
    (ask,) = task.requests(review(1, "zh", "好"), None)
    assert ask.options == {"A": "A", "B": "B"}
    assert "A、B" in task.render("zh", "", ask.fields)
    english = declare("mine", reads="search", labels={"en": ["A", "B"]})
    assert [la for la in ("en", "zh") if english.speaks(la)] == ["en"]


def test_a_choice_without_examples_is_held_against_the_label_s_own_commonness(declare):
    row = completion("mine", logprobs=[-0.2, -1.8], prior=[-0.1, -2.5], labels=["a", "b"], text="x", product_id="k1")
    row["fields"] = [("text", "Late again"), ("product_id", "k1")]
    zero = declare("mine", reads="review", labels=["a", "b"])
    shown = declare("mine", reads="review", labels=["a", "b"], prompt={"en": "Late: a\n{text}:"})
    assert zero.parse(row)["label"] == "b"
    assert shown.parse(row)["label"] == "a"
    assert {(one.parse(row)["text"], one.parse(row)["product_id"]) for one in (zero, shown)} == {("Late again", "k1")}


FACTS = {"what": "string", "for": ["adults", "children"], "pieces": "integer"}


def test_typed_fields_are_decoded_under_a_schema_and_checked(declare):
    prompt = {"en": '{"what": "pan", "for": "adults", "pieces": 1}\nProduct: {title}. {description}\nJSON:'}
    task = declare("facts", reads="product", prompt=prompt, fields=FACTS)
    (ask,) = task.requests(product(*PRODUCTS[0][:4]), None)
    assert ask.options is None
    rendered = task.render("en", "", ask.fields)
    assert rendered.endswith(f"Product: {PRODUCTS[0][2]}. {PRODUCTS[0][3]}\nJSON:")
    assert rendered.startswith('{"what": "pan"')  # braces of an example are no blanks
    assert set(json.loads(task.sampling("").schema)["properties"]) == set(FACTS)

    def parse(text):
        row = completion("facts", text=text, product_id="k1", title="Kettle")
        return task.parse(row | {"fields": [*row["fields"], ("text", "Tarrow Red Kettle")]})

    assert parse(' {"what": "kettle", "for": "adults", "pieces": 2}') == {
        "text": "Tarrow Red Kettle",
        "product_id": "k1",
        "label": "fields",
        "fields": {"what": "kettle", "for": "adults", "pieces": "2"},
    }
    assert parse("a kettle").reason == "not JSON"
    assert parse('{"what": "kettle", "for": "animals", "pieces": 2}').reason == "not of the schema"
    assert parse("  ") == Rejection("empty answer")


def test_free_text_is_a_label_of_what_it_is_about(declare):
    settings = {"temperature": 0.3, "top_p": 0.8, "max_tokens": 9, "stop": ["\n", "."]}
    task = declare("summary", reads="review", prompt={"zh": "{text}\n总之：\n"}, **settings)
    assert [la for la in ("en", "zh") if task.speaks(la)] == ["zh"]
    (ask,) = task.requests(review(1, "zh", "水开得快"), None)
    assert task.render("zh", "", ask.fields) == "水开得快\n总之："
    sampling = task.sampling("")
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop) == (0.3, 0.8, 9, ("\n", "."))
    assert sampling.schema is None
    row = completion("summary", language="zh", text=" 很快 ", product_id="")
    row["fields"] += [("text", "水开得快")]
    expected = {"text": "很快", "product_id": None, "label": "written", "fields": {"of": "水开得快"}}
    assert task.parse(row) == expected
    assert task.parse(row | {"text": " \n"}) == Rejection("empty answer")


def test_a_task_can_read_the_labels_of_another(tmp_path):
    own = {"mine": {"reads": "queries", "labels": ["a", "b"]}}
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump(LEAST | {"synthesize": {"own_tasks": own}}), encoding="utf-8")
    task = chosen_tasks(load(path))[-1]
    assert (task.name, task.reads, task.kind) == ("mine", "queries", "")
    (ask,) = task.requests(query(1, "en", "red kettle", "k1"), None)
    assert ask.sources == ["q1"]
    assert (ask.fields["text"], ask.fields["product_id"]) == ("red kettle", "k1")


def test_a_long_record_is_cut_and_a_field_of_its_own_is_a_blank(declare):
    task = declare("mine", reads="shopper", prompt={"en": "{searches} {text}"})
    (ask,) = task.requests(shopper("u", "en", [["search:s1", "kettle " * 500]]), None)
    assert 700 < len(ask.fields["searches"]) <= 800
    assert ask.sources == ["shopper:u"]


def test_what_shapes_an_answer_changes_a_declared_task_s_ids(declare):
    base = {"reads": "review", "prompt": {"en": "{text}:"}}
    changes = [{}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_tokens": 3}, {"stop": ["."]}, {"labels": ["a", "b"]}]
    changes += [{"fields": {"a": "string"}}, {"fields": {"b": "string"}}, {"prompt": {"en": "{text}!"}}]

    def ids(**settings):
        return [row["id"] for row in requests.of_record(declare("mine", **settings), review(1, "en", "x"), None, MODEL)]

    every = [ids(**(base | change)) for change in changes]
    assert len({one for (one,) in every}) == len(changes)
    assert ids(**base, max_records=1) == every[0]
    assert ids(**(base | {"prompt": base["prompt"] | {"zh": "{text}："}})) == every[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give either file, or reads"),
        ({"file": "x.py", "reads": "review"}, "give either file, or reads"),
        ({"reads": "review"}, "give labels to choose among, or a prompt"),
        ({"reads": "review", "fields": {"a": "string"}}, "give labels to choose among, or a prompt"),
        ({"reads": "review", "labels": ["a"], "fields": {"a": "string"}}, "give one of them"),
        ({"reads": "review", "labels": {"en": ["a", "b"], "zh": ["甲"]}}, "a word for each label"),
        ({"reads": "review", "labels": {"en": ["a"]}, "prompt": {"en": "x", "zh": "y"}}, "no words in zh"),
        ({"reads": "review", "labels": {"de": ["gut"]}}, "no prompt, and labels in none of en, zh"),
        ({"reads": "review", "prompt": {"en": "x"}, "fields": {"a": "text"}}, "fields.a"),
        ({"reads": "review", "prompt": {"en": "x"}, "fields": {"a": []}}, "fields.a"),
        ({"reads": "reveiw", "labels": ["a"]}, "task mine reads the labels of reveiw, which is not turned on"),
    ],
)
def test_a_declaration_that_cannot_be_asked_is_told(declare, settings, words):
    assert words in told(declare, **settings)[0]


@pytest.mark.parametrize(("name", "words"), [("queries", "a task of synthrec's"), ("My task", "own_tasks")])
def test_a_name_that_is_taken_or_none_is_told(declare, name, words):
    with pytest.raises(UserError, match=words):
        declare(name, reads="review", labels=["a"])


# As a Python file.

SOURCE = """
from synthrec.engines import Sampling
from synthrec.tasks import Ask, Rejection, Task

SIGN = "?"


def ends_well(text):
    return text.endswith(SIGN)


class Base:
    pass


class Faq(Base, Task):
    name = "faq"
    kind = "product"

    def sampling(self, facet):
        return Sampling(temperature=0.7, max_tokens=24)

    def requests(self, record, shop):
        fields = {"title": dict(record["fields"])["title"], "product_id": record["product_id"]}
        for sample in range(self.settings["questions"]):
            yield Ask([record["doc_id"]], fields, sample)

    def parse(self, row):
        question = row["text"].strip()
        if not ends_well(question):
            return Rejection("no question", question)
        return {"text": question, "product_id": dict(row["fields"])["product_id"], "label": "question"}
"""
PROMPT = "Product: {title}\nA shopper asks:\n"


@pytest.fixture
def write(tmp_path):
    """`write(source, **prompts)`: the path of faq.py with its prompts beside it."""

    def write(source=SOURCE, **prompts):
        (tmp_path / "faq.py").write_text(source, encoding="utf-8")
        for language, text in prompts.items():
            (tmp_path / "prompts").mkdir(exist_ok=True)
            (tmp_path / "prompts" / f"faq.{language}.txt").write_text(text, encoding="utf-8")
        return str(tmp_path / "faq.py")

    return write


def faq(declare, path, questions=2):
    return declare("faq", file=path, settings={"questions": questions})


def test_a_file_with_a_task_is_asked_with_its_own_prompts(declare, write):
    task = faq(declare, write(en=PROMPT), 3)
    assert (task.name, task.kind, task.seed) == ("faq", "product", 7)
    assert [la for la in ("en", "zh") if task.speaks(la)] == ["en"]
    rows = list(requests.of_record(task, product(*PRODUCTS[0][:4]), None, MODEL))
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert task.render("en", "", rows[0]["fields"]) == "Product: Tarrow Red Kettle\nA shopper asks:"
    assert task.parse(completion("faq", text=" Is it loud?", product_id="k1"))["text"] == "Is it loud?"
    assert task.parse(completion("faq", text="Loud", product_id="k1")) == Rejection("no question", "Loud")


def test_a_change_of_its_prompt_or_version_changes_its_ids(declare, write):
    def ids(path):
        return {row["id"] for row in requests.of_record(faq(declare, path), product("k1", "en", "Pan"), None, MODEL)}

    first = ids(write(en=PROMPT))
    assert ids(write(en=PROMPT)) == first
    assert ids(write(SOURCE + "\n# a remark", en=PROMPT)) == first
    assert not ids(write(en=PROMPT + "Well,")) & first
    assert not ids(write(SOURCE.replace('kind = "product"', 'kind = "product"\n    version = 2'), en=PROMPT)) & first


READER = """
import pickle, sys
task = pickle.loads(sys.stdin.buffer.read())
(one, two) = task.requests({"doc_id": "product:k1", "product_id": "k1", "fields": [("title", "Pan")]}, None)
print(task.render("en", one.facet, one.fields).replace(chr(10), "/"))
print(task.parse({"text": "Loud", "fields": []}).reason, task.sampling("").max_tokens, two.sample)
"""


def test_a_task_travels_by_value_to_where_its_file_is_not(declare, write, tmp_path):
    path = write(en=PROMPT)
    packed = cloudpickle.dumps(faq(declare, path))
    (tmp_path / "faq.py").unlink()
    (tmp_path / "prompts" / "faq.en.txt").unlink()
    done = subprocess.run([sys.executable, "-c", READER], input=packed, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == ["Product: Pan/A shopper asks:", "no question 24 1"]


NAMELESS = SOURCE.replace('    name = "faq"\n', "")
TWO = SOURCE + "\n\nclass Other(Faq):\n    pass\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "holds 0 tasks"),
        ("from synthrec.tasks import TASKS, Task\nfrom synthrec.tasks.queries import Queries", "holds 0 tasks"),
        (TWO, "holds 2 tasks"),
        (NAMELESS, "its task is called None"),
        (SOURCE.replace('"faq"', '"other"'), "its task is called 'other'"),
        ("def (", "SyntaxError"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("raise ValueError('on purpose')", "ValueError: on purpose"),
    ],
)
def test_a_file_without_one_task_of_that_name_is_told(declare, write, source, words):
    path = write(source, en=PROMPT)
    for _ in range(2):  # a module that failed is not taken for one that was read
        with pytest.raises(UserError) as found:
            faq(declare, path)
        assert path in found.value.problem
        assert words in found.value.problem
        assert found.value.hint


def test_a_task_without_prompts_is_told_where_they_belong(declare, write, tmp_path):
    path = write()
    for make in (lambda: None, (tmp_path / "prompts").mkdir):
        make()
        with pytest.raises(UserError) as found:
            faq(declare, path)
        assert found.value.problem == f"{path}: no prompts"
        assert f"{tmp_path}/prompts/faq.en.txt" in found.value.hint


def test_a_file_that_is_not_there_or_no_python_is_told(declare, tmp_path):
    with pytest.raises(UserError, match="no task file"):
        faq(declare, str(tmp_path / "none.py"))
    (tmp_path / "faq.txt").write_text(SOURCE + "# of no other file", encoding="utf-8")
    with pytest.raises(UserError, match="is no Python file"):
        faq(declare, str(tmp_path / "faq.txt"))
