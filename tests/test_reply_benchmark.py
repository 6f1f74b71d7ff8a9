"""The reply benchmark on a handful of chats with a random model of a few thousand weights: what is judged by what."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_models import gemma

from benchmarks.reply import __main__ as benchmark
from benchmarks.reply.cases import Exchanges, distinct, own_turns, read_cases
from benchmarks.reply.reads import Likelihood
from benchmarks.reply.scores import ReplyModel
from synthrec.errors import UserError
from synthrec.recommenders.likelihood import SPEAKERS

ASKED = ["发 什么 快递", "几天 能 到", "可以 退货 吗", "有 优惠 吗", "什么 口味", "多大 尺寸"]
SAID = [
    "发 韵达 快递 的 哦",
    "三天 能 到 的 呢",
    "七天 内 可以 退",
    "拍下 三件 有 优惠",
    "原味 和 奶油 味",
    "尺寸 是 大号 的",
]


@pytest.fixture
def data(tmp_path):
    """Six contexts of three turns; the right reply comes last in the file, so that its place helps nobody."""
    lines = []
    for n in range(6):
        turns = [ASKED[n], SAID[n], f"{ASKED[(n + 1) % 6]} 呢"]
        replies = [f"别 的 第 {i} 句 话" for i in range(9)] + [f"{SAID[(n + 1) % 6]} 呀"]
        lines += ["\t".join([str(int(i == 9)), *turns, reply]) for i, reply in enumerate(replies)]
    (tmp_path / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def cases(data):
    return read_cases(data / "test.tsv")


def test_the_set_is_read_without_the_spaces_between_words(cases):
    assert len(cases) == 6
    assert cases[0].turns == ["发什么快递", "发韵达快递的哦", "几天能到呢"]
    assert (len(cases[0].replies), cases[0].right) == (10, 9)


def test_a_context_with_two_right_replies_is_told(data):
    lines = (data / "test.tsv").read_text(encoding="utf-8").splitlines()
    lines[0] = "1" + lines[0][1:]
    (data / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="rows 0 and on"):
        read_cases(data / "test.tsv")


def test_what_is_known_of_a_context_is_held_against_other_contexts(cases):
    exchanges = Exchanges(cases)
    (first, *_) = known = own_turns(cases, exchanges)
    assert len(known) == 6
    assert first.turns == ["发什么快递"]
    assert first.replies[first.right] == "发韵达快递的哦"
    own = set(cases[0].turns)
    assert not own & {one.answered for _, one in exchanges.near("发什么快递", 0)}
    assert set(first.replies) - own == {"".join(reply.split()) for reply in SAID[1:]}


def test_examples_are_near_distinct_and_no_candidates(cases):
    near = [one for _, one in Exchanges(cases).near("几天能到", 0)]
    assert near[0].answered == "三天能到的呢"
    assert distinct([*near, *near], 100) == near
    assert near[0] not in distinct(near, 100, {"三天能到的呢"})


def test_no_fold_judges_a_context_that_it_has_learnt():
    """In the one context where the feature speaks for the wrong reply, only a model that has seen it would know."""
    rows = [{"x": np.array([1.0, 0.0])}] * 9 + [{"x": np.array([0.0, 1.0])}] * 6
    groups = [*range(1, 10), *[5 * FOLD for FOLD in range(6)]]
    scores = ReplyModel.crossed(rows, [0] * 15, groups)
    assert all(one[0] < one[1] for one in scores[9:])
    assert len(scores) == 15


def test_the_whole_is_read_once_and_judged_by_chance_where_nothing_is_known(data, tmp_path, monkeypatch, capsys):
    texts = [*(data / "test.tsv").read_text(encoding="utf-8").splitlines(), *SPEAKERS]
    folder = gemma(tmp_path / "model", texts)
    options = ["--data", str(data), "--model", str(folder), "--run-dir", str(tmp_path / "run"), "--json"]
    monkeypatch.setattr("sys.argv", ["reply", *options])
    benchmark.main()
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["contexts"], first["own_turns"]) == (6, 6)
    assert {"pmi", "retrieval", "reply model, synthetic dialogues"} <= first["figures"].keys()
    assert first["recall_at_1"] == first["figures"][first["chosen"]]["test"]
    # The candidates "another sentence no. i" share nothing with past replies: the right one is all that does.
    assert first["figures"]["retrieval"]["test"] == 1.0

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(Likelihood, "load", never)
    benchmark.main()
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["figures"] == first["figures"]
