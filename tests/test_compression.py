"""Compressed encoders: the graph computes what torch does, int8 stays near it, a static one imitates it; and the bundle
serves whichever it holds."""

from __future__ import annotations

import json
import math
import shutil

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from transformers import BertConfig, BertModel

from synthrec import bundle, config
from synthrec.cli import run_stages
from synthrec.compression.distil import distil, fit
from synthrec.compression.encoder import load
from synthrec.compression.export import export
from synthrec.compression.onnx import OnnxEncoder
from synthrec.compression.static import StaticEncoder
from synthrec.evaluation.compressed import Judge
from synthrec.evaluation.judgments import Query
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.recommenders.lengths import bucketed, distinct, padded
from synthrec.retrieval.bm25 import BM25
from synthrec.stages import package, serve

TEXTS = ["red kettle", "pan", "", "a heavy skillet cast in one piece, seasoned with oil. " * 9, "12 oz", "红色水壶"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def little():
    """An encoder of two small layers with the packaged one's tokenizer. Only its weights are chance."""
    tokenizer = BiEncoder.load("embedded").tokenizer
    torch.manual_seed(5)
    backbone = BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        ),
        add_pooling_layer=False,
    )
    return BiEncoder(backbone, tokenizer, query_tokens=16, product_tokens=48)


@pytest.fixture(scope="module", params=["float32", "int8"])
def exported(request, little, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    export(little, folder, request.param)
    return request.param, folder


def test_the_graph_computes_what_torch_does(exported, little):
    kind, folder = exported
    encoder = load(folder)
    assert isinstance(encoder, OnnxEncoder)
    for query in (True, False):
        found, wanted = encoder.encode(TEXTS, query), little.encode(TEXTS, query)
        assert found.shape == wanted.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        if kind == "float32":
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        else:
            assert (found * wanted).sum(1).min() > 0.98
            assert np.abs(found - wanted).max() > 1e-6, "it is quantised"


def test_batches_of_one_and_of_many_keep_the_order(exported, little):
    kind, folder = exported
    encoder = OnnxEncoder(folder, threads=2)
    many = [f"kettle {'lid ' * (i % 7)}{i}" for i in range(200)]
    found, done = encoder.encode(many), []
    wanted = little.encode(many)
    assert ((found @ wanted.T).argmax(1) == np.arange(200)).mean() > (0.99 if kind == "float32" else 0.9)
    np.testing.assert_allclose(
        encoder.encode(many[:1]), little.encode(many[:1]), atol=1e-5 if kind == "float32" else 0.1
    )
    encoder.encode(many, tick=done.append)
    assert sum(done) == 200
    assert encoder.encode([]).shape == (0, 32)


def test_an_exported_encoder_is_small_saves_elsewhere_and_holds_no_pickle(exported, tmp_path):
    kind, folder = exported
    encoder = load(folder)
    encoder.save(tmp_path / "copy")
    names = {p.name for p in (tmp_path / "copy").iterdir()}
    assert names == {"model.onnx", "tokenizer.json", "encoder.json"}
    assert json.loads((folder / "encoder.json").read_text())["kind"] == kind
    np.testing.assert_array_equal(load(tmp_path / "copy").encode(TEXTS[:1]), encoder.encode(TEXTS[:1]))


def test_export_leaves_the_encoder_as_it_was(little, tmp_path):
    before = (little.backbone.config._attn_implementation, little.encode(TEXTS))
    export(little, tmp_path)
    assert little.backbone.config._attn_implementation == before[0]
    np.testing.assert_array_equal(little.encode(TEXTS), before[1])


# Lengths.


@given(st.lists(st.integers(2, 40), max_size=60), st.integers(1, 200))
def test_every_text_is_in_one_batch_and_none_is_too_large(lengths, cells):
    batches = list(bucketed(lengths, cells))
    assert sorted(i for rows in batches for i in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= cells


@given(st.lists(st.lists(st.integers(0, 2), max_size=3)))
def test_each_text_is_kept_once_and_found_again(read):
    kept, rows = distinct(read)
    assert [list(kept[row]) for row in rows] == read
    assert len({tuple(ids) for ids in kept}) == len(kept)


def test_padding_stands_behind_the_text():
    ids, mask = padded([[5, 6, 7], [8]], padding=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


# Static.


@pytest.fixture(scope="module")
def distilled(little):
    products = [
        f"{a} {b} for {c}" for a in ("red", "blue", "old") for b in ("kettle", "pan", "coat") for c in ("tea", "rain")
    ]
    return products, distil(little, TEXTS[:2], products, width=24)


def test_a_static_encoder_imitates_its_teacher_on_the_shops_texts(little, distilled):
    products, encoder = distilled
    found, wanted = encoder.encode(products), little.encode(products)
    assert found.shape == (18, 24)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    likeness, goal = found @ found.T, wanted @ wanted.T
    above = np.triu_indices(18, 1)
    assert np.corrcoef(likeness[above], goal[above])[0, 1] > 0.8


def test_a_static_encoder_does_not_care_for_order_or_company_and_has_nothing_to_say_of_nothing(distilled):
    _, encoder = distilled
    a, b, nothing = encoder.encode(["red kettle for tea", "tea for kettle red", ""])
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert not nothing.any()
    np.testing.assert_array_equal(encoder.encode(["red kettle for tea"])[0], a)
    assert encoder.encode([]).shape == (0, 24)


def test_a_static_encoder_reads_as_far_as_each_sides_limit(distilled):
    _, encoder = distilled
    short, long = "kettle " * 16, "kettle " * 16 + "pan " * 9
    queries, products = encoder.encode([short, long], query=True), encoder.encode([short, long])
    np.testing.assert_allclose(queries[0], queries[1], atol=1e-6)
    assert np.abs(products[0] - products[1]).max() > 1e-3


def test_a_saved_static_encoder_is_the_same_to_half_precision(distilled, tmp_path):
    products, encoder = distilled
    encoder.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, StaticEncoder)
    assert {p.name for p in tmp_path.iterdir()} == {"table.safetensors", "tokenizer.json", "encoder.json"}
    np.testing.assert_allclose(again.encode(products), encoder.encode(products), atol=2e-3)


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_fit_is_the_ridge_regression_of_the_closed_form(ridge):
    dice = np.random.default_rng(3)
    means = np.abs(dice.normal(size=(30, 12))).astype(np.float32) * (dice.random((30, 12)) < 0.4)
    start, wanted = dice.normal(size=(12, 5)).astype(np.float32), dice.normal(size=(30, 5)).astype(np.float32)
    found = fit(start, sparse.csr_array(means), wanted, ridge)
    normal = means.T @ means + ridge * np.eye(12)
    exact = start + np.linalg.solve(normal, means.T @ (wanted - means @ start))
    np.testing.assert_allclose(found, exact, atol=5e-3)


# What is packaged.

PLACE = {"k": 0, "p": 1, "c": 2}
PRODUCTS = ["red kettle", "iron pan", "rain coat"]


def judge(weights, queries):
    return Judge(PRODUCTS, PLACE, BM25.build(PRODUCTS), weights, queries, queries)


class Given:
    """An encoder whose vectors are the test's own."""

    width = 3

    def __init__(self, products, query):
        self.products, self.query = products, query

    def encode(self, texts, query=False, *, tick=lambda done: None):
        return np.array([self.query] * len(texts) if query else self.products, np.float32).reshape(len(texts), 3)


QUERIES = [Query("1", "something warm", "en", {"k": 1.0})]


def test_a_system_is_judged_with_the_vectors_of_the_encoder_that_serves():
    good, bad = Given(np.eye(3), [1, 0, 0]), Given(np.eye(3), [0, 0, 1])
    judged = judge({"en": 1.0}, QUERIES)
    assert judged.judge(good).ndcg == {"tune": 1.0, "test": 1.0}
    assert judged.judge(bad).ndcg["tune"] == pytest.approx(1 / math.log2(3))
    assert math.isnan(judge({}, []).judge(good).ndcg["tune"])


def test_the_fusion_is_tuned_anew_for_an_encoder_and_kept_for_the_one_it_was_tuned_with():
    encoder = Given(np.eye(3), [1, 0, 0])
    assert judge({"en": 0.05}, QUERIES).judge(encoder, np.eye(3, dtype=np.float32)).weights == {"en": 0.05}
    assert judge({"en": 0.05}, QUERIES).judge(encoder).weights == {"en": 0.5}, "all are equal: the middle one"
    assert judge({"en": 0.0}, QUERIES).judge(encoder).weights == {"en": 0.0}, "BM25 alone stays so"


@pytest.mark.parametrize(
    ("asked", "before", "after", "kept", "said"),
    [
        ("auto", 0.700, 0.694, True, "0.694 with int8"),
        ("auto", 0.700, 0.692, False, "more than package.max_loss"),
        ("auto", math.nan, math.nan, False, "no judgments show"),
        ("int8", 0.700, 0.600, True, "as package.encoder asks"),
        ("int8", math.nan, math.nan, True, "no judgments show"),
    ],
)
def test_int8_must_show_what_it_costs_unless_it_is_asked_for_by_name(capsys, asked, before, after, kept, said):
    class Has:
        def __init__(self, ndcg):
            self.ndcg = {"tune": ndcg}

    assert package._worth(config.Package(encoder=asked), "int8", Has(before), Has(after)) is kept
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "static"])
def test_a_bundle_with_a_compressed_encoder_is_judged_served_and_told(small_run, small_shop, kind, tmp_path):
    shutil.copytree(small_run.root.local, tmp_path / "run")  # the other tests read the run as it is
    settings = config.load(small_shop, [f"package.encoder={kind}", f"run_dir={tmp_path / 'run'}"])
    run = run_stages(settings)
    packed = run.folder("package").local
    opened = bundle.load(packed)
    told = opened.manifest["encoder"]
    assert (told["kind"], told["asked"]) == (kind, kind)
    assert set(told["ndcg@10"]) == {"float32", kind}
    assert 0 < told["ndcg@10"][kind]["test"] <= 1
    encoder = load(opened.model)
    np.testing.assert_allclose(encoder.encode(opened.catalogue["text"].to_pylist()), opened.hybrid.vectors, atol=2e-2)
    plain = bundle.load(small_run.folder("package").local)
    assert (packed / "model").stat() and sum(p.stat().st_size for p in packed.rglob("*")) < 0.5 * sum(
        p.stat().st_size for p in plain.path.rglob("*")
    )
    with serve.endpoint(run, settings.serve) as url:
        reply = httpx.post(f"{url}/v1/search", json={"query": "cast iron skillet", "k": 5}, timeout=60)
        assert reply.json()["hits"][0]["product_id"] == "KIT01"


@pytest.mark.slow
def test_int8_is_near_the_packaged_encoder(tmp_path, store):
    encoder = BiEncoder.load("embedded")
    export(encoder, tmp_path)
    lines = (store / "searches.jsonl").read_text(encoding="utf-8").splitlines()
    texts = sorted({json.loads(line)["query"] for line in lines if line.isascii()})
    found, wanted = load(tmp_path).encode(texts, query=True), encoder.encode(texts, query=True)
    cosines = (found * wanted).sum(1)
    assert cosines.mean() > 0.99
    assert cosines.min() > 0.97
