"""Encoder-decoders of engine transformers against transformers itself: tiny random models, one prompt at a time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from synthrec import models
from synthrec.config import Engine
from synthrec.engines import Sampling, load, seq2seq
from synthrec.errors import UserError

CONTEXT = 64
START, END = 101, 102  # of the packaged encoder's tokenizer
OPENS = 1998  # the word that the second BART always writes first
PROMPTS = [
    "review: fine",
    "review: it boils a litre fast and it does not leak, what more is there to say",
    "review: the coat keeps the belly dry",
    "judge: it broke at once, the second one too",
    "kettle",
    "",
    "review: too small, sent it back. judged:",
]
CHOICES = (" good", " bad", " it leaks and it smells", " garden chair")
COUNT = 10
PLAIN = Sampling(max_tokens=COUNT, stop=())


def make_model(kind, words):
    torch.manual_seed(3)
    ends = {"pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": START, "tie_word_embeddings": False}
    if kind == "t5":
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        model = T5ForConditionalGeneration(T5Config(vocab_size=words, initializer_factor=4.0, **sizes, **ends))
        model.lm_head.weight.data.mul_(0.1)  # else it would be sure of every word
        return model
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 64))}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    ends |= {"bos_token_id": START, "forced_eos_token_id": None}
    model = BartForConditionalGeneration(
        BartConfig(vocab_size=words, d_model=32, init_std=0.5, **sizes, **heads, **ends)
    )
    model.generation_config.forced_eos_token_id = None
    if kind == "bart that opens":
        model.generation_config.forced_bos_token_id = OPENS
    return model


def saved(model, tokenizer, folder, **settings):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values = {"kind": "transformers", "model": str(folder), "dtype": "float32", "context": CONTEXT}
    return Engine.model_validate(values | {"resources": {"threads": 1}} | settings)


@pytest.fixture(scope="module", params=["t5", "bart", "bart that opens"])
def tiny(request, tmp_path_factory):
    """An engine over a saved random model, and the same model and tokenizer bare."""
    tokenizer = AutoTokenizer.from_pretrained(models.encoder("embedded"))
    model = make_model(request.param, len(tokenizer)).eval()
    engine = load(saved(model, tokenizer, tmp_path_factory.mktemp("tiny")))
    opening = [START, OPENS] if request.param == "bart that opens" else [START]
    yield SimpleNamespace(engine=engine, model=model, tokenizer=tokenizer, opening=opening)
    engine.close()


@pytest.fixture(params=[3, 32], ids=["batches", "one batch"])
def batch(request, monkeypatch):
    monkeypatch.setattr(seq2seq, "BATCH", request.param)


def tokens(tiny, text):
    return tiny.tokenizer(text, return_tensors="pt").input_ids


@torch.no_grad()
def tokens_alone(tiny, prompt, count=COUNT):
    opened = len(tiny.opening)  # generate counts what it was forced to write
    ids = tokens(tiny, prompt)
    out = tiny.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=count + opened - 1
    )
    return out[0, opened:].tolist()


def write_alone(tiny, prompt, stop=()):
    text = tiny.tokenizer.decode(tokens_alone(tiny, prompt), skip_special_tokens=True)
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]


@torch.no_grad()
def choose_alone(tiny, prompt, choices):
    """Each choice read by the decoder after the prompt, alone, without padding."""
    sums = []
    for choice in choices:
        tail = tiny.tokenizer(choice.strip(), add_special_tokens=False).input_ids
        reads = torch.tensor([[*tiny.opening, *tail]])
        scores = tiny.model(tokens(tiny, prompt), decoder_input_ids=reads).logits[0].log_softmax(-1)
        after = len(tiny.opening) - 1
        sums.append(sum(float(scores[after + place, token]) for place, token in enumerate(tail)))
    return torch.tensor(sums).log_softmax(-1).tolist()


def test_prompts_and_choices_are_what_the_tests_need(tiny):
    assert len({tokens(tiny, prompt).shape[1] for prompt in PROMPTS}) > 4
    assert len({len(tiny.tokenizer(one, add_special_tokens=False).input_ids) for one in CHOICES}) > 2
    scores = [choose_alone(tiny, prompt, CHOICES) for prompt in PROMPTS]
    assert max(abs(a - b) for a, b in zip(scores[0], scores[1], strict=True)) > 0.1  # the prompt matters


@pytest.mark.parametrize("stop", [(), ("e", "a"), ("\0",)], ids=["none", "some", "never"])
def test_greedy_writing_is_what_generate_writes_for_each_prompt_alone(tiny, batch, stop):
    answers = tiny.engine.generate(PROMPTS, replace(PLAIN, stop=stop), range(len(PROMPTS)))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer.text == write_alone(tiny, prompt, stop)
        assert answer.prompt_tokens == tokens(tiny, prompt).shape[1]
        assert (answer.logprobs, answer.error) == (None, None)
    assert len({answer.text for answer in answers}) > 3


def test_rows_that_end_early_leave_their_neighbours_alone(tiny, monkeypatch):
    # From here on the model ends where it writes one of these: one row at once, another after a few tokens.
    ends = [tokens_alone(tiny, PROMPTS[0])[0], tokens_alone(tiny, PROMPTS[3])[3]]
    for model in (tiny.model, tiny.engine._model):
        monkeypatch.setattr(model.generation_config, "eos_token_id", ends)
    answers = tiny.engine.generate(PROMPTS, PLAIN, range(len(PROMPTS)))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        written = [token for token in tokens_alone(tiny, prompt) if token not in ends]
        assert answer.text == tiny.tokenizer.decode(written, skip_special_tokens=True)
        assert answer.completion_tokens == len(written)
    assert answers[0].completion_tokens == 0
    assert len({answer.completion_tokens for answer in answers}) > 1


def test_what_a_seed_writes_does_not_depend_on_what_else_is_in_the_batch(tiny, batch):
    hot, seeds = replace(PLAIN, temperature=0.7, top_p=0.95), [7 * n + 1 for n in range(len(PROMPTS))]
    alone = [tiny.engine.generate([p], hot, [s])[0].text for p, s in zip(PROMPTS, seeds, strict=True)]
    assert [answer.text for answer in tiny.engine.generate(PROMPTS, hot, seeds)] == alone
    assert [answer.text for answer in tiny.engine.generate(PROMPTS[::-1], hot, seeds[::-1])] == alone[::-1]
    assert len({tiny.engine.generate(PROMPTS[:1], hot, [seed])[0].text for seed in range(6)}) > 3


def test_choices_are_scored_by_the_sum_along_each(tiny, batch):
    answers = tiny.engine.choose(PROMPTS, [CHOICES] * len(PROMPTS))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, CHOICES), rel=1e-4, abs=1e-4)
        assert answer.prompt_tokens == tokens(tiny, prompt).shape[1]
        assert (answer.text, answer.error) == (None, None)


def test_each_prompt_has_choices_of_its_own(tiny):
    own = [CHOICES[: n % 4 + 1] for n in range(len(PROMPTS))]
    for prompt, words, answer in zip(PROMPTS, own, tiny.engine.choose(PROMPTS, own), strict=True):
        assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, words), rel=1e-4, abs=1e-4)


def test_two_threads_that_ask_at_once_get_what_one_gets(tiny):
    def both(prompts):
        written = [answer.text for answer in tiny.engine.generate(prompts, PLAIN, range(len(prompts)))]
        return written, [answer.logprobs for answer in tiny.engine.choose(prompts, [CHOICES] * len(prompts))]

    asked = [PROMPTS, PROMPTS[::-1], PROMPTS[:3]] * 2
    alone = [both(prompts) for prompts in asked]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(both, asked)) == alone


# Faults.


def test_a_prompt_longer_than_the_context_fails_alone(tiny, batch):
    prompts = [PROMPTS[0], "kettle " * CONTEXT, *PROMPTS[1:]]
    written = tiny.engine.generate(prompts, PLAIN, range(len(prompts)))
    chosen = tiny.engine.choose(prompts, [CHOICES] * len(prompts))
    for place, (prompt, said, scored) in enumerate(zip(prompts, written, chosen, strict=True)):
        if place == 1:
            assert f"the context holds {CONTEXT}" in said.error
            assert f"the context holds {CONTEXT}" in scored.error
            assert said.text is scored.logprobs is None
        else:
            assert said.text == write_alone(tiny, prompt)
            assert scored.logprobs == pytest.approx(choose_alone(tiny, prompt, CHOICES), rel=1e-4, abs=1e-4)


def test_a_choice_without_a_token_is_told_and_costs_its_prompt_alone(tiny):
    good, bad, none = tiny.engine.choose(PROMPTS[:3], [CHOICES, (" good", " "), ()])
    assert good.logprobs == pytest.approx(choose_alone(tiny, PROMPTS[0], CHOICES), rel=1e-4, abs=1e-4)
    for wrong in (bad, none):
        assert "none of them empty" in wrong.error
        assert wrong.logprobs is None


def test_no_prompts_give_no_answers(tiny):
    assert tiny.engine.generate([], PLAIN, []) == []
    assert tiny.engine.choose([], []) == []


@pytest.mark.parametrize("place", ["generation_config.json", None])
def test_where_an_answer_begins_may_stand_in_either_config_and_must_in_one(tmp_path, place):
    tokenizer = AutoTokenizer.from_pretrained(models.encoder("embedded"))
    settings = saved(make_model("t5", len(tokenizer)), tokenizer, tmp_path)
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / name).read_text())
        if name != place:
            values.pop("decoder_start_token_id")
        (tmp_path / name).write_text(json.dumps(values))
    if place is None:
        with pytest.raises(UserError, match="how its answers begin"):
            load(settings)
    else:
        assert load(settings).generate(["x"], PLAIN, [1])[0].text
