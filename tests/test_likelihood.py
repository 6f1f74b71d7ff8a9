"""Likelihood of replies: against the model read in one piece, and what the second term takes back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_models import gemma

from synthrec.recommenders.likelihood import SPEAKERS, Likelihood, shown

TURNS = ["几天到", "三天", "好的，发什么快递"]
REPLIES = ["韵达", "好的", "默认是韵达快递哦，三天到", "好", "发韵达", "三天到哦", "快递"]
OPENING = "顾客：在吗\n客服：在的\n\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    texts = [*TURNS, *REPLIES, OPENING, "，。多余的字", *SPEAKERS]
    return Likelihood.load(str(gemma(tmp_path_factory.mktemp("lm"), texts)), [*TURNS, *REPLIES], OPENING)


def in_one_piece(own, turns, reply):
    """Sum of the log-probabilities of the reply and its end, among the tokens of the texts, and their number."""
    head = own.tokenizer(OPENING + shown(turns) + SPEAKERS[1], add_special_tokens=False).input_ids
    tail = own.tokenizer(reply + "\n", add_special_tokens=False).input_ids[: own.longest]
    with torch.inference_mode():
        logits = own.model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
    allowed = {i for text in [*TURNS, *REPLIES] for i in own.tokenizer(text + "\n", add_special_tokens=False).input_ids}
    total = 0.0
    for row, token in zip(logits.double(), tail, strict=True):
        total += float(row[token]) - math.log(sum(math.exp(float(row[one])) for one in allowed))
    return total, len(tail)


@pytest.mark.parametrize("turns", [TURNS, TURNS[:1], []])
def test_it_reads_what_one_pass_over_the_whole_text_reads(model, turns):
    for reply, read in zip(REPLIES, model.read(turns, REPLIES), strict=True):
        total, tokens = in_one_piece(model, turns, reply)
        assert read.tokens == tokens
        assert read.total == pytest.approx(total, rel=1e-3)


def test_nothing_need_stand_before_a_dialogue(model):
    bare = Likelihood(model.model, model.tokenizer, "", model.shortlist)
    given, after = bare.read(TURNS, REPLIES[:2]), model.read(TURNS, REPLIES[:2])
    assert [one.tokens for one in given] == [one.tokens for one in after]
    assert all(abs(a.total - b.total) > 1e-3 for a, b in zip(given, after, strict=True))


def test_a_long_reply_is_read_from_its_beginning(model):
    short = Likelihood(model.model, model.tokenizer, model.opening, model.shortlist, longest=3)
    (read,) = short.read(TURNS, [REPLIES[2]])
    assert read.tokens == 3
    assert read.total == pytest.approx(in_one_piece(short, TURNS, REPLIES[2])[0], rel=1e-3)


def test_the_fit_is_what_the_dialogue_adds_to_a_reply(model):
    given, alone = model.read(TURNS, REPLIES), model.read([], REPLIES)
    by_hand = [(a.total - 0.5 * b.total) / a.tokens for a, b in zip(given, alone, strict=True)]
    np.testing.assert_allclose(model(TURNS, REPLIES, weight=0.5), by_hand, rtol=1e-5)
    np.testing.assert_allclose(model([], REPLIES), 0, atol=1e-5)


def test_the_shopper_speaks_last():
    assert shown(TURNS) == "顾客：几天到\n客服：三天\n顾客：好的，发什么快递\n"
    assert shown(TURNS[1:]) == "客服：三天\n顾客：好的，发什么快递\n"
