"""Vectors in Qdrant, in its client's local mode: found as by comparing with all."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from synthrec.errors import UserError
from synthrec.retrieval.vectors import FEW, Exact

client = pytest.importorskip(
    "qdrant_client", reason="the client of Qdrant is not installed: pip install 'synthrec[qdrant]'"
)


def unit(count, width=16, seed=0):
    made = np.random.default_rng(seed).standard_normal((count, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def many():
    vectors = unit(FEW * 2 + 500)
    vectors[7] = vectors[400] = vectors[3]  # ties
    return vectors


@pytest.fixture(scope="module")
def server():
    return client.QdrantClient(":memory:")


@pytest.fixture(scope="module")
def index(many, server):
    from synthrec.retrieval.qdrant import Qdrant

    return Qdrant(many, server)


pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")


def same(index, many, asked, k, allowed=None):
    positions, scores = index.search(asked, k, allowed)
    want, exact = Exact(many).search(asked, k, allowed)
    assert positions.shape == scores.shape == (len(asked), k)
    np.testing.assert_array_equal(positions, want)
    np.testing.assert_allclose(scores, exact, atol=1e-5)


# None; few, whose positions are sent along; many, of which more are asked for.
@pytest.mark.parametrize("allowed", [None, 1, 5, 300, FEW + 100, FEW * 2])
def test_it_finds_what_comparing_with_all_finds(index, many, allowed):
    mask = None
    if allowed is not None:
        mask = np.zeros(len(many), bool)
        mask[np.random.default_rng(1).choice(len(many), allowed, replace=False)] = True
    assert index.size == len(many)
    same(index, many, unit(4, seed=2), 10, mask)


def test_where_what_is_allowed_is_far_away_it_asks_until_it_has_it(index, many):
    asked = unit(1, seed=4)
    far = np.argsort(many @ asked[0])[: FEW + 10]
    mask = np.zeros(len(many), bool)
    mask[far] = True
    same(index, many, asked, 10, mask)


def test_ties_are_by_position(index, many):
    positions, _ = index.search(many[[3]], 3)
    assert positions.tolist() == [[3, 7, 400]]


def test_nothing_allowed_is_nothing_found(index, many):
    positions, scores = index.search(unit(2), 3, np.zeros(len(many), bool))
    assert (positions == -1).all()
    assert (scores == -np.inf).all()


def test_replicas_share_a_collection_and_another_snapshot_has_its_own(many, server, index):
    from synthrec.retrieval.qdrant import Qdrant

    assert Qdrant(many.copy(), server).collection == index.collection
    other = Qdrant(many[:50], server)
    assert other.collection != index.collection
    same(other, many[:50], unit(2, seed=3), 5)
    other.drop()
    assert not server.collection_exists(other.collection)
    assert server.collection_exists(index.collection)


def test_a_collection_that_was_left_half_filled_is_completed(many):
    from synthrec.retrieval.qdrant import Qdrant

    own = client.QdrantClient(":memory:")
    first = Qdrant(many[:60], own)
    own.delete(first.collection, points_selector=list(range(20, 60)))
    same(Qdrant(many[:60], own), many[:60], unit(3, seed=5), 8)


def test_a_server_that_is_not_there_is_told(many):
    from synthrec.retrieval.qdrant import Qdrant

    with pytest.raises(UserError, match="Qdrant does not take the vectors"):
        Qdrant(many[:5], client.QdrantClient("http://127.0.0.1:1", check_compatibility=False, timeout=2))


def test_without_the_package_it_is_told_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "synthrec.retrieval.qdrant", raising=False)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(UserError, match=r"synthrec\[qdrant\]"):
        import synthrec.retrieval.qdrant  # noqa: F401
