"""The embedded Gemma 270M through llama.cpp, for real.

One thread: llama.cpp's threads wait for each other by spinning, which on a busy machine takes minutes.

How many tokens are computed at once changes the arithmetic of a quantised model, by 0.2 in a logit and so now and then
by a word. Where answers are compared closely each prompt is asked alone, and once before, so that all but its last
token is in the prefix cache each time.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import jsonschema
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
    (answer,) = engine.choose([template.format(review)], [choices or words])
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
        engine.choose([prompt], [words])
        (answer,) = engine.choose([prompt], [words])
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
    alone = [engine.choose([prompt], [words])[0].prompt_tokens for prompt in prompts]
    assert len(set(alone)) == len(prompts)  # each is known by its length
    assert [answer.prompt_tokens for answer in engine.choose(prompts, [words] * len(prompts))] == alone
    written = engine.generate(prompts, Sampling(max_tokens=2), range(len(prompts)))
    assert [answer.prompt_tokens for answer in written] == alone


# Choices of several tokens.


def next_tokens(engine, prompt):
    """What the model has of the token after a prompt: text -> log-probability, before any sampling."""
    ask = {"prompt": prompt, "n_predict": 1, "n_probs": 20_000, "temperature": 0, "cache_prompt": True}
    reply = engine._server.handle_completions(ask)
    return {t["token"]: t["logprob"] for t in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


# Choices, each as the tokens that the tokenizer makes of it.
PHRASES = {"en": [[" good"], [" very", " good"], [" not", " at", " all"]], "zh": [["好"], ["非常", "不好"], ["差"]]}


@LANGUAGES
def test_a_choice_of_several_tokens_has_the_sum_of_what_each_of_them_has(engine, language):
    template, _, reviews = REVIEWS[language]
    prompt, phrases = template.format(reviews[0]), PHRASES[language]
    words = ["".join(parts) for parts in phrases]
    (answer,) = engine.choose([prompt], [words])
    assert (answer.text, answer.error) == (None, None)
    assert sum(map(math.exp, answer.logprobs)) == pytest.approx(1)
    sums = []
    for parts in phrases:
        ahead = ["".join(parts[:place]) for place in range(len(parts))]
        sums.append(sum(next_tokens(engine, prompt + a)[part] for a, part in zip(ahead, parts, strict=True)))
    for place in (1, 2):  # how many tokens are computed at once shifts a logit by some tenths
        assert answer.logprobs[place] - answer.logprobs[0] == pytest.approx(sums[place] - sums[0], abs=0.5)
    assert max(abs(one - sums[0]) for one in sums) > 2


def test_prompts_with_choices_of_one_token_and_of_several_are_asked_in_one_call(engine):
    template, words, reviews = REVIEWS["en"]
    prompts = [template.format(review) for review in reviews]
    own = [words, (" good", " not at all"), words[::-1], (" awful beyond words", " good", " bad")]
    together = engine.choose(prompts, own)
    for prompt, choices, answer in zip(prompts, own, together, strict=True):
        (alone,) = engine.choose([prompt], [choices])
        assert len(answer.logprobs) == len(choices)
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=0.5)
    assert max(together[0].logprobs[0], together[2].logprobs[1]) > math.log(0.5)  # the happy one, whatever the order
    assert together[0].completion_tokens == 1
    assert together[3].completion_tokens > 4


def test_signs_that_a_grammar_must_quote_are_scored(engine):
    quoted = (' "so-so"', " back\\slash", " two\nlines")
    (answer,) = engine.choose([PROMPTS["en"]], [quoted])
    assert answer.error is None
    assert sum(map(math.exp, answer.logprobs)) == pytest.approx(1)


def test_a_choice_without_a_token_is_told_and_costs_its_prompt_alone(engine):
    good, bad, none = engine.choose([PROMPTS["en"]] * 3, [(" good", " bad"), (" good", ""), ()])
    assert good.logprobs
    for wrong in (bad, none):
        assert "none of them empty" in wrong.error
        assert wrong.logprobs is None


# Under a schema.


def test_an_answer_under_a_schema_obeys_it(engine):
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue"]},
            "pieces": {"type": "integer", "minimum": 1, "maximum": 99},
            "quiet": {"type": "boolean"},
        },
        "required": ["colour", "pieces", "quiet"],
        "additionalProperties": False,
    }
    prompts = [f"{PROMPTS['en']} a kettle.\nAs JSON:", f"{PROMPTS['zh']}水壶。\nJSON：", "It rains."]
    # A stop string inside the object does not cut it.
    answers = engine.generate(prompts, Sampling(max_tokens=60, stop=('"',), schema=json.dumps(schema)), [1, 2, 3])
    for answer in answers:
        jsonschema.validate(json.loads(answer.text), schema)


# Threads.


def test_two_threads_that_ask_at_once_get_what_one_gets(engine):
    prompts = ["1 2 3 4 5 6 7 8 9", "a b c d e f g h"]  # of which the model is sure, however its sums are rounded

    def both(prompt):
        (scored,) = engine.choose([prompt], [(" 10", " i j k", " zebra")])
        return say(engine, prompt, max_tokens=4).text, max(range(3), key=scored.logprobs.__getitem__)

    alone = [both(prompt) for prompt in prompts]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(both, prompts * 2)) == alone * 2


# Chats.


def test_a_chat_is_asked_in_turns_and_its_choices_open_the_answer(engine):
    settings = {"context": 256, "chat": True, "resources": {"slots": 1, "threads": 1}}
    chat = load(Engine.model_validate(settings))
    ask = "Is rain wet? Answer yes or no."
    turns = f"<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n"  # llama.cpp's, where the file names none
    (scored,) = chat.choose([ask], [(" yes", " no")])
    (forced,) = chat.choose([ask], [(" yes", " not at all")])
    said = say(chat, ask, max_tokens=4)
    chat.close()
    bare = next_tokens(engine, turns)
    assert scored.logprobs[0] - scored.logprobs[1] == pytest.approx(bare["yes"] - bare["no"], abs=0.5)
    parts = [next_tokens(engine, turns + a)[b] for a, b in (("", "not"), ("not", " at"), ("not at", " all"))]
    assert forced.logprobs[0] - forced.logprobs[1] == pytest.approx(bare["yes"] - sum(parts), abs=0.5)
    assert said.text == say(engine, turns, max_tokens=4).text
    assert said.prompt_tokens == scored.prompt_tokens == forced.prompt_tokens == say(engine, turns).prompt_tokens


# Faults.


def test_a_prompt_longer_than_the_context_fails_alone(engine):
    long = "水" * 400
    written = engine.generate([PROMPTS["en"], long, PROMPTS["zh"]], Sampling(max_tokens=3, stop=()), [1, 2, 3])
    asked = [PROMPTS["en"], long, PROMPTS["zh"]]
    chosen, forced = (engine.choose(asked, [words] * 3) for words in ((" good", " bad"), (" good", " not at all")))
    for good, bad, other in (written, chosen, forced):
        assert "context" in bad.error
        assert (bad.text, bad.logprobs, bad.prompt_tokens, bad.completion_tokens) == (None, None, 0, 0)
        assert good.error is other.error is None
    assert written[0].text
    assert written[2].text
    assert chosen[0].logprobs
    assert forced[2].logprobs


def test_no_prompts_give_no_answers(engine):
    assert engine.generate([], Sampling(), []) == []
    assert engine.choose([], []) == []


def test_a_model_file_that_is_not_there_is_told(tmp_path):
    path = str(tmp_path / "none.gguf")
    with pytest.raises(UserError) as told:
        load(Engine(model=path))
    assert path in told.value.problem
    assert "embedded" in told.value.hint
