"""The human spot check: what is sampled, that decisions last, who may ask the page, and what goes into the card."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from label_rows import query, scored

from synthrec import schema
from synthrec.errors import UserError
from synthrec.reports import data_card
from synthrec.review import decisions
from synthrec.review.decisions import Decision, Ledger
from synthrec.review.sample import sample, unsure
from synthrec.review.server import Review, Server
from synthrec.review.summary import lines, summary
from synthrec.storage import Folder

ROWS = [scored(n, [2.0, 0.0]) for n in range(90)]
ROWS += [scored(100 + n, [0.0, 2.0], "zh") for n in range(3)]  # a rare label
ROWS += [scored(200 + n, [0.1, 0.0]) for n in range(4)]  # in doubt
ROWS += [query(f"red kettle {n}", number=n) | {"labels": None, "scores": None, "score": None} for n in range(50)]


def decision(number, verdict="accept", seen="positive", right="positive", reviewer="me", made="1", **more):
    same = {"id": f"s{number}", "task": "sentiment", "facet": "", "language": "en", "text": "t"} | more
    return Decision(**same, seen=seen, verdict=verdict, gold=right, reviewer=reviewer, made=made)


def test_rare_labels_and_rows_in_doubt_are_seen():
    found = sample(ROWS, 24, 13)
    kinds = Counter((row["task"], row["language"], row["task"] == "sentiment" and unsure(row)) for row in found)
    assert kinds["sentiment", "zh", False] == 3
    assert kinds["sentiment", "en", True] == 4
    assert kinds["queries", "en", False] == 12


def test_the_sample_is_stable_and_grows_at_its_end():
    some, more = sample(ROWS, 10, 13), sample(ROWS[::-1], 30, 13)
    assert more[:10] == some
    assert sample(ROWS, 10, 14) != some
    assert len(sample(ROWS, 10**6, 13)) == len(ROWS)


def test_the_last_decision_about_a_row_wins_and_one_taken_back_is_none(tmp_path):
    root = Folder.open(str(tmp_path))
    ledger = Ledger(root, "李明")
    for one in (decision(1), decision(2), decision(1, "reject", right=None, made="2"), decision(2, "undo", made="3")):
        ledger.append(one)
    ledger.close()
    assert [(one.id, one.verdict) for one in decisions.read(root)] == [("s1", "reject")]
    assert decisions.read(Folder.open(str(tmp_path / "none"))) == []


def test_decisions_about_an_encrypted_run_are_encrypted(tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "a key for the tests, and for nothing else")
    root = Folder.open(str(tmp_path), "env:A_KEY")
    for one in (decision(1), decision(2), decision(1, "reject", right=None, made="2")):
        ledger = Ledger(root, "me")
        ledger.append(one)
        ledger.close()
    assert [(one.id, one.verdict) for one in decisions.read(root)] == [("s2", "accept"), ("s1", "reject")]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert not any(b"accept" in one or b"text" in one for one in files)
    assert sum(decisions.about(root, lambda one: one.id == "s1").values()) == 2
    assert sum(decisions.forget(root, lambda one: one.id == "s1").values()) == 2
    assert [one.id for one in decisions.read(root)] == ["s2"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_reviewer_is_no_path(tmp_path, name):
    with pytest.raises(UserError, match="--reviewer"):
        Ledger(Folder.open(str(tmp_path)), name)


def test_a_kill_loses_nothing_and_a_torn_line_spoils_no_other(tmp_path, capfd):
    code = "import sys; sys.path[:0] = ['tests']\nfrom test_review import *\n"
    code += f"ledger = Ledger(Folder.open({str(tmp_path)!r}), 'me')\n"
    code += "for n in range(10**6): ledger.append(decision(n)); print(n, flush=True)"
    root = Path(__file__).parents[1]
    child = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    told = [child.stdout.readline() for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    told += child.stdout.read().splitlines()
    child.wait()
    found = {one.id for one in decisions.read(Folder.open(str(tmp_path)))}
    assert {f"s{line.strip()}" for line in told} <= found
    file = tmp_path / "review/decisions/me.jsonl"
    file.write_bytes(file.read_bytes() + b'{"id": "s')
    ledger = Ledger(Folder.open(str(tmp_path)), "me")
    ledger.append(decision("after"))
    ledger.close()
    assert {one.id for one in decisions.read(Folder.open(str(tmp_path)))} == found | {"safter"}
    assert "1 lines were cut short" in "".join(capfd.readouterr())


@pytest.fixture
def page(tmp_path):
    root = Folder.open(str(tmp_path))
    ledger = Ledger(root, "me")
    rows = [row | {"title": "Kettle"} for row in (*ROWS[:5], ROWS[-1])]
    server = Server(Review(rows, [], "me", ledger.append), 0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    with httpx.Client(base_url=server.url) as client:
        yield client, root
    server.stop()
    thread.join()
    ledger.close()


def test_the_page_is_for_who_has_the_token(page):
    client, _ = page
    found = client.get("")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert found.headers["referrer-policy"] == "no-referrer"
    assert len(client.get("state").json()["rows"]) == 6
    port = client.base_url.port
    for path in ("/", "/state", "/wrong/", "/wrong/state", f"{client.base_url.path}nothing"):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 404
    assert client.get("state", headers={"host": f"evil.example:{port}"}).status_code == 404


def test_an_answer_is_kept_and_nonsense_is_not(page):
    client, root = page
    rows = {row["id"]: row for row in client.get("state").json()["rows"]}
    scored_id, written_id = "s000", ROWS[-1]["id"]
    good = [
        {"id": scored_id, "verdict": "correct", "label": "negative"},
        {"id": "s001", "verdict": "accept"},
        {"id": written_id, "verdict": "reject"},
    ]
    for answer in good:
        assert client.post("decide", json=answer).status_code == 200
    bad = [
        [], {}, {"id": "s002"}, {"id": "nobody", "verdict": "accept"}, {"id": "s002", "verdict": "delete"},
        {"id": "s002", "verdict": "correct", "label": "<b>"},
        {"id": "s002", "verdict": "correct", "label": rows["s002"]["label"]},
        {"id": written_id, "verdict": "correct", "label": "anything"},
    ]  # fmt: skip
    for answer in bad:
        assert client.post("decide", json=answer).status_code == 400
    assert client.post("decide", content=json.dumps(good[1])).status_code == 415  # what a form may send
    assert client.post("decide", json={"id": "x" * 70000}).status_code == 413
    found = {one.id: (one.seen, one.gold, one.chosen) for one in decisions.read(root)}
    assert found == {
        scored_id: ("positive", "negative", True),
        "s001": ("positive", "positive", True),
        written_id: ("colour: red", None, False),
    }
    assert client.get("state").json()["verdicts"]["s000"] == "correct"


def test_the_summary_counts_verdicts_and_measures_agreement():
    found = [decision(n) for n in range(6)]
    found += [decision(n, "correct", right="negative") for n in (6, 7)]
    found += [decision(n, seen="negative", right="negative") for n in range(10, 18)]
    found += [decision(20, "reject", right=None)]
    found += [decision(n, reviewer="zoe", made="2") for n in range(6)]
    found += [decision(6, reviewer="zoe", made="2"), decision(7, "correct", right="negative", reviewer="zoe", made="2")]
    found += [decision(1, task="queries"), decision(2, "reject", right=None, task="queries")]
    one = summary(found)["sentiment"]
    assert (one["rows"], one["accepted"], one["corrected"], one["rejected"]) == (17, 15, 1, 1)
    # Zoe's later word on row 6 stands: 15 of 16 equal; by chance (8 x 7 + 8 x 9) / 256 = .5
    assert one["kappa"]["kappa"] == pytest.approx((15 / 16 - 0.5) / 0.5)
    assert one["kappa"]["rows"] == 16
    assert one["reviewers"][0]["rows"] == 8
    assert one["reviewers"][0]["who"] == ["me", "zoe"]
    assert (
        "sentiment: 17 rows reviewed, 15 accepted, 1 corrected, 1 rejected, kappa 0.88 [" in lines(summary(found))[-2]
    )


def test_written_texts_have_counts_and_no_kappa():
    found = summary([Decision(**{**decision(1).__dict__, "chosen": False})])
    assert found["sentiment"]["kappa"] is None
    assert lines(found)[0].endswith("kappa -")


def test_between_reviewers_a_written_text_stands_or_falls():
    """Its label is what was asked for, another in each row: two who reject at random agree by chance alone."""
    dice = random.Random(2)
    found = []
    for who in ("me", "zoe"):
        for n in range(400):
            asked = f"aspect {n % 40}"
            kept = dice.random() < 0.8
            verdict, right = ("accept", asked) if kept else ("reject", None)
            found.append(decision(n, verdict, asked, right, reviewer=who, task="queries", chosen=False))
    (pair,) = summary(found)["queries"]["reviewers"]
    assert pair["kappa"] == pytest.approx(0, abs=0.15)


def test_the_card_tells_of_it(tmp_path):
    folder = Folder.open(str(tmp_path))
    card = {"name": "x", "made": "2026-01-02T03:04:05", "synthrec": "1", "model": "m", "languages": [], "size": "n<1K"}
    card |= {"tasks": {}, "sources": {}, "lineage": {}, "near_copies": 0.0, "diversity": {}, "review": {}}
    card |= {"personal_data": {"sources": {}, "kept": {}, "kinds": []}}
    folder.write_json("card.json", card)
    assert "Human spot check" not in data_card.markdown(card)
    found = summary([decision(1), decision(2, "correct", "negative"), decision(3, seen="negative", right="negative")])
    data_card.with_review(folder, found)
    text = folder.read_bytes("card.md").decode()
    assert "## Human spot check" in text
    assert "| sentiment | 3 | 2 | 1 | 0 | 0.40 [" in text
    assert folder.read_json("card.json") == card | {"review": found}


def test_rows_of_the_label_schema_are_what_is_sampled():
    stored = schema.table(ROWS, schema.LABEL).to_pylist()
    assert [row["id"] for row in sample(stored, 20, 13)] == [row["id"] for row in sample(ROWS, 20, 13)]
