"""The whole loop over a small shop, on real parts: what each stage hands over, and that a second run does nothing."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from grep_run import grep

from synthrec import bundle, recommenders, schema
from synthrec.cli import run_stages
from synthrec.config import load
from synthrec.errors import UserError
from synthrec.recommenders import ready
from synthrec.recommenders.base import Cases
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.reports import run_report

STAGES = (
    "prepare",
    "synthesize",
    "curate",
    "train",
    "train_sequential",
    "train_graph",
    "evaluate",
    "evaluate_next",
    "package",
)


def labels(pipeline, stage, task=None):
    rows = (pipeline.folder(stage) / "labels").read_table(schema.LABEL).to_pylist()
    return [row for row in rows if task in (None, row["task"])]


def test_every_stage_is_published_with_a_manifest_that_tells_the_truth(small_run):
    for stage in STAGES:
        manifest = small_run.manifest(stage)
        assert manifest is not None
        folder = small_run.folder(stage)
        assert manifest["files"] == folder.describe()
        assert manifest["inputs"] == {one: small_run.fingerprint(one) for one in small_run.stages[stage].needs}


def test_no_planted_item_stands_in_any_file_of_the_run(small_run, store):
    key = (store / "pii_key.jsonl").read_text(encoding="utf-8").splitlines()
    planted = [json.loads(line)["value"] for line in key]
    assert len(planted) > 300
    stand_ins = {"<ADDRESS_", "<PHONE_", "<ORDER_NO_"}
    assert grep(small_run.root.local, stand_ins).keys() == stand_ins
    assert grep(small_run.root.local, planted) == {}


def test_hand_overs_have_the_declared_schemas(small_run):
    declared = {
        "prepare/catalogue": schema.CATALOGUE,
        "prepare/corpus": schema.CORPUS,
        "prepare/interactions": schema.INTERACTIONS,
        "synthesize/requests/queries": schema.REQUEST,
        "synthesize/labels": schema.LABEL,
        "curate/labels": schema.LABEL,
        "curate/rejects": schema.REJECT,
    }
    for where, kind in declared.items():
        stage, _, name = where.partition("/")
        folder = small_run.folder(stage) / name
        assert folder.files(".parquet"), where
        for file in folder.files(".parquet"):
            assert pq.read_schema(f"{folder.path}/{file}").equals(kind), f"{where}/{file}"


def test_each_request_ends_as_a_label_or_a_reject(small_run):
    asked = []
    for task in ("queries", "relevance", "sentiment"):
        asked += (small_run.folder("synthesize") / "requests" / task).read_table(schema.REQUEST)["id"].to_pylist()
    rejects = (small_run.folder("synthesize") / "rejects").read_table(schema.REJECT)["where"].to_pylist()
    ended = [row["request_id"] for row in labels(small_run, "synthesize")] + rejects
    assert len(asked) == len(set(asked)) > 60
    assert sorted(ended) == sorted(asked)


def test_curation_keeps_or_refuses_each_query_once(small_run):
    before = {row["id"] for row in labels(small_run, "synthesize", "queries")}
    kept = {row["id"] for row in labels(small_run, "curate", "queries")}
    refused = (small_run.folder("curate") / "rejects").read_table(schema.REJECT)["where"].to_pylist()
    assert kept | set(refused) == before
    assert not kept & set(refused)
    assert len(refused) == len(set(refused))
    assert len(kept) > 10


def test_both_languages_are_in_every_task(small_run):
    for task in ("queries", "relevance", "sentiment"):
        assert {row["language"] for row in labels(small_run, "curate", task)} == {"en", "zh"}, task


def test_training_lowers_the_loss_and_changes_the_encoder(small_run):
    figures = small_run.manifest("train")["figures"]
    assert figures["workers"] == 2
    assert len(figures["loss"]) == 2
    assert figures["loss"][1] < figures["loss"][0]
    assert figures["added_characters"] > 100


def test_evaluation_ranks_the_whole_catalogue_for_every_test_query(small_run):
    test = small_run.manifest("evaluate")["figures"]["test"]
    assert set(test["systems"]) == {
        "BM25",
        "zero-shot encoder",
        "fine-tuned encoder",
        "BM25 + zero-shot",
        "BM25 + fine-tuned",
    }
    rows = pq.read_table(f"{small_run.folder('evaluate').path}/per_query.parquet").to_pylist()
    assert len(rows) == 5 * test["queries"]
    for system, found in test["systems"].items():
        values = [row["ndcg@10"] for row in rows if row["system"] == system]
        assert found["ndcg@10"]["mean"] == pytest.approx(sum(values) / len(values))
        assert found["ndcg@10"]["low"] <= found["ndcg@10"]["mean"] <= found["ndcg@10"]["high"]
        # 26 products: Recall@100 would be 1 for whoever ranks them all.
        assert found["recall@100"]["mean"] == pytest.approx(1.0) or system == "BM25"


def test_recommenders_of_the_next_product_are_judged_beside_strong_baselines(small_run):
    figures = small_run.manifest("evaluate_next")["figures"]
    baselines = {"popularity", "ItemKNN", "EASE", "text likeness", "ItemKNN + text"}
    assert set(figures["systems"]) == baselines | {"sequential", "graph"}
    rows = pq.read_table(f"{small_run.folder('evaluate_next').path}/per_case.parquet").to_pylist()
    assert len(rows) == 7 * figures["cases"] > 7 * 30
    assert sum(row["cold"] for row in rows) == 7 * figures["cold_cases"]
    for system, found in figures["systems"].items():
        values = [row["ndcg@10"] for row in rows if row["system"] == system]
        assert found["ndcg@10"]["mean"] == pytest.approx(sum(values) / len(values))
        assert 0 < found["coverage"] <= 1
    assert [one["system"] for one in figures["comparisons"]] == ["sequential", "graph"]
    assert {one["baseline"] for one in figures["comparisons"]} < baselines


def test_each_recommender_stops_at_its_best_epoch_and_loads_without_its_stage(small_run):
    cases = Cases(np.array([0, -1]), [np.array([3]), np.array([4, 5])], [np.array([7]), np.array([8])])
    for name, epochs in (("sequential", 4), ("graph", 2)):
        figures = small_run.manifest(f"train_{name}")["figures"]
        values = figures["validation_ndcg@10"]
        assert len(values) == epochs
        assert figures["best_epoch"] == values.index(max(values))
        scores = recommenders.scorer(name, small_run.folder(f"train_{name}").local / "model").scores(cases)
        assert scores.shape == (2, 26)
        assert not np.isnan(scores).any()


def test_the_bundle_is_whole_and_says_what_it_came_from(small_run):
    opened = bundle.load(small_run.folder("package").local)
    assert opened.manifest["lineage"] == {one: small_run.fingerprint(one) for one in STAGES[:-1]}
    best = small_run.manifest("evaluate_next")["figures"]["winner"]
    assert opened.manifest["recommender"]["system"] == best
    assert (opened.path / "recommender").is_dir() == (best != "text likeness")
    assert opened.catalogue.num_rows == 26
    assert set(opened.manifest["parts"]) == {"replies", "brands", "queries"}
    assert opened.classifier is None
    assert opened.replies.top(["什么时候发货"], 1)
    assert opened.asked
    assert opened.brands.top("pan", 1)
    assert opened.hybrid.vectors.shape == (26, 384)


def test_a_second_run_does_nothing(small_run, capfd):
    before = {stage: small_run.manifest(stage) for stage in STAGES}
    again = run_stages(small_run.config)
    told = capfd.readouterr().err
    assert all(f"{stage} is up to date" in told for stage in STAGES)
    assert {stage: again.manifest(stage) for stage in STAGES} == before


def test_a_change_redoes_what_it_touches_and_no_more(small_run, small_shop, capfd):
    run_stages(load(small_shop, ["evaluate.bootstrap=300"]))
    told = capfd.readouterr().err
    assert all(f"{stage} is up to date" in told for stage in ("prepare", "synthesize", "curate", "train"))
    assert "evaluate is up to date" not in told
    run_stages(small_run.config)  # back again: the other tests read this run
    assert "has the LLM write" not in capfd.readouterr().err


def test_a_stage_will_not_run_on_what_another_config_made(small_run, small_shop):
    other = load(small_shop, ["curate.max_chars=20"])
    with pytest.raises(UserError, match="curate, which has not been run with these settings"):
        run_stages(other, ["train"])


def test_the_report_is_one_file_that_tells_the_whole_story(small_run):
    html = (small_run.root.local / "report.html").read_text(encoding="utf-8")
    report = json.loads((small_run.root.local / "report.json").read_text(encoding="utf-8"))
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"|@import|url\((?!#)', html), "something is fetched from elsewhere"
    for heading in (
        "How good is it?",
        "What shoppers took next",
        "What went in",
        "What the language model wrote",
        "What was refused",
        "What it took",
    ):
        assert heading in html
    assert html.count("<svg") == 5
    assert "over the test shoppers" in html
    best = report["evaluation"]["winner"]["system"]
    assert run_report.headline(report) in html.replace("&#39;", "'")
    assert f"{report['evaluation']['test']['systems'][best]['ndcg@10']['mean']:.3f}" in html
    assert report["queries"]
    assert report["queries"][0]["text"] in html
    assert sum(one["count"] for one in report["rejects"] if one["stage"] == "curate") == sum(
        step["refused"] for task in report["curation"].values() for step in task["steps"]
    )


def test_the_data_card_says_what_is_there_and_what_is_not(small_run):
    folder = small_run.folder("curate").local
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    text = (folder / "card.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert (head["language"], head["size_categories"]) == (["en", "zh"], ["n<1K"])
    kept = labels(small_run, "curate")
    for task, one in card["tasks"].items():
        own = [row for row in kept if row["task"] == task]
        assert one["kept"] == len(own) == sum(one["languages"].values())
        assert one["asked"] == len(own) + sum(one["refused"].values())
        assert f"| {task} | {one['asked']} | {one['labelled']} | {one['kept']} |" in text
    assert card["personal_data"]["kept"] == {}
    assert card["personal_data"]["sources"]["email"] > 0
    assert card["lineage"] == {one: small_run.fingerprint(one) for one in ("prepare", "synthesize")}


def test_text_from_the_shop_cannot_script_the_report(small_run):
    report = json.loads((small_run.root.local / "report.json").read_text(encoding="utf-8"))
    report["queries"][0]["text"] = report["name"] = "<script>alert(1)</script>"
    assert "<script" not in run_report.html(report)


def test_a_weak_result_is_said_plainly(small_run):
    report = json.loads((small_run.root.local / "report.json").read_text(encoding="utf-8"))
    report["evaluation"]["test"]["comparisons"][1]["verdict"] = "no difference shown"
    assert "BM25 + fine-tuned does not beat BM25 beyond chance" in run_report.headline(report)


def test_only_its_owner_can_read_the_run(small_run):
    assert small_run.root.local.stat().st_mode & 0o077 == 0


def test_settings_that_were_set_before_find_their_bundle_as_it_was(small_run, capfd):
    """Replicas may have its files mapped: it is published again, and not written."""
    folder = small_run.folder("package").local
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    before = small_run.manifest("package")
    (small_run.root / "package").write_json("manifest.json", before | {"fingerprint": "0" * 12})  # others came between
    run_stages(small_run.config)
    assert "package is up to date" not in capfd.readouterr().err
    after = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in after.items()} == {
        p: (s.st_ino, s.st_mtime_ns) for p, s in files.items()
    }
    assert small_run.manifest("package")["figures"] == before["figures"]


@pytest.fixture
def copied(small_run, small_shop, tmp_path):
    """`copied(settings)`: a pipeline over a copy of the run, whose results may be changed."""

    def made(*settings):
        return run_stages(load(small_shop, [f"run_dir={tmp_path / 'run'}", *settings]))

    shutil.copytree(small_run.root.local, tmp_path / "run")
    return made


def test_the_encoder_that_evaluation_chose_is_packaged(copied, tmp_path):
    run = copied()
    own = BiEncoder.load("embedded").encode(bundle.load(run.folder("package").local).catalogue["text"].to_pylist())
    chosen = run.folder("evaluate").read_json("metrics.json")
    chosen["winner"] |= {"system": "BM25 + zero-shot", "encoder": "zero-shot", "weights": {"en": 0.6, "zh": 0.1}}
    run.folder("evaluate").write_json("metrics.json", chosen)
    np.save(run.folder("evaluate").local / "vectors.npy", own)
    run.folder("package").delete()
    opened = bundle.load(copied().folder("package").local)
    assert opened.manifest["system"] == "BM25 + zero-shot"
    assert opened.hybrid.weight("pan") == 0.6
    np.testing.assert_array_equal(opened.hybrid.vectors, own)
    as_it_comes, served = (BiEncoder.load(one).encode(["red kettle"]) for one in ("embedded", opened.model))
    np.testing.assert_allclose(served, as_it_comes, atol=1e-6)


@pytest.mark.slow
def test_itemknn_is_packaged_where_nothing_better_was_trained(copied):
    harm = ["train.learning_rate=0.05", "train.epochs=1", "train.models=[]", "recommend.models=[sequential]"]
    less = [f"recommend.sequential.{one}" for one in ("epochs=1", "learning_rate=1e-9", "text=false", "width=2")]
    run = copied(*harm, *less)
    opened = bundle.load(run.folder("package").local)
    assert opened.manifest["recommender"]["system"] == "ItemKNN"
    served = ready.load("ItemKNN", opened.path / "recommender")
    assert served.products == 26
    assert np.isfinite(served.scores(np.arange(26))).any()


@pytest.mark.parametrize("lost", [".", "catalogue.parquet"])
def test_a_damaged_publication_is_made_again(small_run, capfd, lost):
    folder = small_run.folder("package").local
    shutil.rmtree(folder) if lost == "." else (folder / lost).unlink()
    run_stages(small_run.config)
    told = capfd.readouterr().err
    assert "evaluate is up to date" in told
    assert "package is up to date" not in told
    assert bundle.check(folder)["products"] == 26
