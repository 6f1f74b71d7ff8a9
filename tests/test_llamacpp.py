"""The embedded Gemma 270M through llama.cpp, for real.

One thread: llama.cpp's threads wait for each other by spinning, which on a busy machine takes minutes.

How many tokens are computed at once changes the arithmetic of a quantised model, by 0.2 in a logit and so now and then
by a word. Where answers are compared closely each prompt is asked alone, and once before, so that all but its last
token is in the prefix cache each time.
"""

from __future__ import annotations

import math

import pytest

from synthrec.config import Engine
from synthrec.engines import Sampling, load
from synthrec.errors import UserError

PROMPTS = {
    "en": "Shops sell many things. In a kitchen shop you find",
    "zh": "商店里卖很多东西。厨房用品店里有",
}
LANGUAGES = pytest.mark.parametrize("language", PROMPTS)
REVIEWS = {
    "en": (
        "Review: Broke on day two. Money back please.\nJudged: bad\n"
        "Review: Does exactly what it says.\nJudged: good\n"
        "Review: {}\nJudged:",
        (" good", " bad"),
        ["I love it, best I ever had.", "Terrible. It leaks and it smells.", "Works.", "Too small, sent it back."],
    ),
    "zh": (
        "评价：第二天就坏了，要求退款。\n判断：差\n评价：跟描述的一样。\n判断：好\n评价：{}\n判断：",
        ("好", "差"),
        ["太喜欢了，用过最好的。", "太差了，漏水，味道难闻。", "能用。", "太小了，退了。"],
    ),
}
PLAIN = {"stop": ()}


@pytest.fixture(scope="module")
def engine():
    settings = Engine.model_validate({"context": 256, "resources": {"slots": 2, "threads": 1}})
    one = load(settings)
    yield one
    one.close()


def say(engine, prompt, seed=1, **sampling):
    (answer,) = engine.generate([prompt], Sampling(**({"max_tokens": 10} | sampling)), [seed])
    assert answer.error is None
    assert answer.logprobs is None
    return answer


def judge(engine, language, review, choices=None):
    template, words, _ = REVIEWS[language]
    (answer,) = engine.choose([template.format(review)], choices or words)
    assert answer.error is None
    assert answer.text is None
    return answer.logprobs


# Writing.


@LANGUAGES
def test_greedy_writing_repeats_itself_whatever_the_seed(engine, language):
    say(engine, PROMPTS[language], **PLAIN)
    first, *others = (say(engine, PROMPTS[language], seed, **PLAIN) for seed in (1, 1, 2, 3))
    assert first.text
    assert first.prompt_tokens > 5
    assert first.completion_tokens == 10
    assert [other.text for other in others] == [first.text] * 3


@LANGUAGES
def test_a_seed_repeats_what_was_sampled_with_it(engine, language):
    say(engine, PROMPTS[language], **PLAIN)
    seeds = [1, 2, 3, 4, 1, 2, 3, 4]
    texts = [say(engine, PROMPTS[language], seed, temperature=0.7, **PLAIN).text for seed in seeds]
    assert texts[:4] == texts[4:]
    assert len(set(texts)) > 1


@LANGUAGES
def test_writing_stops_at_the_first_stop_string_and_leaves_it_out(engine, language):
    say(engine, PROMPTS[language], **PLAIN)
    whole = say(engine, PROMPTS[language], **PLAIN)
    at = next(i for i, sign in enumerate(whole.text) if i >= 3 and sign not in whole.text[:i])
    first, later = whole.text[at], whole.text[-3:]
    assert whole.text.index(later) > at
    for stop in [(first,), (later, first), (first, later)]:
        cut = say(engine, PROMPTS[language], stop=stop)
        assert cut.text == whole.text[:at]
        assert cut.completion_tokens < whole.completion_tokens
    assert say(engine, PROMPTS[language], stop=("\0",)).text == whole.text


def test_no_more_is_written_than_asked_for(engine):
    answer = say(engine, PROMPTS["en"], max_tokens=3, **PLAIN)
    assert answer.completion_tokens == 3


# Choosing.


@LANGUAGES
def test_log_probabilities_are_of_the_choices_alone(engine, language):
    for review in REVIEWS[language][2]:
        logprobs = judge(engine, language, review)
        assert len(logprobs) == 2
        assert sum(map(math.exp, logprobs)) == pytest.approx(1)


@LANGUAGES
def test_the_satisfied_and_the_cross_are_told_apart(engine, language):
    happy, cross = (judge(engine, language, review) for review in REVIEWS[language][2][:2])
    assert happy[0] > cross[0] + 0.2


@LANGUAGES
def test_the_order_of_the_choices_does_not_matter(engine, language):
    words, reviews = REVIEWS[language][1:]
    gaps = []
    for review in reviews:
        judge(engine, language, review)
        straight = judge(engine, language, review)
        assert judge(engine, language, review, words[::-1]) == pytest.approx(straight[::-1], abs=1e-3)
        gaps.append(abs(straight[0] - straight[1]))
    assert max(gaps) > 1  # else any order would do


@LANGUAGES
def test_lifting_the_choices_leaves_their_ratio_as_the_model_has_it(engine, language):
    template, words, reviews = REVIEWS[language]
    sure = f"{words[0]}{words[0]}{words[0]}{words[0]}{words[0]}"  # the other word is all but ruled out
    gaps = []
    for prompt in [*(template.format(review) for review in reviews), sure]:
        engine.choose([prompt], words)
        (answer,) = engine.choose([prompt], words)
        ask = {"prompt": prompt, "n_predict": 1, "n_probs": 20_000, "temperature": 0}
        reply = engine._server.handle_completions(ask)
        top = {t["token"]: t["logprob"] for t in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
        gaps.append(top[words[0]] - top[words[1]])
        assert answer.logprobs[0] - answer.logprobs[1] == pytest.approx(gaps[-1], abs=1e-3)
    assert max(gaps) > 4


def test_words_that_the_model_would_never_say_are_scored_too(engine):
    logprobs = judge(engine, "en", "It rains.", (" river", " seven"))
    assert sum(map(math.exp, logprobs)) == pytest.approx(1)


@LANGUAGES
def test_answers_come_in_the_order_of_their_prompts(engine, language):
    template, words, _ = REVIEWS[language]
    prompts = [template.format("one two " * n) for n in (3, 0, 5, 1, 6, 2, 4)]
    alone = [engine.choose([prompt], words)[0].prompt_tokens for prompt in prompts]
    assert len(set(alone)) == len(prompts)  # each is known by its length
    assert [answer.prompt_tokens for answer in engine.choose(prompts, words)] == alone
    written = engine.generate(prompts, Sampling(max_tokens=2), range(len(prompts)))
    assert [answer.prompt_tokens for answer in written] == alone


@pytest.mark.parametrize(
    ("choices", "wrong"),
    [((" good", " absolutely not"), " absolutely not"), (("好吃得不得了", "差"), "好吃得不得了"), ((" good", ""), "")],
)
def test_a_choice_that_is_not_one_token_is_told(engine, choices, wrong):
    for _ in range(2):  # it is not taken for checked once it has been refused
        with pytest.raises(UserError) as told:
            engine.choose([PROMPTS["en"]], choices)
        assert repr(wrong) in told.value.problem
        assert "shorter word" in told.value.hint


# Faults.


def test_a_prompt_longer_than_the_context_fails_alone(engine):
    long = "水" * 400
    written = engine.generate([PROMPTS["en"], long, PROMPTS["zh"]], Sampling(max_tokens=3, stop=()), [1, 2, 3])
    chosen = engine.choose([PROMPTS["en"], long, PROMPTS["zh"]], (" good", " bad"))
    for good, bad, other in (written, chosen):
        assert "context" in bad.error
        assert (bad.text, bad.logprobs, bad.prompt_tokens, bad.completion_tokens) == (None, None, 0, 0)
        assert good.error is other.error is None
    assert written[0].text
    assert written[2].text
    assert chosen[0].logprobs
    assert chosen[2].logprobs


def test_no_prompts_give_no_answers(engine):
    assert engine.generate([], Sampling(), []) == []
    assert engine.choose([], (" good", " bad")) == []


def test_a_model_file_that_is_not_there_is_told(tmp_path):
    path = str(tmp_path / "none.gguf")
    with pytest.raises(UserError) as told:
        load(Engine(model=path))
    assert path in told.value.problem
    assert "embedded" in told.value.hint
