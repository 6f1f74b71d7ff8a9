"""Vectors in Qdrant, in its client's local mode: found as by comparing with all."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import test_live as live
from pydantic import ValidationError

from synthrec.config import Index
from synthrec.errors import UserError
from synthrec.live.index import LiveIndex
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.vectors import FEW, Away, Exact
from synthrec.stores import Change

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


@pytest.mark.parametrize("how", ["other vectors", "more points", "another distance"])
def test_a_collection_that_holds_others_is_refused(many, how):
    from synthrec.retrieval.qdrant import Qdrant

    own, some = client.QdrantClient(":memory:"), many[:30]
    name = Qdrant(some, own).collection
    if how == "another distance":
        own.delete_collection(name)
        params = client.models.VectorParams(size=16, distance=client.models.Distance.COSINE)
        own.create_collection(name, vectors_config=params)
    ids = list(range(31 if how == "more points" else 30))
    rows = some if how == "another distance" else many[100 : 100 + len(ids)]
    own.upsert(name, points=client.models.Batch(ids=ids, vectors=rows.tolist()))
    with pytest.raises(UserError, match="holds other vectors"):
        Qdrant(some, own)


# Behind the live index.


@pytest.fixture
def local(monkeypatch, server):
    """The client's local mode in place of a connection: no server can be had here."""
    asked = []
    monkeypatch.setattr("synthrec.retrieval.qdrant.connect", lambda url: asked.append(url) or server)
    return asked


@pytest.mark.parametrize("delta", [10_000, 25])
def test_the_live_index_finds_in_qdrant_what_it_finds_here(local, delta):
    """Upserts, deletions and filters; on top of the bundle, and folded again and again."""
    from synthrec.retrieval.qdrant import Grown, Qdrant

    bundle = live.bundle_of([live.row(number) for number in range(200)], live.unit(200, 2))
    here = LiveIndex(bundle, Index(delta=delta))
    there = LiveIndex(bundle, Index(delta=delta, vectors="qdrant://vectors.shop:6333/live"))
    assert local == ["http://vectors.shop:6333"]
    vector, dice, revision = live.unit(1, 7)[0], np.random.default_rng(3), 0
    filters = Filters(category=("kitchen",), price=(10.0, 40.0), exclude=("p3", "p210"))
    for seed in range(1, 8):
        numbers = dice.choice(260, 20, replace=False).tolist()
        changes = [
            Change(revision + n, f"p{one}", live.row(one, seed) if n % 3 else None) for n, one in enumerate(numbers, 1)
        ]
        revision += len(changes)
        vectors = live.unit(sum(change.product is not None for change in changes), seed)
        for index in (here, there):
            index.apply(changes, vectors)
            index.settle()
        for query, wanted, weight in [("red pan", None, None), ("锅", filters, 1.0), ("kettle", filters, 0.5)]:
            found, want = (live.told(one.search(query, vector, 30, wanted, weight)) for one in (there, here))
            live.same(found, want)
        product = want[0][0]
        live.same(live.told(there.similar(product, 9)), live.told(here.similar(product, 9)))
    assert isinstance(there._state.snapshot.index, Grown if delta == 25 else Qdrant)
    assert there.size == here.size


def test_the_endpoints_log_names_the_collection(many, server, index, capsys, monkeypatch):
    from serve_app import logs
    from synthrec.retrieval.qdrant import Qdrant

    monkeypatch.setattr(logs.log, "handlers", [])
    monkeypatch.setattr(logs.log, "propagate", True)
    logs.start()
    Qdrant(many, server)
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["collection"] == index.collection


def test_a_server_that_goes_away_is_told_by_a_search(local, server, monkeypatch):
    bundle = live.bundle_of([live.row(number) for number in range(30)], live.unit(30, 2))
    index = LiveIndex(bundle, Index(vectors="qdrants://vectors.shop:6333"))
    assert local == ["https://vectors.shop:6333"]
    gone = client.QdrantClient("http://127.0.0.1:1", check_compatibility=False, timeout=2)
    monkeypatch.setattr(index._state.snapshot.index, "_client", gone)
    with pytest.raises(Away, match="Qdrant does not answer"):
        index.search("red pan", live.unit(1, 3)[0], 5)
    assert index.search("red pan", None, 5), "words need no server"


@pytest.mark.parametrize("url", ["qdrant://", "http://vectors.shop", "qdrant://shop:key@host", "qdrant://host/a b"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValidationError):
        Index(vectors=url)


def test_a_server_that_is_not_there_is_told(many):
    from synthrec.retrieval.qdrant import Qdrant

    with pytest.raises(UserError, match="Qdrant does not take the vectors"):
        Qdrant(many[:5], client.QdrantClient("http://127.0.0.1:1", check_compatibility=False, timeout=2))


def test_without_the_package_it_is_told_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "synthrec.retrieval.qdrant", raising=False)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(UserError, match=r"synthrec\[qdrant\]"):
        import synthrec.retrieval.qdrant  # noqa: F401
