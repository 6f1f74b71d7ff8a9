"""Hard negatives: as a plain search over all pairs has them, in bounded memory, with no known positive among them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from synthrec.curation import negatives
from synthrec.curation.negatives import mine


def unit(rows, width, seed):
    made = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def plain(queries, products, positives, k, margin):
    """All scores at once, one query after another."""
    chosen, above = [], set()
    for i, scores in enumerate(queries @ products.T):
        floor = min((scores[p] for p in positives[i]), default=np.nan)
        order = [p for p in np.argsort(-scores) if p not in positives[i]]
        chosen.append([int(p) for p in order if scores[p] < floor - abs(floor) * (1 - margin)][:k])
        above |= {(i, int(p)) for p in order if scores[p] >= floor}
    return chosen, above


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 90), st.integers(1, 6), st.floats(0.5, 1.0))
@settings(max_examples=40, deadline=None)
def test_chunks_give_what_all_at_once_gives(seed, rows, size, k, margin):
    dice = np.random.default_rng(seed)
    queries, products = unit(rows, 6, seed), unit(size, 6, seed + 1)
    positives = [dice.choice(size, min(size, dice.integers(0, 3)), replace=False).tolist() for _ in range(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "QUERIES", 7)
        patch.setattr(negatives, "PRODUCTS", 11)
        found = mine(queries, products, positives, k, margin, most_suspects=size)
    chosen, above = plain(queries, products, positives, k, margin)
    assert [[p for p in row if p >= 0] for row in found.negatives.tolist()] == chosen
    assert set(zip(found.suspects.query.tolist(), found.suspects.product.tolist(), strict=True)) == above
    assert not found.suspects.relevant.any()


QUERY = np.array([[1.0, 0.0]], np.float32)
COSINES = [0.9, 0.95, 0.88, 0.8, 0.6, 0.1, -0.5]  # the first is the positive's
PRODUCTS = np.array([[c, (1 - c * c) ** 0.5] for c in COSINES], np.float32)


def test_the_margin_is_relative_to_the_positive():
    found = mine(QUERY, PRODUCTS, [[0]], k=3)
    assert found.negatives.tolist() == [
        [3, 4, 5]
    ]  # .88 is above .95 x .9: too near to be safe, not near enough to accuse
    assert found.suspects.product.tolist() == [1]
    assert mine(QUERY, PRODUCTS, [[0]], k=3, margin=1.0).negatives.tolist() == [[2, 3, 4]]
    assert mine(QUERY, PRODUCTS, [[5]], k=3).negatives.tolist() == [[6, -1, -1]]
    assert mine(QUERY, PRODUCTS, [[]], k=2).negatives.tolist() == [[-1, -1]]


def test_what_the_llm_calls_relevant_is_relabelled_and_never_a_negative():
    relevance = csr_matrix(([0.9, 0.2, 0.7], ([0, 0, 0], [4, 3, 0])), shape=(1, len(COSINES)))
    found = mine(QUERY, PRODUCTS, [[0]], k=3, relevance=relevance)
    assert found.negatives.tolist() == [[3, 5, 6]]
    pairs = zip(found.suspects.product.tolist(), found.suspects.relevant.tolist(), strict=True)
    assert list(pairs) == [(1, False), (4, True)]


def test_half_of_the_negatives_may_be_those_that_share_words():
    bm25 = csr_matrix(([9.0, 8.0, 7.0, 6.0], ([0] * 4, [0, 1, 6, 5])), shape=(1, len(COSINES)))
    found = mine(QUERY, PRODUCTS, [[0]], k=2, bm25=bm25)
    assert found.negatives.tolist() == [[3, 6]]  # the positive and the suspect are hits too, and are left out


def test_memory_does_not_grow_with_the_catalogue():
    def peak(size):
        queries, products = unit(300, 8, 1), unit(size, 8, 2)
        tracemalloc.start()
        found = mine(queries, products, [[i] for i in range(300)], k=4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found.negatives >= 0).any()
        return most

    assert peak(5 * negatives.PRODUCTS) < 1.2 * peak(negatives.PRODUCTS)


def test_queries_and_positives_must_be_as_many():
    with pytest.raises(ValueError, match="1 queries and positives of 2"):
        mine(QUERY, PRODUCTS, [[0], [1]])
