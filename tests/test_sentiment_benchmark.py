"""The sentiment experiment's own parts: its split, cache, choice of a prompt, and students that teach each other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics
from test_transformers_engine import make_model, make_tokenizer

from benchmarks.sentiment_zh import labelling, measure, reading, views
from benchmarks.sentiment_zh.prompts import PROMPTS, Prompt
from synthrec.recommenders.features import Features, ngrams


def reviews(texts, gold, categories=None):
    ids = [f"r{n:04d}" for n in range(len(texts))]
    return reading.Reviews(ids, list(texts), categories or ["书"] * len(texts), np.asarray(gold))


def test_no_text_is_in_two_parts_of_the_split(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "TEST", 20)
    texts = [f"文字 {n % 50}" for n in range(80)]  # thirty stand twice
    rows = {"review_id": [f"r{n}" for n in range(80)], "text": texts, "category": ["书"] * 80, "label": [0, 1] * 40}
    pq.write_table(pa.table(rows), tmp_path / "reviews.parquet")
    parts = reading.split(str(tmp_path / "reviews.parquet"))
    assert [len(parts[name]) for name in ("test", "pool")] == [20, 30]
    assert not set(parts["test"].texts) & set(parts["pool"].texts)


def test_what_was_read_is_not_read_again(tmp_path, monkeypatch):
    tokenizer = make_tokenizer()
    model = make_model("llama", len(tokenizer))
    for one in (model, tokenizer):
        one.save_pretrained(tmp_path / "model")
    for name, value in {"LAYERS": (1, 2), "MEAN": 1, "CHUNK": 4}.items():
        monkeypatch.setattr(reading, name, value)
    prompt = Prompt("x", "评价：{text}\n判断：", "好", "差")
    some = reviews([f"水壶{n}" for n in range(10)], [1] * 10)
    first = reading.Reader(tmp_path / "cache", str(tmp_path / "model")).read(prompt, some, "some")
    assert first.states.shape == (10, 3 * model.config.hidden_size)
    (tmp_path / "model" / "config.json").unlink()  # it cannot be loaded any more
    again = reading.Reader(tmp_path / "cache", str(tmp_path / "model")).read(prompt, some, "some")
    np.testing.assert_array_equal(again.states, first.states)
    np.testing.assert_array_equal(again.logits, first.logits)


def test_a_prompt_that_tells_texts_apart_has_more_information_whatever_it_leans_to():
    sure = np.array([[4.0, 0.0], [0.0, 4.0]] * 20)
    assert labelling.information(sure) > 0.5
    assert labelling.information(sure + np.array([3.0, 0.0])) == pytest.approx(labelling.information(sure))
    assert labelling.information(sure / 10) < 0.1
    assert labelling.information(np.ones((5, 2))) == pytest.approx(0)


def test_prompts_hold_the_review_and_end_where_the_answer_begins():
    for prompt in PROMPTS:
        made = prompt.render("水壶\n很{text}好")
        assert "水壶 很{text}好" in made
        assert made.count("水壶") == 1
        assert made.endswith(("：", ":", "？"))


def test_curation_takes_out_the_lean_and_keeps_the_sure_of_both_kinds():
    dice = np.random.default_rng(3)
    gold = dice.integers(2, size=400)
    odds = 2 * (2 * gold - 1) + dice.normal(size=400) + 5  # all seem good
    labels = labelling.rows(reviews(["好"] * 400, gold), np.stack([odds, 0 * odds], axis=1))
    assert np.mean([row["label"] == "positive" for row in labels]) > 0.99
    kept = labelling.trusted(labelling.calibrated(labels, labels), 0.5, 1.0)
    good = dict(zip((row["id"] for row in labels), gold, strict=True))
    right = [(row["label"] == "positive") == bool(good[row["id"]]) for row in kept]
    assert 120 < len(kept) <= 200
    assert np.mean(right) > 0.98
    assert 0.4 < np.mean([row["label"] == "positive" for row in kept]) < 0.6


def test_two_views_correct_a_teacher_that_errs():
    dice = np.random.default_rng(7)
    words = ["好用", "喜欢", "满意", "推荐"], ["坏了", "退货", "失望", "难用"]

    def made(count):
        gold = dice.integers(2, size=count)
        texts = ["".join(dice.choice(words[1 - g], 2)) + "水壶灯杯包"[dice.integers(5)] for g in gold]
        states = dice.normal(size=(count, 8)) + 0.9 * (2 * gold[:, None] - 1)
        return reviews(texts, gold), Features(states.astype(np.float32), ngrams(texts, buckets=2**10))

    (pool, seen), (far, beyond), (test, unseen) = made(400), made(200), made(300)
    odds = 1.2 * (2 * pool.gold - 1) + dice.normal(size=400) * 1.2
    labels = labelling.rows(pool, np.stack([odds, 0 * odds], axis=1))
    teacher = metrics.f1_score(pool.gold, odds > 0, average="macro")
    pair = views.learn(pool, seen, labels, (far, Features(ngrams=beyond.ngrams)), 0.6)
    found = measure.figures(test, pair.scores(unseen))
    assert teacher < 0.9
    assert found["macro_f1"] > 0.95


def test_the_figures_are_those_of_scikit_learn_within_their_interval():
    dice = np.random.default_rng(5)
    gold = dice.integers(2, size=500)
    scores = np.stack([gold + dice.normal(size=500) * 0.7, 0.5 * np.ones(500)], axis=1)
    found = measure.figures(reviews(["好"] * 500, gold), scores)
    said = (scores[:, 0] > scores[:, 1]).astype(int)
    expected = metrics.precision_recall_fscore_support(gold, said, average="macro")[:3]
    assert [found[name] for name in ("precision", "recall", "macro_f1")] == pytest.approx(expected)
    low, high = found["interval"]
    assert low < found["macro_f1"] < high
    assert high - low < 0.12
