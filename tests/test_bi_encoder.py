"""The bi-encoder: its loss against the formula, its vectors, its vocabulary, and what it leaves on disk."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tiny_models import bert
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from synthrec.errors import UserError
from synthrec.recommenders.bi_encoder import BiEncoder, Contrast, Objective, info_nce

TEXTS = [
    "red kettle",
    "A heavy skillet cast in one piece, seasoned with flaxseed oil. " * 12,  # longer than the encoder reads
    "pan",
    "PFAS-free ceramic coating, made for eggs, pancakes and fish",
    "12 oz",
    "red kettle",
    "",
]
CHINESE = ["红色水壶 1.5 升", "狗狗航空箱，带轮子", "𠮷 is beyond the first plane"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder():
    """The packaged MiniLM. Tests that change it load their own."""
    return BiEncoder.load("embedded", query_tokens=16, product_tokens=48)


@pytest.fixture(scope="module")
def extended():
    """(the encoder with the characters of CHINESE, how many it said it added)."""
    own = BiEncoder.load("embedded")
    return own, own.extend_vocabulary(CHINESE)


def unit(dice, *shape):
    vectors = dice.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


# The loss.


ROWS = {
    "query": ["pan for eggs", "hot water", "soup at school", "pan for a big fish"],
    "product": ["Ceramic frying pan for eggs and pancakes", "Red kettle, 1.5 litres", "Food flask", "Fish pan, 38 cm"],
    "group": ["a", "b", "c", "d"],
}


def learnt(chunk_tokens, train, **how):
    """(the loss, the gradients, tokens of each pass through the layers, passes on the way back) of one step."""
    own = BiEncoder.load("embedded")
    own.chunk_tokens = chunk_tokens
    own.train(train)
    cells = []
    own.backbone.encoder.register_forward_pre_hook(lambda module, given: cells.append(given[0].shape[:2].numel()))
    torch.manual_seed(3)
    value = Objective(own, Contrast(**how), lambda mine: mine)(ROWS)
    passes = len(cells)
    value.backward()
    grads = {name: weight.grad for name, weight in own.named_parameters() if weight.grad is not None}
    return float(value.detach()), grads, cells, len(cells) - passes


def test_chunks_come_to_the_gradients_of_the_whole_batch():
    """GradCache: activations of a chunk at a time, each computed again on the way back."""
    value, grads, cells, again = learnt(0, train=False)
    chunked, same_grads, few, more = learnt(24, train=False)
    assert (len(cells), again) == (1, 0)
    assert max(few) <= 24 < max(cells)
    assert more == len(few) / 2 > 1
    assert chunked == pytest.approx(value, abs=1e-5)
    assert max(float(one.abs().max()) for one in grads.values()) > 1e-2
    assert grads.keys() == same_grads.keys()
    for name, one in grads.items():
        torch.testing.assert_close(same_grads[name], one, rtol=0, atol=1e-5)


def test_a_text_that_comes_again_is_read_once_and_learns_from_each_time():
    """As hard negatives do. The texts of each pass by themselves give the same vectors and gradients."""
    own = BiEncoder.load("embedded").eval()
    rows = []
    own.backbone.encoder.register_forward_pre_hook(lambda module, given: rows.append(given[0].shape[0]))
    texts = ["red kettle", "pan", "red kettle", "red kettle", "12 oz"]
    weights = torch.randn(len(texts), own.width, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, sides in (("together", [texts]), ("each", [[text] for text in texts])):
        own.zero_grad()
        vectors = torch.cat([own((side, 48)) for side in sides])
        (vectors * weights).sum().backward()
        found[name] = vectors.detach(), {k: w.grad for k, w in own.named_parameters() if w.grad is not None}
    assert rows == [3] + [1] * 5
    (vectors, grads), (same_vectors, same_grads) = found.values()
    torch.testing.assert_close(vectors, same_vectors, rtol=0, atol=1e-6)
    assert grads.keys() == same_grads.keys()
    for name, one in grads.items():
        torch.testing.assert_close(one, same_grads[name], rtol=1e-4, atol=1e-4)


def test_vectors_learnt_by_their_beginnings_rank_when_they_are_cut():
    """Of a small encoder, trained on queries that share no word with their products."""
    texts = [f"{a}{b}{a}" for a in "abcd" for b in "wxyz"]
    asked = [f"{a.upper()}{b.upper()}" for a in "abcd" for b in "wxyz"]
    found = {widths: _first_places(asked, texts, widths) for widths in ((), (4,))}
    assert found[4,][32] == 1.0
    assert found[4,][4] > 0.9 > found[()][4]


def _first_places(asked, texts, widths):
    """Width -> share of the queries that find their product first with vectors cut to it."""
    with tempfile.TemporaryDirectory() as folder:
        own = BiEncoder.load(str(bert(Path(folder), [*texts, *asked])))
    objective = Objective(own, Contrast(0.05, matryoshka=widths), lambda mine: mine, (5e-3, 5e-3))
    batch = {"query": asked, "product": texts, "group": texts}
    optimizer = torch.optim.AdamW(objective.parameter_groups())
    own.eval()  # no dropout: few steps are to do
    for _ in range(60):
        optimizer.zero_grad()
        objective(batch).backward()
        optimizer.step()
    queries, products = own.encode(asked, query=True), own.encode(texts)
    found = {}
    for width in (4, 32):
        cut = [v[:, :width] / np.linalg.norm(v[:, :width], axis=1, keepdims=True) for v in (queries, products)]
        found[width] = float(np.mean((cut[0] @ cut[1].T).argmax(1) == np.arange(len(asked))))
    return found


def test_a_width_that_vectors_do_not_have_is_told(tmp_path):
    bert(tmp_path, TEXTS)
    settings = {"chunk_tokens": 0, "learning_rate": 1e-3, "embedding_rate": 1e-3, "matryoshka": (16, 64)}
    with pytest.raises(UserError, match="vectors of 32 values cannot be cut to 64"):
        Objective.start(tmp_path, settings, lambda mine: mine)


def test_a_negative_that_looks_too_good_is_left_out():
    queries = torch.tensor([[1.0, 0.0]])
    products = torch.tensor([[0.8, 0.6], [0.79, -0.61], [0.6, 0.8]])
    own, every = torch.tensor([1]), torch.tensor([1, 2, 3])
    near = float(info_nce(queries, products, own, every, 0.05, share=0.95))
    assert near == pytest.approx(np.log1p(np.exp((0.6 - 0.8) / 0.05)), abs=1e-5)
    assert float(info_nce(queries, products, own, every, 0.05)) > 0.5


def by_hand(queries, products, groups, all_groups, temperature):
    """-log of the softmax of each query's own product, among it and the products of other groups."""
    total = 0.0
    for query, group in zip(queries, groups, strict=True):
        own = all_groups.index(group)
        others = [i for i, other in enumerate(all_groups) if other != group]
        scores = {i: float(query @ products[i]) / temperature for i in [own, *others]}
        top = max(scores.values())
        total += top + np.log(sum(np.exp(s - top) for s in scores.values())) - scores[own]
    return total / len(queries)


@st.composite
def batches(draw):
    """(groups of all ranks, this rank's first row, its last). Few numbers, so that many pairs share a group."""
    all_groups = draw(st.lists(st.integers(0, 5), min_size=1, max_size=12))
    start = draw(st.integers(0, len(all_groups) - 1))
    return all_groups, start, draw(st.integers(start + 1, len(all_groups)))


@given(batches(), st.sampled_from([0.01, 0.05, 1.0]), st.integers(0, 1000))
@settings(deadline=None)
def test_the_loss_is_the_formula_without_pairs_of_the_same_group(batch, temperature, seed):
    all_groups, start, end = batch
    dice = np.random.default_rng(seed)
    queries, products = unit(dice, end - start, 8), unit(dice, len(all_groups), 8)
    texts = [products[all_groups.index(g)] for g in all_groups]  # pairs of one product hold the same text
    mine = all_groups[start:end]
    asked = torch.tensor(queries, dtype=torch.float32, requires_grad=True)
    offered = torch.tensor(np.array(texts), dtype=torch.float32, requires_grad=True)
    loss = info_nce(asked, offered, torch.tensor(mine), torch.tensor(all_groups), temperature)
    assert loss.item() == pytest.approx(by_hand(queries, texts, mine, all_groups, temperature), rel=1e-4, abs=1e-4)

    loss.backward()
    assert torch.isfinite(asked.grad).all()
    assert torch.isfinite(offered.grad).all()


def test_a_batch_of_one_product_teaches_nothing_and_breaks_nothing():
    vectors = torch.tensor(unit(np.random.default_rng(0), 4, 8), dtype=torch.float32, requires_grad=True)
    group = torch.zeros(4, dtype=torch.int64)
    loss = info_nce(vectors, vectors, group, group, 0.05)
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_what_answers_the_same_words_is_no_negative():
    """Two products, one query written for both: a perfect encoder has nothing to learn from them."""
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    groups, asked = torch.tensor([1, 2, 3]), torch.tensor([7, 7, 8])
    assert float(info_nce(queries, queries, groups, groups, 0.01)) > 0.4
    assert float(info_nce(queries, queries, groups, groups, 0.01, asked=(asked, asked))) == pytest.approx(0, abs=1e-6)
    # A hard negative answers nobody's words: it stays one, however alike.
    offered, every, hard = torch.cat([queries, queries[:1]]), torch.tensor([1, 2, 3, 4]), torch.tensor([7, 7, 8, -1])
    assert float(info_nce(queries, offered, groups, every, 0.01, asked=(asked, hard))) > 0.4


def test_autocast_does_not_blur_the_loss():
    dice = np.random.default_rng(1)
    queries, products = (torch.tensor(unit(dice, 6, 32), dtype=torch.float32) for _ in range(2))
    groups = torch.arange(6)
    plain = info_nce(queries, products, groups, groups, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        assert info_nce(queries, products, groups, groups, 0.01) == plain


def test_the_model_learns_from_text_and_an_id_names_the_same_group_on_every_rank(encoder):
    texts = ["a pan for eggs", "water for the tea", "the same pan"]
    batch = {"query": texts, "product": ["frying pan", "red kettle", "frying pan"], "group": ["KIT02", "", "KIT02"]}
    gathered = []

    def gather(tensor):
        gathered.append(tensor)
        return tensor

    encoder.train()
    encoder.zero_grad()
    loss = encoder.loss(batch, gather, Contrast(0.05))
    loss.backward()
    products, numbers = gathered
    groups, asked = numbers.unbind(1)
    assert products.shape == (3, encoder.width)
    assert len(set(asked.tolist())) == 3
    assert groups.tolist()[0] == groups.tolist()[2] != groups.tolist()[1]
    # blake2b's, not Python's hash(), which differs from process to process.
    assert groups.tolist()[0] == 7972390025034239192
    learnt = [p for p in encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learnt)
    encoder.zero_grad()


def test_added_characters_learn_at_their_own_rate_and_nothing_is_learnt_twice(encoder):
    rest, (embedding,) = (group["params"] for group in encoder.parameter_groups(1e-5, 1e-3))
    assert embedding is encoder.backbone.get_input_embeddings().weight
    assert [g["lr"] for g in encoder.parameter_groups(1e-5, 1e-3)] == [1e-5, 1e-3]
    known = [id(p) for p in [*rest, embedding]]
    assert sorted(known) == sorted(id(p) for p in encoder.parameters() if p.requires_grad)
    unused = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert unused == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}


# Vectors.


@pytest.mark.parametrize("query", [True, False])
def test_vectors_do_not_depend_on_their_company(encoder, query):
    alone = np.concatenate([encoder.encode([text], query) for text in TEXTS])
    for size in (2, 3, 64):
        same(encoder.encode(TEXTS, query, size), alone)
    order = [4, 2, 6, 0, 1, 5, 3]
    same(encoder.encode([TEXTS[i] for i in order], query, 3), alone[order])
    same(alone[0], alone[5])
    assert np.abs(alone[0] - alone[2]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert alone.dtype == np.float32


def test_each_side_reads_as_far_as_its_own_limit(encoder):
    words = "kettle " * 13
    head = [words, words + "lid " * 20, words + "lid " * 20 + "handle " * 20]
    queries, products = encoder.encode(head, query=True), encoder.encode([*head, head[2] + "spout " * 20])
    assert np.abs(queries[0] - queries[1]).max() > 0.01, "13 words and the first lid: 16 tokens with both marks"
    same(queries[1], queries[2])
    assert np.abs(products[1] - products[2]).max() > 0.01
    same(products[2], products[3])


def test_no_text_is_longer_than_the_encoder_has_positions_for():
    own = BiEncoder.load("embedded", query_tokens=16, product_tokens=10_000)
    assert (own.query_tokens, own.product_tokens) == (16, 512)
    assert np.isfinite(own.encode(["kettle " * 3_000])).all()


def test_encoding_dropout_free_even_while_training_and_counts_what_is_done(encoder):
    done = []
    encoder.train()
    same(encoder.encode(TEXTS, batch_size=3, tick=done.append), encoder.encode(TEXTS))
    assert done == [3, 3, 1]


def test_no_texts_give_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, encoder.width)


# Vocabulary.


def test_unknown_characters_become_tokens_once(extended):
    encoder, added = extended
    stock = BiEncoder.load("embedded").tokenizer
    han = {c for text in CHINESE for c in text if "\u4e00" <= c <= "\u9fff"}
    unknown = {c for c in han if stock.convert_tokens_to_ids(c) == stock.unk_token_id}
    assert added == len(unknown) > 5
    assert len(encoder.tokenizer) == len(stock) + added
    for text in CHINESE[:2]:
        assert stock.unk_token_id in stock(text)["input_ids"]
        assert encoder.tokenizer.unk_token_id not in encoder.tokenizer(text)["input_ids"]
    assert encoder.extend_vocabulary(CHINESE) == 0
    first, second = encoder.encode(["红色水壶", "航空箱"])
    assert np.isfinite(first).all()
    assert first @ second < 0.99, "the characters tell texts apart before any training"


@pytest.mark.parametrize("unknown", [None, "<|end|>"])
def test_a_tokenizer_of_bytes_reads_every_character_and_gets_none(unknown, tmp_path):
    """None stands in its vocabulary as such; to add them would cut up what it has learnt to read together."""
    bert(tmp_path, TEXTS)
    bytewise = Tokenizer(BPE())
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bytewise.train_from_iterator(CHINESE * 3, trainer)
    marks = {"pad_token": "<|end|>", "eos_token": "<|end|>"} | ({"unk_token": unknown} if unknown else {})
    PreTrainedTokenizerFast(tokenizer_object=bytewise, **marks).save_pretrained(tmp_path)
    encoder = BiEncoder.load(str(tmp_path))
    before = encoder.tokenizer(CHINESE).input_ids
    assert encoder.extend_vocabulary(CHINESE) == 0
    assert encoder.tokenizer(CHINESE).input_ids == before


def test_known_texts_keep_their_vectors(encoder, extended):
    english = BiEncoder.load("embedded").encode(TEXTS)
    same(extended[0].encode(TEXTS), english)


def test_characters_start_near_the_others_and_the_same_in_every_process(extended):
    weight = extended[0].backbone.get_input_embeddings().weight.detach()
    old, new = weight[: -extended[1]], weight[-extended[1] :]
    assert torch.allclose(new.mean(0), old.mean(0), atol=4 * float(old.std(0).max()) / extended[1] ** 0.5)
    assert len({tuple(row) for row in new.tolist()}) == extended[1], "no two characters are the same"
    again = BiEncoder.load("embedded")
    torch.manual_seed(99)
    again.extend_vocabulary(CHINESE)
    assert torch.equal(again.backbone.get_input_embeddings().weight, weight)


def test_rare_characters_can_be_left_out():
    own = BiEncoder.load("embedded")
    assert own.extend_vocabulary(["壶壶箱", "壶"], least=4) == 0
    assert own.extend_vocabulary(["壶壶箱", "壶"], least=3) == 1
    assert own.extend_vocabulary(["壶壶箱", "壶"]) == 1
    assert own.extend_vocabulary(["no Han at all", ""]) == 0


# On disk.


def test_what_was_saved_loads_as_it_was(extended, tmp_path):
    encoder = extended[0]
    encoder.query_tokens, encoder.product_tokens = 7, 21
    encoder.save(tmp_path / "model")
    again = BiEncoder.load(str(tmp_path / "model"), query_tokens=32, product_tokens=96)
    assert (again.query_tokens, again.product_tokens) == (7, 21), "its own lengths, whatever the caller's defaults"
    for query in (True, False):
        assert np.array_equal(again.encode(TEXTS + CHINESE, query), encoder.encode(TEXTS + CHINESE, query))
    assert again.extend_vocabulary(CHINESE) == 0


def test_no_pickle_is_written(encoder, tmp_path):
    encoder.save(tmp_path)
    names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"model.safetensors", "bi_encoder.json"} <= names
    assert {name.rpartition(".")[2] for name in names} <= {"safetensors", "json", "txt"}
    for name in names - {"model.safetensors", "vocab.txt"}:
        json.loads((tmp_path / name).read_text())
    with safe_open(tmp_path / "model.safetensors", "np") as file:  # refuses what is no safetensors
        assert "embeddings.word_embeddings.weight" in file.keys()  # noqa: SIM118 (it is no dict)
