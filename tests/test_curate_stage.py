"""The curate stage: every label is kept or refused, whatever the files, their order, and the parts they stand in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from label_rows import config, query, scored, shelf_of

from synthrec import schema
from synthrec.curation import chosen, plan
from synthrec.errors import UserError
from synthrec.pipeline import Context
from synthrec.stages import curate
from synthrec.storage import Folder
from synthrec.tasks import TASKS


@pytest.fixture(scope="module")
def shelf(store):
    return shelf_of(store)


@pytest.fixture
def stage(tmp_path, shelf, ray_session):
    """`stage.run(files, curate=...)` runs curate on LABEL rows, a list of them a file."""

    def run(files, **wanted):
        root = Folder.open(str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"))
        for number, rows in enumerate(files):
            (root / "synthesize" / "labels").write_table(f"{number}.parquet", schema.table(rows, schema.LABEL))
        (root / "prepare" / "catalogue").write_table("0.parquet", schema.table(list(shelf.values()), schema.CATALOGUE))
        inputs = {name: root / name for name in ("prepare", "synthesize")}
        every = [row for rows in files for row in rows]
        asked = {t: {"requests": sum(row["task"] == t for row in every), "rejects": 0} for t in TASKS}
        figures = {"prepare": {"sources": {}, "personal_data": {}}, "synthesize": asked}
        manifests = {name: {"fingerprint": name, "figures": one} for name, one in figures.items()}
        context = Context(config(**wanted), curate.STAGE, root, root / "out", inputs, manifests)
        figures = curate.run(context)
        labels, rejects = (
            (root / "out" / n).read_table(s) for n, s in (("labels", schema.LABEL), ("rejects", schema.REJECT))
        )
        files = (root / "out" / "labels").files()
        return SimpleNamespace(figures=figures, labels=labels, rejects=rejects.to_pylist(), files=files)

    return SimpleNamespace(run=run, shelf=shelf)


def made_labels(shelf):
    """Good and bad queries of a shelf's first products, and scored rows in both languages."""
    english, chinese = ([i for i, p in shelf.items() if p["language"] == la] for la in ("en", "zh"))
    title = shelf[english[0]]["title"]
    words = title.split()
    rows = [
        query(f"{words[-2]} {words[-1]} for my {shelf[english[0]]['category']}?", english[0], 0),
        query("pan", english[0], 1),
        query(title, english[0], 2),
        query("zzzz qqqq", english[1], 3),
        query(shelf[chinese[0]]["description"][:10], chinese[0], 4, "zh"),
        query("red kettle", chinese[0], 5, "zh"),
    ]
    rows += [scored(n, [gap, 0.0], la) for n, (gap, la) in enumerate([(3, "en"), (2, "en"), (-1, "zh"), (-2, "zh")])]
    rows += [scored(10 + n, [gap, 0.0, 0.0, 0.0], "en", "relevance") for n, gap in enumerate([-3, 2])]
    return rows


def test_the_stage_accounts_for_every_label(stage):
    rows = made_labels(stage.shelf)
    done = stage.run([rows], roundtrip_k=1)
    assert done.labels.schema.equals(schema.LABEL)
    assert done.labels.num_rows + len(done.rejects) == len(rows)
    kept = done.labels.to_pylist()
    assert {row["id"] for row in kept} | {row["where"] for row in done.rejects} == {row["id"] for row in rows}
    assert {row["where"]: row["reason"] for row in done.rejects} == {
        "q001": "too short",
        "q002": "copy of the title",
        "q003": "does not find its product",
        "q005": "wrong language",
    }
    assert {(row["stage"], row["raw"]) for row in done.rejects if row["where"] == "q001"} == {("curate", "pan")}
    assert {row["id"]: row["label"] for row in kept if row["task"] == "sentiment"} == {
        "s000": "positive",
        "s001": "positive",
        "s002": "negative",
        "s003": "negative",
    }
    for task, figures in done.figures.items():
        assert figures["in"] == sum(row["task"] == task for row in rows)
        assert figures["kept"] == sum(row["task"] == task for row in kept)
        assert figures["in"] == figures["kept"] + sum(step["refused"] for step in figures["steps"])
        assert [step["step"] for step in figures["steps"]] == [
            s.name for s in chosen(config().curate.steps) if s.concerns(task)
        ]


def test_files_their_order_and_rows_written_twice_change_nothing(stage):
    rows = made_labels(stage.shelf)
    straight = stage.run([rows], roundtrip_k=1)
    turned = stage.run([rows[7:], rows[:3][::-1], rows[3:7], rows[:8], rows[10:]], roundtrip_k=1)
    assert turned.labels.drop_columns(["score", "scores"]).equals(straight.labels.drop_columns(["score", "scores"]))
    for one, other in zip(straight.labels["score"].to_pylist(), turned.labels["score"].to_pylist(), strict=True):
        assert one == other or one == pytest.approx(other)  # a mean over another order differs in its last digit
    assert sorted(row["where"] for row in turned.rejects) == sorted(row["where"] for row in straight.rejects)


def test_a_query_that_the_llm_scored_low_goes_by_its_score_before_calibration(stage):
    (good, *_) = made_labels(stage.shelf)
    low = [-1.0, -9.0, -9.0, 0.0]  # 0.27 of E or S
    raw = scored(1, low, "en", "relevance", text=good["text"], product_id=good["product_id"])
    others = [
        scored(n, [-9.0, -9.0, -9.0, 0.0], "en", "relevance") for n in range(2, 6)
    ]  # beside these the best by far
    other = query("pan for my eggs", good["product_id"], 9)
    assert stage.run([[good, other, raw, *others]], min_relevance=0.25).figures["queries"]["kept"] == 2
    done = stage.run([[good, other, raw, *others]], min_relevance=0.3)
    assert [(row["where"], row["reason"]) for row in done.rejects] == [(good["id"], "scored irrelevant")]


def test_a_run_with_no_query_left_is_told_what_was_refused(stage):
    rows = [query("pan", next(iter(stage.shelf)), n) for n in range(3)] + [query("red 锅", next(iter(stage.shelf)), 4)]
    with pytest.raises(UserError) as told:
        stage.run([rows])
    assert told.value.problem.startswith("no synthetic query is left of 4 (")
    assert "well_formed refused 4" in told.value.problem
    assert "round_trip refused 0" in told.value.problem
    assert "rejects" in told.value.hint


def test_a_run_without_queries_has_nothing_to_say_about_them(stage):
    done = stage.run([[scored(n, [gap, 0.0]) for n, gap in enumerate([1, 2])]])
    assert done.labels.num_rows == 2
    assert set(done.figures) == {"sentiment"}


def test_the_size_of_parts_changes_nothing(stage, monkeypatch):
    rows = made_labels(stage.shelf)
    whole = stage.run([rows], roundtrip_k=1)
    monkeypatch.setattr(plan, "ROWS_A_PART", 2)
    parted = stage.run([rows[:5], rows[5:]], roundtrip_k=1)
    assert len(parted.files) > len(whole.files)
    assert parted.figures == whole.figures
    one, other = (done.labels.drop_columns(["score", "scores"]).sort_by("id") for done in (whole, parted))
    assert one.equals(other)
    assert sorted(row["where"] for row in parted.rejects) == sorted(row["where"] for row in whole.rejects)


def test_variants_are_added_to_the_queries_they_are_of(stage):
    rows = made_labels(stage.shelf)
    plain = stage.run([rows], roundtrip_k=1)
    more = stage.run([rows], roundtrip_k=1, steps=[*config().curate.steps, "augment"], variants=2)
    kept = [row | {"fields": schema.strings(row["fields"])} for row in more.labels.to_pylist()]
    added = [row for row in kept if "augmented" in row["fields"]]
    assert len(kept) == plain.labels.num_rows + len(added)
    ids = {row["id"] for row in kept}
    assert added
    assert {row["fields"]["of"] for row in added} <= ids
    assert more.figures["queries"]["kept"] == plain.figures["queries"]["kept"] + len(added)


def test_other_gold_labels_are_another_curation(tmp_path):
    path = tmp_path / "gold.jsonl"

    def print_of(lines):
        path.write_text("".join(lines), encoding="utf-8")
        return curate.settings(config(gold=str(path)))

    line = '{"task": "sentiment", "text": "good", "label": "positive"}\n'
    assert print_of([line]) == print_of([line]) != print_of([line.replace("positive", "negative")])
    assert print_of([line])[1:] != curate.settings(config())[1:]
