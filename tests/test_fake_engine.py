"""The engine without a model: its answers follow from the prompts alone, after a set time."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from synthrec.config import Engine
from synthrec.engines import Sampling, load

PROMPTS = ["Write a query for the red kettle:", "评价：很好 判断", "kettle"]


def fake(**options):
    return load(Engine(kind="fake", options=options))


def test_it_writes_the_last_words_of_each_prompt_and_counts_them():
    answers = fake().generate(PROMPTS, Sampling(temperature=1.0), [1, 2, 3])
    assert [answer.text for answer in answers] == ["for the red kettle:", "评价：很好 判断", "kettle"]
    assert [answer.prompt_tokens for answer in answers] == [7, 2, 1]
    assert {answer.error for answer in answers} == {None}


def test_scores_follow_from_prompt_and_choice_alone():
    choices = [(" good", " bad"), ("好", "差", "一般"), (" bad", " good")]
    answers = fake().choose(PROMPTS, choices)
    for words, answer in zip(choices, answers, strict=True):
        assert len(answer.logprobs) == len(words)
        assert sum(map(math.exp, answer.logprobs)) == pytest.approx(1)
    assert fake().choose(PROMPTS[::-1], choices[::-1]) == answers[::-1]
    (turned,) = fake().choose(PROMPTS[:1], [(" bad", " good")])
    assert turned.logprobs == pytest.approx(answers[0].logprobs[::-1])
    assert turned.logprobs != answers[2].logprobs  # another prompt


def seconds(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def test_answers_take_their_time_and_all_callers_share_the_slots():
    one, two = fake(seconds=0.05), fake(seconds=0.05, parallel=2)
    assert seconds(lambda: one.generate(["x"] * 6, Sampling(), range(6))) >= 0.3
    assert 0.3 <= min(seconds(lambda: two.choose(["x"] * 12, [("a", "b")] * 12)) for _ in range(3)) < 0.55
    with ThreadPoolExecutor(2) as pool:
        both = seconds(lambda: list(pool.map(lambda _: one.generate(["x"] * 3, Sampling(), range(3)), range(2))))
    assert both >= 0.3


def test_some_prompts_take_longer():
    slow = fake(seconds=0.01, long_every=1, long_factor=20)
    assert seconds(lambda: slow.generate(["x"], Sampling(), [1])) >= 0.2


def test_a_journal_keeps_how_many_prompts_each_call_had(tmp_path):
    engine = fake(journal=str(tmp_path))
    engine.generate(PROMPTS, Sampling(), [1, 2, 3])
    engine.choose(PROMPTS[:2], [("a", "b")] * 2)
    assert sorted(path.name.rsplit("-", 1)[1] for path in tmp_path.iterdir()) == ["2", "3"]
