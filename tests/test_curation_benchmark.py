"""The benchmark of curation steps: its arms are what they say, and no work is done twice."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import yaml
from label_rows import scored

from benchmarks.curation import downstream, here, worth
from benchmarks.curation.__main__ import Bench, measure
from benchmarks.curation.arms import AWAKE, FULL, Arm, arms, left_out
from synthrec import schema
from synthrec.cli import run_stages
from synthrec.config import Curate, load
from synthrec.curation import STEPS
from synthrec.storage import Folder

LISTED = Curate().steps


def given_none(key):
    return False


def test_each_arm_differs_from_the_list_by_its_step_alone():
    found = arms(LISTED, given_none)
    assert (found[0].name, found[0].steps) == (FULL, LISTED)
    assert [arm.steps for arm in found if arm.name == "no curation"] == [()]
    removed = {arm.step: arm.steps for arm in found if arm.removed and arm.steps}
    assert removed == {step: tuple(one for one in LISTED if one != step) for step in LISTED}
    added = {arm.step: arm.steps for arm in found[1:] if not arm.removed and arm.step in STEPS}
    assert set(added) == set(STEPS) - set(LISTED) - {"agreement"}
    for step, steps in added.items():
        assert tuple(one for one in steps if one != step) == LISTED
        assert steps.count(step) == 1
        assert sorted(steps, key=list(STEPS).index) == list(steps)  # where the registry has it
    awake = [arm for arm in found if arm.settings]
    assert [(arm.steps, arm.settings) for arm in awake] == [(LISTED, AWAKE["relevance"])]


def test_a_step_that_lacks_what_it_needs_is_left_out_and_said():
    assert left_out(LISTED, given_none) == {"agreement": "curate.second"}
    assert left_out(LISTED, lambda key: key == "second") == {}
    assert "with agreement" in [arm.name for arm in arms(LISTED, lambda key: key == "second")]


def test_an_arm_is_a_config_with_its_steps(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "run_dir": "x", "sources": {"products": {"path": "x"}}}))
    for arm in arms(LISTED, given_none):
        own = load(path, arm.overrides).curate
        assert own.steps == arm.steps
        assert own.model_dump(exclude={"steps"}) == Curate(**arm.settings).model_dump(exclude={"steps"})


def test_worth_is_the_metric_with_the_step_less_that_without():
    better, worse = np.full((2, 40), 0.6), np.full((2, 40), 0.5)
    better[:, ::2] += 0.2
    gain = worth.of_queries(Arm("without it", (), "it", removed=True), worse, better)
    assert gain["mean"] == pytest.approx(0.2) and 0.1 < gain["low"] < gain["high"] < 0.3
    assert gain["by_seed"] == pytest.approx([0.2, 0.2])
    assert worth.of_queries(Arm("with it", (), "it"), worse, better)["mean"] == pytest.approx(-0.2)
    told = worth.judged({"good": gain, "bad": {"mean": -0.1, "p": 0.001}, "so so": {"mean": 0.1, "p": 0.03}})
    # Holm: three times .001 or less, then the last one alone.
    assert {name: one["verdict"] for name, one in told.items()} == {
        "good": "pays",
        "bad": "does not pay",
        "so so": "pays",
    }
    assert worth.judged({"a": {"mean": 1, "p": 0.03}, "b": {"mean": 1, "p": 0.03}})["a"]["verdict"] == "unclear"


def test_labels_that_a_step_refused_do_not_count():
    base = {f"r{n}": ["positive" if n % 2 else "negative", "positive" if n % 3 else "negative"] for n in range(60)}
    right = {review: pair for review, pair in base.items() if pair[0] == pair[1]}
    gain = worth.of_labels(Arm("with margin", (), "margin"), right, base)
    assert worth.accuracy(right) == 1.0
    assert gain["mean"] == pytest.approx(1.0 - worth.accuracy(base)) and gain["low"] > 0
    assert worth.of_labels(Arm("without", (), "x", removed=True), right, base)["mean"] == pytest.approx(-gain["mean"])


def test_a_rated_review_has_the_shoppers_verdict_and_the_labels(tmp_path):
    stars = {"review:1": "5", "review:2": "1", "review:3": "3", "review:4": "4"}
    reviews = [
        {"doc_id": doc, "kind": "review", "language": "en", "text": "so so", "fields": {"rating": given}}
        for doc, given in stars.items()
    ]
    Folder.open(str(tmp_path / "corpus")).write_table("0.parquet", schema.table(reviews, schema.CORPUS))
    labels = [scored(n, [1, 0], sources=[f"review:{n}"]) for n in (1, 2, 3)]
    labels += [scored(4, [0, 1], sources=["review:4"]), scored(5, [0, 1], sources=["review:1"], facet="aspect")]
    assert downstream.rated(Folder.open(str(tmp_path)), labels) == {
        "review:1": ["positive", "positive"],
        "review:2": ["negative", "positive"],
        "review:4": ["positive", "negative"],
    }


@pytest.mark.parametrize("rows", [30, 50, 80])
def test_trainings_of_the_same_steps_use_all_rows(rows):
    plan = downstream.Even(rows, batch_size=10, epochs=8, warmup=0.1, seed=1, like=50)
    assert plan.steps(ranks=1) == 5
    seen = {row for epoch in range(plan.epochs) for step in range(5) for row in plan.batch(epoch, step, 0, 1)}
    assert seen == set(range(rows))


def fake_downstream(calls):
    """No model: a query's NDCG is a hash of what it was trained on. It keeps count of what it was asked."""

    def fit(shop, pairs, seed, like):
        calls.append((pairs.num_rows, seed, like))
        return {"ndcg": [((pairs.num_rows * 7 + seed * 3 + n) % 10) / 10 for n in range(len(shop.queries))]}

    return fit


def test_a_second_call_works_no_more_and_a_killed_one_goes_on(small_shop, tmp_path, ray_session, monkeypatch):
    steps = ["normalise", "well_formed", "duplicates", "calibrate"]  # none that needs an encoder
    fake = {"kind": "fake", "resources": {"batch_size": 64}}
    overrides = [f"synthesize.engine={json.dumps(fake)}", f"curate.steps={json.dumps(steps)}"]
    bench = Bench(str(small_shop), overrides, Folder.open(str(tmp_path / "bench")))
    done = run_stages(bench.pipeline().config, ["prepare", "synthesize", "curate"])
    chosen = [one for one in arms(steps, given_none) if one.name in (FULL, "no curation", "without calibrate")]
    calls, curations = [], []
    real = here.curate
    monkeypatch.setattr(
        here, "curate", lambda config, *more: curations.append(config.curate.steps) or real(config, *more)
    )

    def killed(*given):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fake_downstream(calls)(*given)

    with pytest.raises(KeyboardInterrupt):
        measure(bench, chosen, [1, 2], killed)
    first = measure(bench, chosen, [1, 2], fake_downstream(calls))
    # Two tables of pairs and two seeds, and two more trainings of the first: calibration changes no query.
    assert len(calls) == len(set(calls)) == 6
    assert sorted(map(len, curations)) == [0, 3, 4]
    assert measure(bench, chosen, [1, 2], fake_downstream(calls)) == first
    assert len(calls) == 6 and len(curations) == 3
    assert all(rows == like for rows, _, like in calls)
    measure(bench, chosen, [1, 2], fake_downstream(calls), even=True)
    rows = min(own for own, _, _ in calls)  # the first arm's; of the other table each seed once more
    assert [(own > rows, like) for own, _, like in calls[6:]] == [(True, rows)] * 2
    arm = first["arms"]
    assert arm["without calibrate"]["worth"]["encoder"] == {"verdict": worth.SAME}
    assert {"encoder", "expansion"} <= {name for name, one in arm["no curation"]["worth"].items() if "mean" in one}
    assert arm["no curation"]["kept"]["queries"] > arm[FULL]["kept"]["queries"]
    staged = (done.folder("curate") / "labels").read_table(schema.LABEL).to_pylist()
    assert arm[FULL]["kept"] == Counter(row["task"] for row in staged)


def test_what_is_curated_in_one_process_is_what_the_stage_keeps(small_run, tmp_path):
    """With all the steps, those that need an encoder too."""
    prepared, labels = small_run.folder("prepare"), small_run.folder("synthesize") / "labels"
    known = {}
    kept = here.curate(small_run.config, prepared, labels, Folder.open(str(tmp_path)), known)
    staged = (small_run.folder("curate") / "labels").read_table(schema.LABEL).to_pylist()
    assert {row["id"]: (row["text"], row["label"]) for row in kept} == {
        row["id"]: (row["text"], row["label"]) for row in staged
    }
    again = here.curate(small_run.config, prepared, labels, Folder.open(str(tmp_path)), known)
    assert [row["id"] for row in again] == [row["id"] for row in kept]
