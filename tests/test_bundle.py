"""The bundle, and the retrieval it holds: what was packaged ranks as it was evaluated, and damage is told by name."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from synthrec import bundle, models, schema
from synthrec.errors import UserError
from synthrec.evaluation import systems
from synthrec.evaluation.judgments import Query
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Hybrid, convex
from synthrec.retrieval.ranking import rank
from synthrec.retrieval.tokens import words
from synthrec.sources.cleaning import product_text
from synthrec.sources.records import Product

QUERIES = [
    "pan for eggs",
    "  WOK &amp; lid",
    "something to keep soup warm at school",
    "砂锅 炖汤",
    "孩子的保温杯 500ml",
]
WEIGHTS = {"en": 0.35, "zh": 0.1}  # the packaged encoder reads English alone


@pytest.fixture(scope="module")
def catalogue(store):
    lines = (store / "products.jsonl").read_text(encoding="utf-8").splitlines()
    products = [Product.model_validate(json.loads(line)) for line in lines if '"KIT' in line]
    rows = [
        p.model_dump(include={"product_id", "title"}) | {"language": "en", "text": product_text(p)} for p in products
    ]
    return schema.table(rows, schema.CATALOGUE)


@pytest.fixture(scope="module")
def encoder():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # on busy cores more threads only wait for each other
    yield BiEncoder.load("embedded")
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def packed(catalogue, encoder, tmp_path_factory):
    """A bundle of the shop's kitchen department with the packaged encoder. Not to be changed."""
    folder = tmp_path_factory.mktemp("bundle")
    texts = catalogue["text"].to_pylist()
    encoder.save(folder / "model")
    bundle.write(
        folder, catalogue, encoder.encode(texts), BM25.build(texts, 0.9, 0.6), {"weights": WEIGHTS, "name": "x"}
    )
    return folder


@pytest.fixture
def copy(packed, tmp_path):
    """A bundle to damage; its files are links, so a file is replaced and never written to."""
    return shutil.copytree(packed, tmp_path / "copy", copy_function=os.link)


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# A good bundle.


def test_a_bundle_loads_and_ranks_as_its_encoder_and_index_do(packed, catalogue, encoder):
    opened = bundle.load(packed)
    assert opened.catalogue.equals(catalogue)
    assert opened.manifest["products"] == catalogue.num_rows == 26
    assert opened.manifest["name"] == "x"
    again = BiEncoder.load(opened.model)
    titles = opened.catalogue["title"].to_pylist()
    first = {}
    for query in QUERIES:
        (vector,) = again.encode([query], query=True)
        scores = opened.hybrid.scores(query, vector)
        assert scores.shape == (26,)
        first[query] = titles[rank(scores[None], 1)[0, 0]]
    assert "Frying Pan" in first["pan for eggs"]
    assert "Wok" in first["  WOK &amp; lid"]
    assert "砂锅" in first["砂锅 炖汤"]


def test_what_is_written_is_what_is_listed_and_no_pickle_is_among_it(packed):
    manifest = json.loads((packed / "manifest.json").read_text())
    assert sorted([*manifest["files"], "manifest.json"]) == files(packed)
    assert manifest == bundle.check(packed)
    for name in files(packed):
        kind = name.rpartition(".")[2]
        assert kind in {"json", "npy", "parquet", "safetensors", "txt"}, name
        if kind == "npy":
            np.load(packed / name, allow_pickle=False)
        if kind == "json":
            json.loads((packed / name).read_text(encoding="utf-8"))
    assert np.load(packed / "vectors.npy", allow_pickle=False).dtype == np.float32


def test_a_bundle_can_be_moved(packed, copy):
    moved = copy.rename(copy.with_name("moved"))
    assert bundle.check(moved) == bundle.check(packed)


# A bad one: told, and by the name of the file.


def problem(folder, opening=bundle.load):
    with pytest.raises(UserError) as told:
        opening(folder)
    assert told.value.hint
    return told.value.problem


def test_a_folder_without_a_manifest_is_no_bundle(copy):
    (copy / "manifest.json").unlink()
    assert problem(copy) == f"{copy} is no bundle: it has no manifest.json"
    assert "manifest.json" in problem(copy / "nowhere")


@pytest.mark.parametrize(
    "text", [b'{"format": 1, "files": {', b"", b"\xff\xfe", b"[]", b"null", b"{}", b'{"format": 1, "files": 7}']
)
def test_a_manifest_that_cannot_be_read_is_told(copy, text):
    replace(copy / "manifest.json", text)
    assert problem(copy) == f"{copy / 'manifest.json'} is damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"en": float("nan")}},
        {"weights": [0.5]},
        {"weights": {"en": 7}},
        {"settled": "all"},
        {"settled": -1},
    ],
)
def test_a_manifest_that_would_steer_the_ranking_astray_is_told(copy, change):
    manifest = json.loads((copy / "manifest.json").read_text())
    replace(copy / "manifest.json", json.dumps(manifest | change).encode())
    assert problem(copy) == f"{copy / 'manifest.json'} is damaged"


@pytest.mark.parametrize("number", [1, 0, None, "2"])
def test_another_format_is_told(copy, number):
    manifest = json.loads((copy / "manifest.json").read_text())
    replace(copy / "manifest.json", json.dumps(manifest | {"format": number}).encode())
    assert problem(copy) == f"{copy} is of format {number}, this version reads {bundle.FORMAT}"


@pytest.mark.parametrize("name", ["vectors.npy", "model/config.json", "bm25/vocab.index.json", "catalogue.parquet"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    assert problem(copy) == f"{copy}: {name} is missing"


@pytest.mark.parametrize("name", ["model/extra.bin", "notes.txt", ".hidden"])
def test_a_file_too_many_is_named(copy, name):
    (copy / name).write_bytes(b"")
    assert problem(copy) == f"{copy}: {name} is not part of the bundle"


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(
    "name", ["vectors.npy", "catalogue.parquet", "model/model.safetensors", "bm25/data.csc.index.npy"]
)
def test_one_wrong_bit_is_told_with_its_file(copy, name, place):
    data = bytearray((copy / name).read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[place]] ^= 1
    replace(copy / name, bytes(data))
    assert problem(copy) == f"{copy}: {name} has changed since it was packaged"


def test_a_bundle_whose_writing_was_cut_short_is_none(catalogue, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(BM25, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        bundle.write(tmp_path, catalogue, np.zeros((26, 4), np.float32), BM25.build(["a kettle"]), {})
    assert "vectors.npy" in files(tmp_path)
    assert "is no bundle" in problem(tmp_path)


# Serving scores as evaluation did.


@pytest.fixture(scope="module")
def asked(encoder):
    return encoder.encode(QUERIES, query=True)


def evaluated(packed, asked, weights):
    """(queries, products) scores of the fusion as evaluation computes it."""
    opened = bundle.load(packed).hybrid
    queries = [Query(str(i), text, "en", {}) for i, text in enumerate(QUERIES)]
    one, other = systems.lexical(opened.bm25, queries), systems.semantic(opened.vectors, asked)
    return systems.fused(one, other, weights, queries)(range(len(queries)))


@pytest.mark.parametrize("weights", [WEIGHTS, {"en": 0.05, "zh": 0.95}, {"en": 0.6}, {}])
def test_the_endpoint_scores_as_evaluation_did(packed, asked, weights):
    opened = bundle.load(packed).hybrid
    hybrid = Hybrid(opened.bm25, opened.vectors, weights)
    served = np.stack([hybrid.scores(query, vector) for query, vector in zip(QUERIES, asked, strict=True)])
    want = evaluated(packed, asked, weights)
    np.testing.assert_allclose(served, want, rtol=0, atol=1e-6)
    assert (rank(served, 10) == rank(want, 10)).all()
    assert len({tuple(row) for row in rank(served, 10).tolist()}) > 2, "the queries ask for different things"


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_retriever_alone_ranks_as_the_fusion_that_gives_it_all_the_weight(packed, asked, weight):
    opened = bundle.load(packed).hybrid
    hybrid = Hybrid(opened.bm25, opened.vectors, {"en": weight, "zh": weight})
    served = np.stack([hybrid.scores(query, vector) for query, vector in zip(QUERIES, asked, strict=True)])
    want = evaluated(packed, asked, {"en": weight, "zh": weight})
    assert (rank(served, 5) == rank(want, 5)).all()


def test_without_a_vector_it_is_bm25(packed):
    hybrid = bundle.load(packed).hybrid
    for query, plain in [("pan for eggs", "pan for eggs"), ("ｐａｎ&nbsp;for <b>eggs</b>", "pan for eggs")]:
        assert np.array_equal(hybrid.scores(query, None), hybrid.bm25.scores(plain))
    assert hybrid.scores("pan for eggs", None).max() > 0


def test_the_fusion_worked_by_hand():
    lexical, semantic = np.array([4.0, 0.0, 2.0], np.float32), np.array([0.0, 0.6, -1.0], np.float32)
    want = [0.75 * 1 + 0.25 * 1 / 1.6, 0.25, 0.75 * 0.5]
    np.testing.assert_allclose(convex(lexical, semantic, 0.25), want, atol=1e-6)
    nothing = np.zeros(3, np.float32)  # no term of the query is known: the encoder's order is left
    np.testing.assert_allclose(convex(nothing, semantic, 0.25), 0.25 * (semantic + 1) / 1.6, atol=1e-6)


# The lexical index.


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.3, 0.0), (2.0, 0.9)])
def test_bm25_is_the_formula(catalogue, k1, b):
    texts = catalogue["text"].to_pylist()
    documents = [Counter(words(text)) for text in texts]
    mean = sum(d.total() for d in documents) / len(documents)
    index = BM25.build(texts, k1, b)
    for query in [*QUERIES, "pan pan cast iron"]:
        want = np.zeros(len(texts))
        for word in words(query):
            holding = sum(word in d for d in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            want += [idf * d[word] / (d[word] + k1 * (1 - b + b * d.total() / mean)) for d in documents]
        np.testing.assert_allclose(index.scores(query), want, rtol=1e-5, atol=1e-6)
        assert index.scores(query).any()


def test_a_saved_index_scores_the_same(catalogue, tmp_path):
    index = BM25.build(catalogue["text"].to_pylist(), 0.9, 0.6)
    index.save(tmp_path / "bm25")
    again = BM25.load(tmp_path / "bm25")
    assert again.size == index.size == 26
    for query in [*QUERIES, "", "zzz", "的"]:
        assert np.array_equal(again.scores(query), index.scores(query))
        assert again.top(query, 5) == index.top(query, 5)


def test_a_catalogue_without_a_word_is_told():
    with pytest.raises(UserError, match="holds a word"):
        BM25.build(["!!!", "—"])


def test_unknown_words_score_nothing_and_find_nothing():
    index = BM25.build(["red kettle", "blue pan", ""])
    for query in ["", "zebra", "的 the", "!?"]:
        assert index.scores(query).tolist() == [0, 0, 0]
        assert index.top(query, 3) == []
    assert index.scores("zebra kettle").tolist() == index.scores("kettle").tolist()


def test_top_is_best_first_ties_by_position_and_only_what_shares_a_word():
    index = BM25.build(["blue pan", "red pot", "red pan", "a lid", "red pot"])
    assert index.top("red pan", 9) == [2, 0, 1, 4]
    assert index.top("red pan", 3) == [2, 0, 1]
    many = BM25.build(["red pot", "blue lid"] * 40)  # a sort that is not stable keeps the order of few
    assert many.top("pot", 50) == list(range(0, 80, 2))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Kettles are for Boiling", ["kettl", "boil"]),
        ("10.25-inch Cast_Iron", ["10", "25", "inch", "cast", "iron"]),
        ("Éclair 5GHz", ["éclair", "5ghz"]),
        ("水壶", ["水壶"]),
        ("我的狗狗航空箱，带轮子", ["狗狗", "航空", "空箱", "航空箱", "带", "轮子"]),
        ("1.5L水壶 for tea", ["1", "5l", "水壶", "tea"]),
        ("", []),
        ("的 & the", []),
    ],
)
def test_words_are_stemmed_in_english_and_segmented_in_chinese(text, found):
    assert words(text) == found


# Where models are.


@pytest.mark.parametrize("name", ["/nowhere/llm.gguf", "llm.gguf", "~/nowhere.gguf", "."])
def test_a_gguf_file_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match="no GGUF model file") as told:
        models.gguf(name)
    assert name in told.value.problem


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere"])
def test_an_encoders_folder_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match="no model folder") as told:
        models.encoder(name)
    assert name in told.value.problem


def test_paths_names_and_the_embedded_models_are_found(packed, tmp_path):
    file = tmp_path / "llm.gguf"
    file.write_bytes(b"")
    assert models.gguf(str(file)) == str(file)
    assert models.encoder(str(packed / "model")) == str(packed / "model")
    assert models.encoder("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert Path(models.gguf("embedded")).is_file()
    assert (Path(models.encoder("embedded")) / "config.json").is_file()


def test_the_home_folder_may_be_written_as_a_tilde(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "llm.gguf").write_bytes(b"")
    (tmp_path / "model").symlink_to(packed / "model")
    assert models.gguf("~/llm.gguf") == str(tmp_path / "llm.gguf")
    assert models.encoder("~/model") == str(tmp_path / "model")
