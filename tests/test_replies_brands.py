"""Past replies and brands: found by words and by meaning, reranked, saved and loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from synthrec.errors import UserError
from synthrec.recommenders.brands import Brands
from synthrec.recommenders.replies import Replies

ASKED = ["什么时候发货", "能便宜点吗", "发什么快递", "几号发货", "有优惠券吗"]
ANSWERS = ["今天发货哦", "已经是特价了呢", "默认韵达快递哦", "今天发货哦", "首页可以领券哦"]
IDS = [f"r{i}" for i in range(5)]
TOPICS = ("发货 几号 时候 包裹", "便宜 优惠 券 贵", "快递 韵达 顺丰", "kettle boil tea", "dog leash walk")


def encode(texts):
    """A vector of topics: what a real encoder knows of words that never stand together."""
    rows = np.array([[1e-3 + sum(word in text for word in topic.split()) for topic in TOPICS] for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def replies():
    return Replies.build(IDS, ASKED, ANSWERS, encode)


def names(found):
    return [name for name, _ in found]


def test_a_question_like_an_earlier_one_gets_its_reply():
    found = Replies.build(IDS, ASKED, ANSWERS).top(["你好", "在的", "请问发什么快递"], 2)
    assert names(found)[0] == "r2"
    assert found[0][1] > found[1][1]


def test_meaning_finds_what_shares_no_word(replies):
    assert names(replies.top(["太贵了"], 2, encode)) == ["r1", "r4"]
    assert all(score == 0 for _, score in replies.top(["太贵了"], 2)), "BM25 alone knows none of it"


def test_what_agents_say_to_many_is_offered_once(replies):
    found = names(replies.top(["什么时候发货"], 5, encode))
    assert found[0] == "r0"
    assert sorted(found) == ["r0", "r1", "r2", "r4"]


def test_reranking_sees_the_whole_dialogue_and_decides(replies):
    seen = []

    def by_length(turns, candidates):
        seen.append((turns, candidates))
        return np.array([len(one) for one in candidates], np.float32)

    turns = ["在吗", "在的", "什么时候发货"]
    found = replies.top(turns, 1, encode, by_length, depth=3)
    assert seen[0][0] == turns
    assert len(seen[0][1]) == 3
    assert found[0][1] == max(len(one) for one in seen[0][1])


def test_replies_come_back_from_disk(replies, tmp_path):
    replies.save(tmp_path / "replies")
    again = Replies.load(tmp_path / "replies")
    for turns in (["发货"], ["太贵了"]):
        assert again.top(turns, 3, encode) == replies.top(turns, 3, encode)
        assert again.top(turns, 3) == replies.top(turns, 3)
    files = [file for file in (tmp_path / "replies").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".npy", ".jsonl"}
    with pytest.raises(UserError, match="no index"):
        Replies.load(tmp_path)


def test_what_cannot_be_asked_is_refused(replies):
    with pytest.raises(ValueError, match="at least one turn"):
        replies.top([], 1)
    with pytest.raises(ValueError, match="ids"):
        Replies.build(IDS, ASKED[1:], ANSWERS)


PROFILES = {"Harbor": "Kettles and pots that boil fast", "Paws": "Everything for a walk with your dog"}
TITLES = {"Harbor": ["Red kettle", "Tea strainer"], "Paws": ["Leather leash"], "Unsaid": ["顺丰 快递 盒"]}


@pytest.mark.parametrize("encoder", [None, encode])
def test_brands_for_a_search_and_for_a_shopper(encoder, tmp_path):
    brands = Brands.build(PROFILES, TITLES, encoder)
    assert names(brands.top("kettle for tea", 1, encoder)) == ["Harbor"]
    assert names(brands.top("快递", 1, encoder)) == ["Unsaid"], "a brand without a profile is known by what it sells"
    assert names(brands.for_shopper(["Blue dog leash", "Dog bowl"], 3, encoder))[0] == "Paws"
    brands.save(tmp_path)
    assert Brands.load(tmp_path).top("dog walk", 3, encoder) == brands.top("dog walk", 3, encoder)
    assert json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["ids"] == list(TITLES)
    with pytest.raises(ValueError, match="history"):
        brands.for_shopper([], 1, encoder)
