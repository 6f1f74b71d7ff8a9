"""Diversity: values worked out by hand, and what must hold of any texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthrec.evaluation.diversity import distinct, matched, self_bleu, vendi
from synthrec.retrieval.tokens import words

TEXTS = st.lists(st.text("abc ", min_size=1, max_size=12), min_size=1, max_size=20)


def test_distinct_n_by_hand():
    assert distinct(["red pan red pan"], 1) == pytest.approx(2 / 4)
    assert distinct(["red pan red pan"], 2) == pytest.approx(2 / 3)
    assert distinct(["红色 水壶", "蓝色 水壶"], 1) == pytest.approx(3 / 4)
    assert np.isnan(distinct(["pan"], 2))


def test_self_bleu_is_one_for_copies_and_near_nothing_for_strangers():
    assert self_bleu(["clip on reading lamp"] * 5) == pytest.approx(1)
    assert self_bleu(["clip on reading lamp", "warm dog coat", "steel muffin tin"]) < 0.05
    assert np.isnan(self_bleu(["pan"]))


def test_vendi_counts_what_is_different():
    axes = np.eye(8, dtype=np.float32)
    assert vendi(axes) == pytest.approx(8)
    assert vendi(np.repeat(axes[:1], 50, axis=0)) == pytest.approx(1)
    assert vendi(np.repeat(axes[:3], 10, axis=0)) == pytest.approx(3)
    uneven = np.concatenate([np.repeat(axes[:1], 9, axis=0), axes[1:2]])
    assert vendi(uneven) == pytest.approx(np.exp(-0.9 * np.log(0.9) - 0.1 * np.log(0.1)))


@given(TEXTS, TEXTS)
def test_matched_sets_have_the_same_size_and_lengths(ours, theirs):
    one, other = matched(ours, theirs)
    assert [len(words(text)) for text in one] == [len(words(text)) for text in other]
    assert set(one) <= set(ours)
    assert set(other) <= set(theirs)
    assert len(one) == len(set(one))


@given(TEXTS)
def test_order_does_not_matter(texts):
    assert matched(texts, texts) == matched(texts[::-1], texts[::-1])
    one, other = self_bleu(texts), self_bleu(texts[::-1])
    assert one == pytest.approx(other, nan_ok=True)
