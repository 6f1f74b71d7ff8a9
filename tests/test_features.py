"""Hidden states held against plain forwards of a tiny random model; hashed n-grams against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_transformers_engine import HEAD, SHARED, TAILS, make_model, make_tokenizer

from synthrec.errors import UserError
from synthrec.recommenders.features import Features, HiddenStates, ngrams, shared

APART = [*TAILS, "x"]


@pytest.fixture(scope="module", params=["llama", "sliding", "wide"])
def parts(request):
    tokenizer = make_tokenizer()
    return make_model(request.param, len(tokenizer)).eval(), tokenizer


@torch.no_grad()
def alone(model, tokenizer, prompt, prefix, words):
    """A plain forward with no cache and no padding."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    out = model(ids, output_hidden_states=True)
    states = [out.hidden_states[1][0, -1], out.hidden_states[2][0, -1], out.hidden_states[1][0, prefix:].mean(0)]
    return torch.cat(states).numpy(), out.logits[0, -1, words].numpy()


@pytest.mark.parametrize("prompts", [SHARED, APART], ids=["shared", "apart"])
@pytest.mark.parametrize("batch", [3, 32])
def test_states_and_logits_are_those_of_each_prompt_alone(parts, prompts, batch):
    model, tokenizer = parts
    ids = tokenizer(prompts).input_ids
    read = HiddenStates(model, tokenizer, layers=(1, 2), mean=1, batch_size=batch)
    done = []
    found = read.read(prompts, ("好", "差"), done.append)
    window = getattr(model.config, "sliding_window", None) or 10_000
    prefix = 0 if max(map(len, ids)) > window else shared(ids)
    words = [tokenizer(word).input_ids[0] for word in ("好", "差")]
    assert found.states.shape == (len(prompts), read.width)
    assert sum(done) == len(prompts)
    for row, prompt in enumerate(prompts):
        states, logits = alone(model, tokenizer, prompt, prefix, words)
        np.testing.assert_allclose(found.states[row], states, atol=1e-4)
        np.testing.assert_allclose(found.logits[row], logits, atol=1e-4)


def test_no_prompts_give_no_rows(parts):
    read = HiddenStates(*parts, layers=(1,), mean=2)
    assert read.read([], ("好",)).states.shape == (0, read.width)


def test_a_choice_of_several_tokens_and_a_layer_that_is_not_there_are_refused(parts):
    with pytest.raises(UserError, match="tokens"):
        HiddenStates(*parts, layers=(1,), mean=2).read([HEAD], ("好吃得不得了",))
    with pytest.raises(UserError, match="no layer 3"):
        HiddenStates(*parts, layers=(1, 3), mean=2)


def test_a_saved_model_reads_as_it_did(parts, tmp_path):
    for one in parts:
        one.save_pretrained(tmp_path)
    fresh = HiddenStates.load(str(tmp_path), (1, 2), 1).read(SHARED, ("好",))
    before = HiddenStates(*parts, (1, 2), 1).read(SHARED, ("好",))
    np.testing.assert_allclose(fresh.states, before.states, atol=0.1 * np.abs(before.states).max())
    with pytest.raises(UserError, match="no model folder"):
        HiddenStates.load(str(tmp_path / "nothing"), (1,), 1)


def test_the_shared_prefix_leaves_each_row_a_token():
    assert shared([[1, 2, 3], [1, 2, 4]]) == 2
    assert shared([[1, 2], [1, 2, 4]]) == 1
    assert shared([[1, 2], [1, 2]]) == 1
    assert shared([[1], [2]]) == 0


def test_ngrams_are_hashed_without_a_vocabulary_and_count_once():
    found = ngrams(["很好", "很好很好很好", "差", ""], longest=2, buckets=2**12)
    assert found.shape == (4, 2**12)
    assert found[0].nnz == 3  # 很, 好, 很好
    assert found[1].nnz == 4  # 好很 as well
    assert set(found[0].indices) < set(found[1].indices)
    assert not set(found[2].indices) & set(found[1].indices)
    assert found[3].nnz == 0
    np.testing.assert_allclose(found[:3].power(2).sum(1), 1, rtol=1e-5)


def test_a_batch_holds_the_rows_asked_for():
    states = np.arange(8, dtype=np.float32).reshape(4, 2)
    both = Features(states, ngrams(["好", "差", "很好", ""], buckets=64))
    batch = both.batch([2, 0])
    assert len(both) == 4
    assert batch["states"].tolist() == [[4, 5], [0, 1]]
    assert [len(row) for row in batch["ngrams"]] == [3, 1]
    assert both.take([3, 1]).batch([1])["ngrams"][0].tolist() == both.batch([1])["ngrams"][0].tolist()
