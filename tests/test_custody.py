"""A shopper in a run directory: found everywhere, taken out for good, even when the taking out is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from conftest import TEST_KEY
from little_shop import FAKE, PRODUCTS

from synthrec import config, custody, schema, stores
from synthrec.cli import run_stages
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline
from synthrec.review import decisions
from synthrec.stages import prepare, synthesize
from synthrec.storage import Folder
from synthrec.stores import Event

pytestmark = pytest.mark.usefixtures("ray_session")
ANN, BOB = "ann-4711", "bob-0815"
WORDS = {ANN: "quagmire", BOB: "hollyhock"}  # a word that only this shopper writes


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def shop(tmp_path):
    """Two shoppers, who search, review, buy and talk; returns the path of the config."""
    keys = ("product_id", "language", "title", "description")
    write(tmp_path / "products.jsonl", [dict(zip(keys, one, strict=True)) for one in PRODUCTS])
    rows = {kind: [] for kind in ("reviews", "searches", "interactions", "dialogues")}
    for user, word in WORDS.items():
        when = "2026-01-0{}T10:00:00Z".format
        rows["reviews"] += [
            {"review_id": f"r-{user}-{i}", "product_id": "k1", "text": f"A {word} of a kettle, {i}.", "user_id": user}
            for i in (1, 2)
        ]
        rows["reviews"].append({"review_id": f"bad-{user}", "text": f"no product for {word}", "user_id": user})
        rows["searches"].append({"search_id": f"s-{user}", "query": f"{word} kettle", "user_id": user})
        rows["interactions"] += [
            {"user_id": user, "product_id": "k2", "event": "purchase", "timestamp": when(day)} for day in (1, 2)
        ]
        turns = [
            {"role": "shopper", "text": f"Where is my {word}?"},
            {"role": "agent", "text": f"{word} is on its way"},
        ]
        rows["dialogues"].append({"dialogue_id": f"d-{user}", "turns": turns * 2, "user_id": user})
    for kind, some in rows.items():
        write(tmp_path / f"{kind}.jsonl", some)
    settings = {
        "name": "custody",
        "run_dir": str(tmp_path / "run"),
        "sources": {kind: {"path": str(tmp_path / f"{kind}.jsonl")} for kind in ("products", *rows)},
        "prepare": {"max_reject_rate": 0.9},
        "synthesize": {
            "engine": FAKE,
            "tasks": {"sentiment": {}, "profile": {}, "reply": {}, "intent": {}},
            "max_failure_rate": 1.0,
        },
    }
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "shop.yaml"


def run(shop, *overrides):
    return run_stages(config.load(shop, list(overrides)), ["prepare", "synthesize"])


def holding(root, word):
    """Files of the run directory with a text that holds the word."""
    found = []
    for name in root.files():
        data = (root.plain if name.startswith("logs/") else root).read_bytes(name)
        if name.endswith(".parquet"):
            data = json.dumps(root_table(root, name), ensure_ascii=False, default=str).encode()
        if word.encode() in data:
            found.append(name)
    return found


def root_table(root, name):
    import pyarrow.parquet as pq

    with root.fs.open_input_file(f"{root.path}/{name}") as file:
        return pq.read_table(file).to_pylist()


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_shopper_is_forgotten_and_the_others_are_not(shop, encrypt, monkeypatch):
    monkeypatch.setenv("SYNTHREC_STORAGE_KEY", "ab" * 32)
    with_key = f"storage.encrypt={str(encrypt).lower()}"
    if encrypt:
        # The session's Ray workers have started without this variable: give the key by file.
        key = shop.with_name("storage.key")
        key.write_text("ab" * 32)
        overrides = [with_key, f"storage.key=file:{key}"]
    else:
        overrides = [with_key]
    root = run(shop, *overrides).root
    ann = custody.pseudonym(ANN)
    reached = custody.reached(root, custody.Shopper(ann))
    kinds = {folder.split("/")[0] + "/" + folder.split("/", 2)[2].split("/")[0] for folder in reached}
    assert {"prepare/corpus", "prepare/interactions", "prepare/rejects", "synthesize/requests"} <= kinds
    assert [name for name in holding(root, WORDS[ANN]) if "/completions/" in name or "sentiment/done" in name]
    before = {word: holding(root, WORDS[word]) for word in WORDS}
    assert before[ANN] and before[BOB]

    for report in ("report.html", "report.json"):  # they quote rows
        root.write_bytes(report, f"{WORDS[ANN]} and {WORDS[BOB]}".encode())
    removed, _ = custody.forget(root, ann)
    assert sum(removed.values()) == sum(reached.values())
    assert holding(root, WORDS[ANN]) == []
    assert holding(root, ann) == [n for n in root.files() if n.startswith("audit/") and n in holding(root, ann)]
    assert holding(root, WORDS[BOB])
    assert custody.reached(root, custody.Shopper(ann)) == {}

    again = Pipeline(config.load(shop, overrides), (prepare.STAGE, synthesize.STAGE))
    assert again.manifest("prepare") is None and again.manifest("synthesize") is None
    root = run(shop, *overrides).root  # the shop's files still hold the shopper
    assert holding(root, WORDS[ANN]) == []
    corpus = (again.root / "prepare" / prepare_fingerprint(root) / "corpus").read_table(schema.CORPUS)
    users = set(corpus["user_id"].to_pylist()) - {None}
    assert users == {custody.pseudonym(BOB)}


def test_curated_labels_of_a_shopper_go_and_what_was_made_of_them_is_listed(shop):
    settings = config.load(shop, ["curate.steps=[usable]"])
    pipeline = run_stages(settings, ["prepare", "synthesize", "curate"])
    root, ann, folder = pipeline.root, custody.pseudonym(ANN), pipeline.folder("curate") / "labels"
    before = folder.read_table(schema.LABEL).to_pylist()
    theirs = {word: [row for row in before if word in json.dumps(row, default=str)] for word in WORDS.values()}
    assert theirs[WORDS[ANN]] and theirs[WORDS[BOB]]
    # A model and a bundle, as their stages publish them: of these labels, and of none of them.
    for stage, made, source in (
        ("train", "a1", pipeline.fingerprint("curate")),
        ("train_graph", "b1", pipeline.fingerprint("curate")),
        ("evaluate", "c1", "a1"),
        ("package", "d1", "c1"),
        ("evaluate_next", "e1", "elsewhere"),
    ):
        (root / stage / made).write_bytes("weights", b"w")
        (root / stage).write_json("manifest.json", {"fingerprint": made, "inputs": {"before": source}})
    (root / "train_graph" / "work" / "b1").write_bytes("checkpoint", b"w")
    ledger = decisions.Ledger(root, "eve")
    for row in (theirs[WORDS[ANN]][0], theirs[WORDS[BOB]][0]):
        shown = {key: row[key] for key in ("id", "task", "facet", "language", "text")}
        ledger.append(
            decisions.Decision(
                **shown, seen=row["label"], verdict="accept", gold=row["label"], reviewer="eve", made="t"
            )
        )
    with pytest.raises(UserError, match="review"):
        custody.forget(root, ann)
    ledger.close()
    reached = custody.reached(root, custody.Shopper(ann))
    assert reached["review/decisions/eve.jsonl"] == 1
    assert any(one.startswith(f"curate/{pipeline.fingerprint('curate')}/labels") for one in reached)
    made = {one for one, rows in reached.items() if rows == 0}
    assert made == {"train/a1", "train_graph/b1", "evaluate/c1", "package/d1"}

    removed, stale = custody.forget(root, ann)
    assert [one.id for one in decisions.read(root)] == [theirs[WORDS[BOB]][0]["id"]]
    after = folder.read_table(schema.LABEL).to_pylist()
    assert {row["id"] for row in after} < {row["id"] for row in before}
    assert any(row in after for row in theirs[WORDS[BOB]])
    assert not any(WORDS[ANN] in json.dumps(row, default=str) for row in after)
    assert sum(rows for one, rows in removed.items() if one.startswith("curate/")) >= len(before) - len(after) > 0
    assert stale == ["train/a1", "train_graph/b1", "evaluate/c1", "evaluate_next/e1", "package/d1"]
    assert not (root / "train_graph" / "work").files()
    assert custody.told(root, None)["entries"][-1]["rebuild"] == stale


def test_what_a_stopped_curation_had_noted_goes_and_stops_nobody(shop):
    root, ann = run(shop).root, custody.pseudonym(ANN)
    near = root / "curate" / "work" / "f" / "near" / "bands"
    near.write_table("x.parquet", pa.table({"key": pa.array([1, 2], pa.uint64()), "row": pa.array([0, 1])}))
    assert custody.reached(root, custody.Shopper(ann))
    custody.forget(root, ann)
    assert not (root / "curate" / "work").files()


def test_a_word_that_many_labels_are_is_nobodys(tmp_path):
    """Somebody who once wrote it in a dialogue does not take others' labels along; replies that begin with it go."""
    root, who = Folder.open(str(tmp_path)), "u_0123456789abcdef"
    said = "shopper: positive or negative ions?\nagent: positive or so I think, ask the maker"
    document = {"doc_id": "dialogue:1", "kind": "dialogue", "language": "en", "text": said, "user_id": who}
    (root / "prepare" / "f" / "corpus").write_table("a.parquet", schema.table([document], schema.CORPUS))
    asked = {"language": "en", "facet": "", "text": "text", "label": "positive", "model": "m", "prompt": "p"}
    rows = [
        asked | {"id": f"L{n}", "request_id": f"R{n}", "task": task, "labels": labels, "sources": [f"review:{n}"]}
        for n, (task, labels) in enumerate(
            [
                ("sentiment", ["positive", "negative"]),
                ("session", ["positive or", "negative"]),
                ("reply", ["........", "negative"]),
                ("reply", ["positive or so I think…", "negative"]),
            ]
        )
    ]
    (root / "curate" / "f" / "labels").write_table("s.parquet", schema.table(rows, schema.LABEL))
    custody.forget(root, who)
    assert [row["id"] for row in (root / "curate" / "f" / "labels").read_table(schema.LABEL).to_pylist()] == [
        "L0",
        "L1",
        "L2",
    ]


def test_a_decision_is_forgotten_when_its_label_has_gone(shop):
    """The row that would lead to it may be deleted by hand; the decision names the records that it was made of."""
    root, ann = run(shop).root, custody.pseudonym(ANN)
    ledger = decisions.Ledger(root, "eve")
    for user in WORDS:
        what = {"id": f"gone-{user}", "task": "sentiment", "facet": "", "language": "en", "text": WORDS[user]}
        seen = {"seen": "positive", "verdict": "accept", "gold": "positive", "reviewer": "eve", "made": "t"}
        ledger.append(decisions.Decision(**what, **seen, sources=[f"review:r-{user}-1"]))
    ledger.close()
    (root / "review" / "decisions").local.joinpath(".eve.jsonl.0a1b2c3d").write_text(WORDS[ANN])
    assert custody.reached(root, custody.Shopper(ann))["review/decisions/eve.jsonl"] == 1
    custody.forget(root, ann)
    assert [one.text for one in decisions.read(root)] == [WORDS[BOB]]
    assert not [path for path in Path(root.path, "review").rglob(".*") if WORDS[ANN] in path.read_text()]


def test_gold_texts_stay_out_of_the_manifest(shop):
    gold = shop.with_name("gold.jsonl")
    write(gold, [{"task": "sentiment", "text": f"A {WORDS[ANN]} of a kettle, 1.", "label": "positive"}])
    steps = ["curate.steps=[usable, calibrate]", f"curate.gold={gold}"]
    pipeline = run_stages(config.load(shop, steps), ["prepare", "synthesize", "curate"])
    assert WORDS[ANN] not in json.dumps((pipeline.root / "curate").read_json("manifest.json"))


def prepare_fingerprint(root):
    return root.read_json("prepare/manifest.json")["fingerprint"]


KILLED = """
import os, signal, sys
from synthrec import custody
from synthrec.storage import Folder
after, written = int(sys.argv[3]), 0
write = Folder.write_table
def dies(self, name, table):
    global written
    if written == after:
        with self.writing(name) as stream:
            stream.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    written += 1
    write(self, name, table)
Folder.write_table = dies
custody.forget(Folder.open(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("after", [1, 7])
def test_forgetting_that_is_killed_goes_on(shop, after):
    root, ann = run(shop).root, custody.pseudonym(ANN)
    command = [sys.executable, "-c", KILLED, root.path, ann, str(after)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[1], env=os.environ | {"SYNTHREC_PRIVACY_KEY": TEST_KEY})
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="was not finished"):
        run(shop)
    custody.forget(root, ann)
    assert holding(root, WORDS[ANN]) == []
    hidden = [p for p in Path(root.path).rglob(".*") if p.is_file() and p.name != ".lock"]
    assert hidden == []
    run(shop)
    assert holding(root, WORDS[ANN]) == []


def test_the_audit_says_who_made_what(shop):
    pipeline = run(shop)
    told = custody.told(pipeline.root, BOB)
    made = [one for one in told["entries"] if one["what"] == "run"]
    assert [one["stage"] for one in made] == ["prepare", "synthesize"]
    assert made[1]["inputs"] == {"prepare": made[0]["fingerprint"]}
    assert all(one["who"] and one["when"] for one in made)
    assert any("synthesize" in folder for folder in told["user"]["reached"])
    assert BOB not in json.dumps(told)
    assert custody.told(pipeline.root, None)["entries"][-1]["user"] == custody.pseudonym(BOB)


def test_the_endpoints_store_forgets_by_pseudonym(tmp_path):
    """It holds the shop's own ids, as the API was given them; the pseudonym alone is what a resumed run has."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    ann, now = custody.pseudonym(ANN), datetime.now(UTC)
    assert custody.forget_live(url, ann) == 0
    assert not (tmp_path / "store.sqlite").exists()
    store = stores.open(url)
    users = [ANN, f" {ANN} ", BOB]
    store.add_events([Event(str(n), user, "k1", "view", now) for n, user in enumerate(users)])
    store.add_feedback([{"user_id": ANN, "text": "no"}, {"user_id": BOB}])
    assert custody.forget_live(url, ann) == 3
    assert store.users() == [BOB]
    assert len(store.history(BOB, 9)) == len(store.feedback(0, 9)) == 1
    store.close()
