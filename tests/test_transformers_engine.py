"""The transformers engine held against transformers itself: tiny random models, one prompt at a time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from synthrec.config import Engine
from synthrec.engines import Sampling, load, transformers
from synthrec.errors import UserError

CONTEXT = 128
# A window less than half of the shared prefix, and one that holds each prompt but not what is written after it.
WINDOWS = {"sliding": 12, "wide": 54}
CHOICES = (" good", " bad", "好", "差")
PHRASES = (" good", " wonderful beyond words", "好", "好吃得不得了")  # of one token, and of several

HEAD = "Shop reviews, judged.\nReview: it broke at once\nJudged: bad\n评价：很好\n判断：好\n"
TAILS = [
    "Review: fine\nJudged:",
    "Review: it boils a litre fast and it does not leak, what more is there to say\nJudged:",
    "评价：坏了\n判断：",
    "评价：水开得快，夜里也安静，已经是第二次买了\n判断：",
    "Review: it broke\nJudged:",
    "Review: it broke at once, the second one too\nJudged:",
    "Review:",
]
SHARED = [HEAD + tail for tail in TAILS]  # prompts as tasks make them: the longer part is the same
APART = [*TAILS, "x"]  # nothing in common
PROMPTS = pytest.mark.parametrize("prompts", [SHARED, APART], ids=["shared", "apart"])


def make_tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    made.train_from_iterator(
        [*SHARED, *[f"Judged: {word}\n判断：{sign}" for word, sign in (("good", "好"), ("bad", "差"))] * 9],
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_model(kind, words):
    common = {"vocab_size": words, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    common |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0}
    common |= {"initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    torch.manual_seed(5)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**common))
    layers = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**common, head_dim=16, sliding_window=WINDOWS[kind], layer_types=layers))


@pytest.fixture(scope="module", params=["llama", "sliding", "wide"])
def tiny(request, tmp_path_factory):
    """An engine over a saved random model, and the same model and tokenizer bare."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = make_tokenizer()
    model = make_model(request.param, len(tokenizer)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"kind": "transformers", "model": str(folder), "dtype": "float32", "context": CONTEXT}
    engine = load(Engine.model_validate(settings | {"resources": {"threads": 1}}))
    yield SimpleNamespace(engine=engine, model=model, tokenizer=tokenizer)
    engine.close()


@pytest.fixture(params=[3, 32], ids=["batches", "one batch"])
def batch(request, monkeypatch):
    monkeypatch.setattr(transformers, "BATCH", request.param)


def tokens(tiny, text):
    return tiny.tokenizer(text, return_tensors="pt").input_ids


def tail(tiny, choice):
    """A choice's tokens after text."""
    before = tokens(tiny, "Answer:").shape[1]
    return tokens(tiny, "Answer:" + choice)[0, before:].tolist()


@torch.no_grad()
def choose_alone(tiny, prompt, choices, head=None):
    """Plain forwards, with no cache, padding or batch: of the prompt, then with one more token of the choice."""
    head = tokens(tiny, prompt)[0].tolist() if head is None else head
    sums = []
    for own in (tail(tiny, choice) for choice in choices):
        reads = [torch.tensor([head + own[:place]]) for place in range(len(own))]
        scores = [tiny.model(ids).logits[0, -1].log_softmax(-1) for ids in reads]
        sums.append(sum(float(line[token]) for line, token in zip(scores, own, strict=True)))
    return torch.tensor(sums).log_softmax(-1).tolist()


def choose(tiny, prompts, choices):
    """The same choices for each prompt."""
    return tiny.engine.choose(prompts, [choices] * len(prompts))


@torch.no_grad()
def write_alone(tiny, prompt, count, stop=()):
    text = tiny.tokenizer.decode(tokens_alone(tiny, prompt, count), skip_special_tokens=True)
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]


@torch.no_grad()
def tokens_alone(tiny, prompt, count):
    ids = tokens(tiny, prompt)
    out = tiny.model.generate(ids, do_sample=False, max_new_tokens=count, attention_mask=torch.ones_like(ids))
    return out[0, ids.shape[1] :].tolist()


# The tests below say nothing unless these hold.


def test_prompts_are_what_the_tests_need(tiny):
    lengths = [tokens(tiny, prompt).shape[1] for prompt in SHARED]
    assert len(set(lengths)) > 4
    assert max(lengths) + 12 < CONTEXT
    assert transformers._common_prefix([tokens(tiny, p)[0].tolist() for p in SHARED]) > 2 * WINDOWS["sliding"]
    assert WINDOWS["wide"] - 12 < max(lengths) <= WINDOWS["wide"]
    assert transformers._common_prefix([tokens(tiny, p)[0].tolist() for p in APART]) == 0
    picked = {max(zip(choose_alone(tiny, p, CHOICES), CHOICES, strict=True))[1] for p in [*SHARED, *APART]}
    assert len(picked) > 1


# Choosing.


@PROMPTS
def test_choices_are_scored_as_by_a_plain_forward_of_each_prompt_alone(tiny, batch, prompts):
    answers = choose(tiny, prompts, CHOICES)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, CHOICES), abs=1e-4)
        assert answer.prompt_tokens == tokens(tiny, prompt).shape[1]
        assert (answer.text, answer.error, answer.completion_tokens) == (None, None, 0)


def test_one_prompt_a_repeated_prompt_and_a_new_prefix_are_scored_alike(tiny):
    # One after the other: the prefix that is kept between calls is now the whole prompt but a token, now another's.
    other = [HEAD.replace("broke", "leaks") + tail for tail in TAILS[:2]]
    for prompts in ([SHARED[0]], [SHARED[1]] * 3, SHARED[:2], other, SHARED[:2], ["x"], SHARED[:2]):
        for prompt, answer in zip(prompts, choose(tiny, prompts, CHOICES[:2]), strict=True):
            assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, CHOICES[:2]), abs=1e-4)


@PROMPTS
def test_choices_of_several_tokens_are_scored_by_the_sum_along_each(tiny, batch, prompts):
    assert {len(tail(tiny, one)) > 1 for one in PHRASES} == {True, False}
    for prompt, answer in zip(prompts, choose(tiny, prompts, PHRASES), strict=True):
        assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, PHRASES), abs=1e-4)
        assert answer.prompt_tokens == tokens(tiny, prompt).shape[1]
        assert (answer.text, answer.error) == (None, None)


def test_each_prompt_has_choices_of_its_own(tiny, batch):
    own = [CHOICES, PHRASES, CHOICES[2:], PHRASES[1:], (" bad", " good", " broke at once"), PHRASES[::-1], CHOICES[:1]]
    for prompt, words, answer in zip(SHARED, own, tiny.engine.choose(SHARED, own), strict=True):
        assert answer.logprobs == pytest.approx(choose_alone(tiny, prompt, words), abs=1e-4)


def test_a_choice_without_a_token_is_told_and_costs_its_prompt_alone(tiny):
    good, bad, none, other = tiny.engine.choose(SHARED[:4], [CHOICES, (" good", ""), (), PHRASES])
    for wrong in (bad, none):
        assert "none of them empty" in wrong.error
        assert wrong.logprobs is None
    assert good.logprobs == pytest.approx(choose_alone(tiny, SHARED[0], CHOICES), abs=1e-4)
    assert other.logprobs == pytest.approx(choose_alone(tiny, SHARED[3], PHRASES), abs=1e-4)


# Writing.


@PROMPTS
@pytest.mark.parametrize("stop", [(), ("e", "。", " "), ("\0",)], ids=["none", "some", "never"])
def test_greedy_writing_is_what_generate_writes_for_each_prompt_alone(tiny, batch, prompts, stop):
    answers = tiny.engine.generate(prompts, Sampling(max_tokens=12, stop=stop), range(len(prompts)))
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == write_alone(tiny, prompt, 12, stop)
        assert answer.prompt_tokens == tokens(tiny, prompt).shape[1]
        assert (answer.logprobs, answer.error) == (None, None)
    assert len({answer.text for answer in answers}) > 3


def test_a_stop_string_of_several_tokens_is_left_out_whole(tiny):
    whole = write_alone(tiny, SHARED[0], 12)
    stop = whole[4:7]
    (answer,) = tiny.engine.generate([SHARED[0]], Sampling(max_tokens=12, stop=(stop,)), [0])
    assert answer.text == whole[: whole.index(stop)]
    assert 0 < answer.completion_tokens < 12


def test_rows_that_end_early_leave_their_neighbours_alone(tiny, monkeypatch):
    # From here on the model ends where it writes one of these: one row at once, another after a few tokens.
    ends = [tokens_alone(tiny, SHARED[0], 1)[0], tokens_alone(tiny, SHARED[3], 4)[3]]
    for model in (tiny.model, tiny.engine._model):
        monkeypatch.setattr(model.generation_config, "eos_token_id", ends)
    answers = tiny.engine.generate(SHARED, Sampling(max_tokens=12, stop=()), range(len(SHARED)))
    for prompt, answer in zip(SHARED, answers, strict=True):
        written = [token for token in tokens_alone(tiny, prompt, 12) if token not in ends]
        assert answer.text == tiny.tokenizer.decode(written, skip_special_tokens=True)
        assert answer.completion_tokens == len(written)
    assert answers[0].completion_tokens == 0
    assert len({answer.completion_tokens for answer in answers}) > 2


# Sampling.

HOT = Sampling(temperature=0.7, top_p=0.95, max_tokens=12, stop=())


@PROMPTS
@pytest.mark.parametrize("stop", [(), ("e", "。", " ")], ids=["none", "some"])
def test_what_a_seed_writes_does_not_depend_on_what_else_is_in_the_batch(tiny, batch, prompts, stop):
    seeds, sampling = [7 * n + 1 for n in range(len(prompts))], replace(HOT, stop=stop)
    alone = [tiny.engine.generate([p], sampling, [s])[0].text for p, s in zip(prompts, seeds, strict=True)]
    together = [answer.text for answer in tiny.engine.generate(prompts, sampling, seeds)]
    turned = [answer.text for answer in tiny.engine.generate(prompts[::-1], sampling, seeds[::-1])]
    assert together == alone
    assert turned == alone[::-1]


def test_another_seed_writes_another_text_and_a_cold_one_the_greedy_text(tiny):
    texts = {tiny.engine.generate([SHARED[0]], HOT, [seed])[0].text for seed in range(6)}
    assert len(texts) > 3
    greedy = write_alone(tiny, SHARED[0], 12)
    narrow = replace(HOT, top_p=0.0)  # the nucleus is the likeliest token alone
    assert {tiny.engine.generate([SHARED[0]], narrow, [seed])[0].text for seed in range(3)} == {greedy}


@torch.no_grad()
def test_first_words_are_sampled_as_often_as_the_model_has_them(tiny):
    logits = tiny.model(tokens(tiny, SHARED[2])).logits[0, -1]
    probs = (logits / 0.7).softmax(-1)
    ranked, order = probs.sort(descending=True)
    inside = order[: int((ranked.cumsum(-1) < 0.5).sum()) + 1].tolist()  # the fewest tokens that hold half
    many = 600
    sampling = replace(HOT, top_p=0.5, max_tokens=1)
    texts = Counter(answer.text for answer in tiny.engine.generate([SHARED[2]] * many, sampling, range(many)))
    expected = Counter()  # by text, since several broken characters read alike
    for token in inside:
        expected[tiny.tokenizer.decode([token])] += float(probs[token] / probs[inside].sum())
    assert len(expected) > 1
    assert set(texts) <= set(expected)
    for text, share in expected.items():
        assert texts[text] / many == pytest.approx(share, abs=4 * (share * (1 - share) / many) ** 0.5 + 1e-3)


# Threads.


def test_two_threads_that_ask_at_once_get_what_one_gets(tiny):
    greedy = Sampling(max_tokens=8, stop=())

    def both(prompts):
        written = [answer.text for answer in tiny.engine.generate(prompts, greedy, range(len(prompts)))]
        return written, [answer.logprobs for answer in choose(tiny, prompts, PHRASES)]

    asked = [SHARED, APART] * 3
    alone = [both(prompts) for prompts in asked]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(both, asked))
    for (texts, scores), (wanted, expected) in zip(together, alone, strict=True):
        assert texts == wanted
        assert scores == [pytest.approx(one, abs=1e-4) for one in expected]


# Chats.

TEMPLATE = "{% for turn in messages %}<s>{{ turn.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


def chatting(tiny, folder, template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tiny.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"kind": "transformers", "model": str(folder), "dtype": "float32", "context": CONTEXT, "chat": True}
    return load(Engine.model_validate(settings | {"resources": {"threads": 1}}))


def test_a_chat_s_prompt_is_a_turn_and_its_choices_open_the_answer(tiny, tmp_path):
    engine = chatting(tiny, tmp_path, TEMPLATE)
    words = (" good", "bad", " wonderful beyond words")
    answers = engine.choose(SHARED[:3], [words] * 3)
    written = engine.generate(SHARED[:3], Sampling(max_tokens=6, stop=()), [0] * 3)
    for prompt, scored, said in zip(SHARED, answers, written, strict=False):
        turn = [1, *tokens(tiny, prompt)[0].tolist(), 2, 1]
        assert scored.prompt_tokens == said.prompt_tokens == len(turn)
        expected = choose_alone(tiny, "", [word.strip() for word in words], turn)
        assert scored.logprobs == pytest.approx(expected, abs=1e-4)
        ids = torch.tensor([turn])
        out = tiny.model.generate(ids, do_sample=False, max_new_tokens=6, attention_mask=torch.ones_like(ids))
        assert said.text == tiny.tokenizer.decode(out[0, len(turn) :], skip_special_tokens=True)


def test_a_model_that_cannot_chat_is_told(tiny, tmp_path):
    engine = chatting(tiny, tmp_path, None)
    with pytest.raises(UserError, match="no chat template"):
        engine.generate(["x"], Sampling(), [1])


# Faults.


def test_a_prompt_longer_than_the_context_fails_alone(tiny, batch):
    long = "水 x" * CONTEXT
    for prompts in ([SHARED[0], long, SHARED[3]], [long], [*APART, long]):
        written = tiny.engine.generate(prompts, Sampling(max_tokens=4, stop=()), range(len(prompts)))
        for words in (CHOICES, PHRASES):
            chosen = choose(tiny, prompts, words)
            for prompt, said, scored in zip(prompts, written, chosen, strict=True):
                if prompt == long:
                    assert f"the context holds {CONTEXT}" in said.error
                    assert f"the context holds {CONTEXT}" in scored.error
                    assert said.text is scored.logprobs is None
                else:
                    assert said.text == write_alone(tiny, prompt, 4)
                    assert scored.logprobs == pytest.approx(choose_alone(tiny, prompt, words), abs=1e-4)


@pytest.mark.parametrize("words", [CHOICES, PHRASES], ids=["one token", "several"])
def test_a_prompt_without_a_token_fails_alone(tiny, words):
    prompts = [SHARED[0], "", SHARED[3]]
    written = tiny.engine.generate(prompts, Sampling(max_tokens=4, stop=()), [1, 2, 3])
    chosen = choose(tiny, prompts, words)
    assert "0 tokens" in written[1].error
    assert "0 tokens" in chosen[1].error
    for place in (0, 2):
        assert written[place].text == write_alone(tiny, prompts[place], 4)
        assert chosen[place].logprobs == pytest.approx(choose_alone(tiny, prompts[place], words), abs=1e-4)


def test_no_prompts_give_no_answers(tiny):
    assert tiny.engine.generate([], Sampling(), []) == []
    assert tiny.engine.choose([], []) == []


def test_the_embedded_model_is_not_one_of_transformers():
    with pytest.raises(UserError) as told:
        load(Engine(kind="transformers"))
    assert "embedded" in told.value.problem
    assert "llamacpp" in told.value.hint


def test_a_model_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError) as told:
        load(Engine(kind="transformers", model=str(tmp_path / "none")))
    assert str(tmp_path / "none") in told.value.problem


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(UserError) as told:
        load(Engine(kind="transformers", model=str(tmp_path)))
    assert str(tmp_path) in told.value.problem
