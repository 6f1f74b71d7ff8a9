"""The whole loop in an encrypted run directory: every stage works, only the bundle is plain, and a shopper can go."""

from __future__ import annotations

import json

import pytest
import yaml
from grep_run import grep
from little_shop import FAKE, PRODUCTS

from synthrec import config, custody, schema
from synthrec.cli import run_stages, stages
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
MADE = ("train", "train_classifier", "evaluate", "package")
TEXTS = ["quagmire of a kettle", "hollyhock for dogs", "where is my hollyhock", "Tarrow Red Kettle", "橡奔 狗狗雨衣"]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The config of a shop of six products, whose run directory is encrypted."""
    folder = tmp_path_factory.mktemp("sealed")
    keys, days = ("product_id", "language", "title", "description"), range(1, 7)
    rows = {
        "products": [dict(zip(keys, one, strict=True)) for one in PRODUCTS],
        "reviews": [{"review_id": "r1", "product_id": "k1", "text": f"A {TEXTS[0]}.", "user_id": "u1"},
                    {"review_id": "r2", "product_id": "k2", "text": f"A {TEXTS[1]}.", "user_id": "u2"}],
        "searches": [{"search_id": "s1", "query": TEXTS[2], "user_id": "u2"}],
        "interactions": [
            {"user_id": f"u{user}", "product_id": f"k{(user + day) % 6 + 1}", "event": "purchase",
             "timestamp": f"2026-01-0{day}T10:0{user}:00Z"}
            for user in range(1, 9) for day in days],
    }  # fmt: skip
    for kind, some in rows.items():
        write(folder / f"{kind}.jsonl", some)
    (folder / "key").write_text("ab" * 32)
    (folder / "another").write_text("cd" * 32)
    settings = {
        "name": "sealed",
        "run_dir": str(folder / "run"),
        "storage": {"encrypt": True, "key": f"file:{folder / 'key'}"},
        "sources": {kind: {"path": str(folder / f"{kind}.jsonl")} for kind in rows},
        "synthesize": {
            "engine": FAKE | {"options": {"echo": 40}},
            "tasks": {"queries": {"per_product": 2}, "sentiment": {}},
            "max_failure_rate": 1.0,
        },
        "curate": {"steps": ["usable"]},
        "train": {"epochs": 1, "batch_size": 4, "workers": 1},
        "recommend": {"models": []},
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(settings))
    return folder / "shop.yaml"


@pytest.fixture(scope="module")
def run(shop):
    return run_stages(config.load(shop))


def test_every_stage_works_and_only_the_bundle_is_plain(run):
    assert all(run.manifest(stage) for stage in run.stages)
    bundle = f"package/{run.fingerprint('package')}/"
    found = grep(run.root.local, TEXTS)
    assert found.keys() == {"Tarrow Red Kettle", "橡奔 狗狗雨衣"}  # the catalogue's, and no shopper's
    assert all(file.startswith(bundle) for files in found.values() for file in files)
    corpus = (run.folder("prepare") / "corpus").read_table(schema.CORPUS)["text"].to_pylist()
    assert all(any(text in one for one in corpus) for text in TEXTS[:3])  # so there was something to hide


@pytest.mark.parametrize("stage", ["train", "evaluate", "package"])
def test_another_key_is_told(run, shop, stage):
    with pytest.raises(UserError, match="another key than that of file:"):
        run_stages(config.load(shop, [f"storage.key=file:{shop.with_name('another')}"]), [stage])


def test_forgetting_lists_all_that_was_made_of_the_shopper(run, shop):
    who = custody.pseudonym("u2")
    reached = custody.reached(run.root, custody.Shopper(who))
    made = [f"{stage}/{run.fingerprint(stage)}" for stage in MADE]
    assert [one for one in reached if not one.startswith(custody.HOLDS_ROWS)] == sorted(made)
    _, stale = custody.forget(run.root, who)
    assert sorted(stale) == sorted(made)
    settings = config.load(shop)
    again = Pipeline(settings, stages(settings))
    assert not any(again.manifest(stage) for stage in again.stages)
