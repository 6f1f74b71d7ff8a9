"""The data card: what is asked, kept and refused of each task, in JSON and for people."""

from __future__ import annotations

import json

import pytest
from label_rows import query, scored
from task_rows import task

from synthrec import schema
from synthrec.config import Config
from synthrec.pipeline import Context
from synthrec.reports import data_card
from synthrec.stages import curate
from synthrec.storage import Folder

TASKS_ON = {"queries": {}, "sentiment": {"aspects": True}, "profile": {}, "session": {}}
OWN = {"problem": {"reads": "review", "labels": ["late", "broken"]}}


def label(number, name, facet, chosen, among=None, language="en"):
    row = query("text", number=number, language=language, label=chosen)
    return row | {
        "id": f"{name}{number}",
        "task": name,
        "facet": facet,
        "labels": among,
        "scores": among and [0.5, 0.5],
    }


def written(number, text, language="en"):
    return query(text, number=number, language=language) | {"scores": None}


BEFORE = [
    written(1, "red kettle"),
    written(2, "write to jane.doe@mail.example"),
    written(3, "红色水壶", "zh"),
    written(4, "pan"),
    scored(1, [1.0, 0.0]),
    scored(2, [0.0, 1.0], "zh"),
    label(1, "sentiment", "aspect", "price", ["price", "fit"]),
    label(1, "profile", "preferences", "preferences"),
    label(2, "profile", "sentence", "sentence", language="zh"),
    *[label(n, "session", "", f"product {n}", [f"product {n}", "k2"]) for n in range(40)],
    label(1, "problem", "", "late", ["late", "broken"]),
]
FIGURES = {
    task: {"in": sum(row["task"] == task for row in BEFORE), "refused": {}, "personal": {}}
    for task in {row["task"] for row in BEFORE}
}
for one in FIGURES.values():
    one["kept"] = one["in"]
FIGURES["queries"] |= {"kept": 3, "refused": {"copy of the title": 1}, "personal": {"email": 1}}


@pytest.fixture
def card(tmp_path):
    folder = Folder.open(str(tmp_path))
    values = {"name": "shop", "run_dir": str(tmp_path), "sources": {"products": {"path": "x"}}}
    config = Config.model_validate(values | {"synthesize": {"tasks": TASKS_ON, "own_tasks": OWN}})
    asked = {name: {"requests": 50, "rejects": 3 if name == "profile" else 0} for name in [*TASKS_ON, *OWN]}
    prepared = {"sources": {"products": {"rows": 7}, "reviews": {"rows": 1234}}, "personal_data": {"email": 2}}
    figures = {"prepare": prepared, "synthesize": asked}
    manifests = {name: {"fingerprint": f"print-of-{name}", "figures": one} for name, one in figures.items()}
    context = Context(config, curate.STAGE, folder, folder / "out", {"prepare": folder / "prepare"}, manifests)
    kept = [row for row in BEFORE if row["id"] != "q004"]
    (folder / "out" / "labels").write_table("0.parquet", schema.table(kept, schema.LABEL))
    made = data_card.write(context, FIGURES, "2026-01-02T03:04:05+00:00")
    assert json.loads((folder / "out").read_bytes("card.json")) == made
    return made, (folder / "out").read_bytes("card.md").decode()


def test_each_task_of_the_config_is_accounted_for(card):
    made, _ = card
    assert set(made["tasks"]) == {*TASKS_ON, *OWN}
    found = {name: (one["asked"], one["labelled"], one["kept"]) for name, one in made["tasks"].items()}
    assert found["queries"] == (50, 4, 3)
    assert found["profile"] == (50, 2, 2)
    assert found["problem"] == (50, 1, 1)
    assert made["tasks"]["queries"]["refused"] == {"copy of the title": 1}
    assert made["tasks"]["profile"]["refused"] == {"no label": 3}
    assert made["tasks"]["sentiment"]["languages"] == {"en": 2, "zh": 1}
    assert made["near_copies"] == pytest.approx(1 / 4)
    assert made["personal_data"]["kept"] == {"email": 1}


def test_labels_are_counted_where_they_are_few(card):
    made, text = card
    assert made["tasks"]["sentiment"]["labels"] == {"positive": 1, "negative": 1, "price": 1}
    assert made["tasks"]["problem"]["labels"] == {"late": 1}
    assert made["tasks"]["session"]["labels"] == {}  # forty product ids say nothing here
    assert made["tasks"]["profile"]["labels"] == {}  # written, not chosen
    assert "product 7" not in text


def test_each_question_is_told_with_its_prompt_and_how_it_was_answered(card):
    made, text = card
    questions = {(q["facet"], q["language"]): q for q in made["tasks"]["sentiment"]["questions"]}
    assert set(questions) == {("", "en"), ("", "zh"), ("aspect", "en"), ("aspect", "zh")}
    assert questions["aspect", "en"]["sampling"] == "label probabilities"
    assert questions["aspect", "en"]["prompt"] == task("sentiment").made_of("en", "aspect")
    sampled = {q["sampling"] for q in made["tasks"]["profile"]["questions"]}
    assert sampled == {"temperature 0.7, top-p 0.9, at most 64 tokens"}
    for name, one in made["tasks"].items():
        for q in one["questions"]:
            expected = f"| {name} | {one['version']} | {q['facet'] or '-'} | {q['language']} | {q['sampling']} |"
            assert f"{expected} `{q['prompt']}` |" in text


def test_the_card_is_a_hugging_face_card_and_names_where_it_comes_from(card):
    _, text = card
    head = text.split("---")[1]
    assert "- en\n- zh\n" in head
    assert "- n<1K" in head
    assert "7 products, 1,234 reviews rows" in text
    assert "Made from prepare `print-of-prepare`." in text
    assert "25.0% of the queries" in text
    assert "no real searches to hold them against" in text
    assert "{{" not in text
