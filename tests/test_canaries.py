"""A hundred made-up personal items are planted in a shop's files; none may stand in any file of the run directory."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from grep_run import grep

from synthrec import schema
from synthrec.cli import run_stages
from synthrec.config import Config
from synthrec.pipeline import Pipeline
from synthrec.privacy.written import blanked, personal
from synthrec.stages import prepare
from synthrec.storage import Folder
from synthrec.synthesis import worker
from synthrec.synthesis.metrics import Metrics
from synthrec.tasks import chosen_tasks

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # of a resident id, GB 11643-1999


def resident_id(number):
    body = f"110105{1950 + number}0307{number:03d}"
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, WEIGHTS, strict=True)) % 11]


def bank_card(number):
    body = f"62220212345{number:07d}"
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


MAKE = {
    "phone": lambda n: f"1381234{5600 + n}",
    "email": lambda n: f"canary{n:03d}@mail-of-nobody.com",
    "resident_id": resident_id,
    "bank_card": bank_card,
}
CANARIES = [MAKE[kind](25 * i + n) for i, kind in enumerate(MAKE) for n in range(25)]
# For the LLM to have something to copy, the item stands last in what it is shown.
SAYS = ["Lovely kettle, ask me at {}", "水壶很好用，联系我 {}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, ray_session):
    folder = tmp_path_factory.mktemp("canaries")
    rows = {kind: [] for kind in ("products", "reviews", "searches", "dialogues")}
    for n, item in enumerate(CANARIES):
        text = SAYS[n % 2].format(item)
        match n % 4:
            case 0:
                named = {
                    "product_id": f"p{n}",
                    "title": f"Kettle {n}",
                    "description": text,
                    "attributes": {"seller": text},
                }
                rows["products"].append(named)
            case 1:
                rows["reviews"].append(
                    {"review_id": f"r{n}", "product_id": "p0", "text": text, "user_id": f"shopper {n}"}
                )
                rows["reviews"].append({"review_id": f"bad{n}", "text": text, "user_id": item})  # refused: no product
            case 2:
                rows["searches"].append({"search_id": f"s{n}", "query": text, "user_id": item})
            case _:
                turns = [{"role": "shopper", "text": text}, {"role": "agent", "text": f"I will write to {item}"}]
                rows["dialogues"].append({"dialogue_id": f"d{n}", "turns": turns, "user_id": item})
    for kind, some in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (folder / f"{kind}.jsonl").write_text(text, encoding="utf-8")
    echo = {"kind": "fake", "model": "none", "options": {"echo": 400}, "resources": {"batch_size": 40}}
    tasks = {"queries": {}, "sentiment": {}, "intent": {}, "profile": {}, "reply": {}}
    settings = {
        "name": "canaries",
        "run_dir": str(folder / "run"),
        "sources": {kind: {"path": str(folder / f"{kind}.jsonl")} for kind in rows},
        "prepare": {"max_reject_rate": 0.9},
        "synthesize": {"engine": echo, "tasks": tasks, "max_failure_rate": 1.0},
    }
    return run_stages(Config.model_validate(settings), ["prepare", "synthesize"])


def test_no_canary_comes_out(run):
    assert len(set(CANARIES)) == 100
    assert all(personal(one) for one in CANARIES)
    assert grep(run.root.local, ["Kettle 0"])
    assert grep(run.root.local, [*CANARIES, "mail-of-nobody"]) == {}


def test_answers_that_copied_a_pseudonym_are_refused(run):
    rejects = (run.folder("synthesize") / "rejects").read_table(schema.REJECT).to_pylist()
    reasons = Counter(row["reason"] for row in rejects)
    assert reasons["personal data"] > 50
    labels = (run.folder("synthesize") / "labels").read_table(schema.LABEL).to_pylist()
    assert [row for row in labels if row["labels"] is None and personal(row["text"])] == []


def test_what_the_llm_makes_up_never_reaches_the_disk(run, tmp_path):
    """An answer with a number that stood in no prompt."""
    done = run.root / "synthesize" / "completions" / "queries" / "done"
    rows = done.read_table(schema.COMPLETION).to_pylist()[:3]
    rows = [row | {"text": f"kettle of {CANARIES[i]}"} for i, row in enumerate(rows)]
    tasks = {task.name: task for task in chosen_tasks(run.config)}
    store = Folder.open(str(tmp_path / "completions"))
    (account,) = worker.keep(rows, tasks, store, Metrics("none"))
    assert account["refused"] == 3 and "personal data" in account["why"]
    kept = (store / "queries" / "done").read_table(schema.COMPLETION)["text"].to_pylist()
    assert kept == ["kettle of <PHONE>"] * 3
    assert not any(one in account["why"] for one in CANARIES)


def test_blanked_text_is_left_alone():
    text = f"call {CANARIES[0]} or <PHONE_0a1b2c3d>, says u_0123456789abcdef"
    once = blanked(text)
    assert once == "call <PHONE> or <PHONE_0a1b2c3d>, says u_0123456789abcdef" == blanked(once)
    assert personal(once) == ["phone", "user"] and personal("a kettle for two") == []


def test_product_texts_are_the_shops_own_where_it_says_so(run):
    settings = run.config.model_dump()
    settings["privacy"] |= {"products": False}
    settings["run_dir"] += "-own"
    pipeline = Pipeline(Config.model_validate(settings), (prepare.STAGE,))
    pipeline.run("prepare")
    rows = (pipeline.folder("prepare") / "catalogue").read_table(schema.CATALOGUE).to_pylist()
    assert any(CANARIES[0] in row["description"] for row in rows)
