"""`synthrec review` as a person runs it: over a published curation, until interrupted, and then in the data card."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from label_rows import scored

from synthrec import config, schema
from synthrec.cli import stages
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline
from synthrec.stages import review

CARD = {"name": "x", "made": "2026-01-02T03:04:05", "synthrec": "1", "model": "m", "languages": [], "size": "n<1K"}
CARD |= {"tasks": {}, "sources": {}, "lineage": {}, "near_copies": 0.0, "diversity": {}, "review": {}}
CARD |= {"personal_data": {"sources": {}, "kept": {}, "kinds": []}}


@pytest.fixture
def published(tmp_path):
    values = {
        "name": "x",
        "run_dir": str(tmp_path / "run"),
        "sources": {"products": {"path": str(tmp_path / "x.jsonl")}},
    }
    (tmp_path / "x.jsonl").write_text("{}", encoding="utf-8")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    settings = config.load(tmp_path / "x.yaml")
    pipeline = Pipeline(settings, stages(settings))
    labels = schema.table([scored(n, [2.0, 0.0]) for n in range(5)], schema.LABEL)
    product = {"product_id": "k1", "language": "en", "title": "Red Kettle", "text": "x"}
    (pipeline.folder("curate") / "labels").write_table("labels.parquet", labels)
    (pipeline.folder("prepare") / "catalogue").write_table("c.parquet", schema.table([product], schema.CATALOGUE))
    pipeline.folder("curate").write_json("card.json", CARD)
    manifest = {"fingerprint": pipeline.fingerprint("curate"), "made": "2026", "files": []}
    (pipeline.root / "curate").write_json("manifest.json", manifest)
    return pipeline, tmp_path / "x.yaml"


def test_a_session_ends_in_the_card_and_the_next_one_goes_on(published):
    pipeline, file = published
    command = [sys.executable, "-m", "synthrec.cli", "review", "-c", str(file), "--rows", "3"]
    for answered in range(2):
        child = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        url = next(line.strip() for line in child.stdout if line.startswith("http://127.0.0.1:"))
        state = httpx.get(f"{url}state").json()
        assert len(state["rows"]) == 3
        assert state["rows"][0]["title"] == "Red Kettle"
        assert len(state["verdicts"]) == answered
        row = state["rows"][answered]["id"]
        assert httpx.post(f"{url}decide", json={"id": row, "verdict": "accept"}).status_code == 200
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    assert "| sentiment | 2 | 2 | 0 | 0 | - |" in pipeline.folder("curate").read_bytes("card.md").decode()
    files = {one["name"]: one["sha256"] for one in pipeline.manifest("curate")["files"]}
    assert files["card.md"] == pipeline.folder("curate").sha256("card.md")


def test_mistakes_are_told(published):
    pipeline, _ = published
    with pytest.raises(UserError, match="no curated label is of the task intent"):
        review.sampled(pipeline, "intent", 5)
    (pipeline.root / "curate").delete()
    with pytest.raises(UserError, match="review needs curate"):
        review.sampled(pipeline, None, 5)
