"""The live index: unchanged it ranks as evaluation does, and changed as if it had been built so."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec import schema
from synthrec.bundle import Bundle
from synthrec.config import Index
from synthrec.live.index import LiveIndex
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.filters import Filters
from synthrec.retrieval.hybrid import Hybrid, convex
from synthrec.retrieval.postings import Statistics
from synthrec.retrieval.ranking import rank
from synthrec.retrieval.tokens import words
from synthrec.stores import Change

WIDTH = 32
NOUNS = "pan wok kettle lid knife fork 砂锅 水壶 锅 刀 lamp desk chair".split()  # noqa: SIM905
KINDS = "red blue steel iron small large 红色 不锈钢 大 deep".split()  # noqa: SIM905
EXACT, CODED = Index(exact=100_000, delta=10_000), Index(exact=0, delta=10_000)


def unit(count, seed):
    """Vectors about a few centres, as those of texts are."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((8, WIDTH))
    made = centres[dice.integers(0, 8, count)] + 0.5 * dice.standard_normal((count, WIDTH)) + 1.0
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def row(number, seed=0):
    dice = np.random.default_rng([seed, number])
    title = " ".join([*dice.choice(KINDS, dice.integers(1, 4)), *dice.choice(NOUNS, dice.integers(1, 3))])
    return {
        "product_id": f"p{number}",
        "language": "en",
        "title": title,
        "brand": str(dice.choice(["Tarrow", "Ember"])),
        "category": str(dice.choice(["kitchen", "office"])),
        "attributes": {"colour": str(dice.choice(["red", "blue"]))},
        "price": float(dice.integers(1, 50)),
        "text": f"{title} . number {number}",
    }


def bundle_of(rows, vectors):
    hybrid = Hybrid(BM25.build([one["text"] for one in rows], 0.9, 0.4), vectors, {"en": 0.4, "zh": 0.7})
    return Bundle(Path(), {}, schema.table(rows, schema.CATALOGUE), hybrid)


@pytest.fixture(scope="module")
def bundle():
    return bundle_of([row(number) for number in range(900)], unit(900, 2))


QUERIES = [
    "red pan",
    "不锈钢 砂锅",
    "kettle",
    "nothing known",
    "",
    "iron iron wok 7",
    "number 77 large lamp",
    "pan 锅 lid",
]


def told(found):
    return [(one.product_id, one.score) for one in found]


def same(found, want):
    """The same products in the same order, with scores that differ by rounding alone."""
    assert [one for one, _ in found] == [one for one, _ in want]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in want], rtol=1e-5)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("weight", [None, 0.05, 0.3, 0.95, 1.0])
@pytest.mark.parametrize(("how", "share"), [(EXACT, 1.0), (CODED, 0.9)])
def test_unchanged_it_ranks_as_evaluation_does(bundle, query, weight, how, share):
    index = LiveIndex(bundle, how)
    ids = bundle.catalogue["product_id"].to_pylist()
    vectors = unit(5, 3)
    held = bundle.hybrid
    hybrid = held if weight is None else Hybrid(held.bm25, held.vectors, {"en": weight, "zh": weight})
    agreed = 0
    for vector in vectors:
        scores = hybrid.scores(query, vector)
        want = [(ids[i], float(scores[i])) for i in rank(scores[None], 30)[0]]
        found = told(index.search(query, vector, 30, weight=weight))
        if how is EXACT:
            same(found, want)
            same(told(index.search(query, vector, 7, weight=weight, offset=12)), want[12:19])
        agreed += len(dict(found).keys() & dict(want).keys())
    assert agreed >= share * 30 * len(vectors)


@pytest.mark.parametrize("query", QUERIES)
def test_by_words_alone_it_ranks_as_bm25_and_finds_only_what_matches(bundle, query):
    index = LiveIndex(bundle, EXACT)
    scores = bundle.hybrid.bm25.scores(query)
    want = [(f"p{i}", float(scores[i])) for i in rank(scores[None], 40)[0] if scores[i] > 0]
    same(told(index.search(query, None, 40)), want)
    same(told(index.search(query, unit(1, 4)[0], 40, weight=0.0)), want)


def test_a_hit_tells_why(bundle):
    index = LiveIndex(bundle, EXACT)
    vector = unit(1, 5)[0]
    hits = index.search("the Red pans, zebra", vector, 5, explain=True)
    for hit in hits:
        place = int(hit.product_id[1:])
        assert hit.semantic == pytest.approx(float(bundle.hybrid.vectors[place] @ vector), abs=1e-5)
        assert hit.lexical == pytest.approx(float(bundle.hybrid.bm25.scores("red pans")[place]))
        assert hit.matched == tuple(w for w in ("red", "pan") if w in words(index.product(hit.product_id)["text"]))
    assert any(hit.matched for hit in hits)
    assert all(hit.matched == () for hit in index.search("red pan", vector, 5))
    assert index.search("red pan", None, 1)[0].semantic is None


# Changed.


class Model:
    """The catalogue as a list in order of position, scored product by product."""

    def __init__(self, bundle):
        self.statistics = Statistics.of(bundle.hybrid.bm25)
        vectors = np.asarray(bundle.hybrid.vectors)
        self.rows = [(row(number), vectors[number]) for number in range(len(vectors))]

    def apply(self, changes, vectors):
        new = iter(vectors)
        for change in changes:
            self.rows = [pair for pair in self.rows if pair[0]["product_id"] != change.product_id]
            if change.product is not None:
                self.rows.append((change.product, next(new)))

    def search(self, query, vector, k, weight, wanted=lambda row: True):
        kept = [pair for pair in self.rows if wanted(pair[0])]
        if not kept:
            return []
        weighed = [self.statistics.weigh(words(one["text"])) for one, _ in kept]
        lexical = np.array([sum(w.get(term, 0) for term in words(query)) for w in weighed], np.float32)
        scores = convex(lexical, np.stack([one for _, one in kept]) @ vector, weight)
        best = rank(scores[None], min(k, len(kept)))[0]
        return [(kept[i][0]["product_id"], float(scores[i])) for i in best]


EDITS = st.lists(st.lists(st.tuples(st.integers(0, 70), st.booleans()), max_size=6), max_size=8)


@given(EDITS, st.integers(1, 12), st.sampled_from(QUERIES), st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=40, deadline=None)
def test_changed_it_ranks_as_if_it_had_been_built_so(edits, bound, query, weight):
    """Up to some fifty changes, and a new snapshot after each few."""
    bundle = bundle_of([row(number) for number in range(50)], unit(50, 6))
    index, model, revision = LiveIndex(bundle, Index(exact=1000, delta=bound)), Model(bundle), 0
    vector = unit(1, 7)[0]
    for seed, edit in enumerate(edits, 1):
        changes = []
        for number, put in edit:
            revision += 1
            changes.append(Change(revision, f"p{number}", row(number, seed) if put else None))
        vectors = unit(sum(change.product is not None for change in changes), seed)
        index.apply(changes, vectors)
        model.apply(changes, vectors)
        same(told(index.search(query, vector, 20, weight=weight)), model.search(query, vector, 20, weight))
    index.settle()
    same(told(index.search(query, vector, 80, weight=weight)), model.search(query, vector, 80, weight))
    kept = {one["product_id"]: one for one, _ in model.rows}
    assert (index.size, index.revision) == (len(kept), revision)
    for number in range(71):
        if f"p{number}" in kept:
            assert index.product(f"p{number}")["text"] == kept[f"p{number}"]["text"]
        else:
            with pytest.raises(KeyError):
                index.product(f"p{number}")


def test_a_new_snapshot_is_searched_by_the_same_scores(bundle):
    index, folding = LiveIndex(bundle, EXACT), LiveIndex(bundle, Index(exact=100_000, delta=40))
    changes, vectors = [Change(n, f"p{n + 880}", row(n + 880, 9)) for n in range(1, 41)], unit(40, 8)
    index.apply(changes, vectors)
    folding.apply(changes, vectors)
    folding.settle()
    assert (index._state.changed, folding._state.changed) == (59, 0)
    for query in QUERIES:
        vector = unit(1, 9)[0]
        same(told(folding.search(query, vector, 50)), told(index.search(query, vector, 50)))


def test_a_snapshot_that_cannot_be_made_leaves_the_old_one_and_is_tried_again(bundle, monkeypatch, caplog):
    index = LiveIndex(bundle, Index(exact=100_000, delta=1))
    with monkeypatch.context() as patch:
        patch.setattr("synthrec.live.state.State.folded", lambda *_: 1 / 0)
        index.apply([Change(1, "a", row(1) | {"product_id": "a"}), Change(2, "p3", None)], unit(1, 1))
        index.settle()
    assert "no new snapshot" in caplog.text
    assert index.product("a")["product_id"] == "a"
    index.apply([Change(3, "p4", None)], unit(0, 1))
    index.settle()
    assert index._state.changed == 0
    assert index.size == 900 + 1 - 2


def test_searches_see_a_change_whole_while_it_is_made(bundle):
    """One of two products is there at any time, and the other not, whatever is folded meanwhile."""
    index = LiveIndex(bundle, Index(exact=100_000, delta=20))
    one, other = (row(1) | {"product_id": name, "text": "zebra"} for name in ("one", "other"))
    vector = unit(1, 1)
    index.apply([Change(1, "one", one)], vector)
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append([hit.product_id for hit in index.search("zebra", None, 5)])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    number, deadline = 2, time.monotonic() + 60
    while number < 300 or (len(seen) <= 50 and time.monotonic() < deadline):
        index.apply([Change(number, "one", None), Change(number, "other", other)], vector)
        index.apply([Change(number + 1, "other", None), Change(number + 1, "one", one)], vector)
        number += 2
    stop.set()
    for reader in readers:
        reader.join()
    assert len(seen) > 50
    assert {tuple(found) for found in seen} == {("one",), ("other",)}
    index.settle()
    assert index.size == 901


def test_vectors_must_be_those_of_the_products_put(bundle):
    index = LiveIndex(bundle, EXACT)
    with pytest.raises(ValueError, match="for 1 products"):
        index.apply([Change(1, "a", row(1)), Change(2, "b", None)], unit(2, 1))
    assert index.revision == 0


# Filters.

FILTERS = st.builds(
    Filters,
    category=st.sampled_from([(), ("kitchen",), ("KITCHEN", "office"), ("none",)]),
    brand=st.sampled_from([(), ("tarrow",)]),
    price=st.sampled_from([(None, None), (10.0, None), (None, 20.0), (10.0, 20.0), (30.0, 3.0)]),
    attributes=st.sampled_from([{}, {"Colour": ("red",)}, {"colour": ("Red", "blue")}]),
    exclude=st.lists(st.integers(0, 60).map("p{}".format), max_size=20).map(tuple),
)


def passes(row, f):
    least, most = f.price
    return (
        (not f.category or row["category"] in [one.lower() for one in f.category])
        and (not f.brand or row["brand"].lower() in f.brand)
        and (least is None or row["price"] >= least)
        and (most is None or row["price"] <= most)
        and all(row["attributes"]["colour"] in [v.lower() for v in values] for values in f.attributes.values())
        and row["product_id"] not in f.exclude
    )


@pytest.mark.parametrize("count", [1, 10, 40])
def test_a_catalogue_needs_no_brands_categories_and_attributes_and_may_be_small(count):
    bare = [row(n) | {"brand": None, "category": None, "attributes": {}} for n in range(count)]
    bundle = bundle_of(bare, unit(count, 6))
    for how in (EXACT, CODED, Index(exact=0, delta=1)):
        index = LiveIndex(bundle, how)
        assert len(index.search("", unit(1, 7)[0], 100, weight=1.0)) == count
        assert index.search("", unit(1, 7)[0], 100, Filters(brand=("Tarrow",)), weight=1.0) == []
        index.apply([Change(n, f"p{500 + n}", row(500 + n)) for n in range(1, 5)], unit(4, 8))
        index.settle()
        assert index.size == count + 4
        assert index.search("", unit(1, 7)[0], 100, Filters(brand=("Tarrow", "Ember")), weight=1.0)


def test_an_attribute_of_no_value_filters_nothing(bundle):
    found = LiveIndex(bundle, EXACT).search("pan", None, 10, Filters(attributes={"colour": ()}))
    assert found == LiveIndex(bundle, EXACT).search("pan", None, 10)


@pytest.mark.parametrize("how", [EXACT, CODED])
def test_a_filter_lets_through_what_it_says(how):
    bundle = bundle_of([row(number) for number in range(50)], unit(50, 6))
    index, model = LiveIndex(bundle, how), Model(bundle)
    changes = [Change(n, f"p{n}", row(n, 5) if n % 4 else None) for n in range(40, 60)]
    vectors = unit(15, 3)
    index.apply(changes, vectors)
    model.apply(changes, vectors)
    vector = unit(1, 7)[0]
    sizes = set()

    @given(FILTERS, st.sampled_from(QUERIES))
    @settings(max_examples=60, deadline=None)
    def check(filters, query):
        found = told(index.search(query, vector, 100, filters, weight=0.5))
        same(found, model.search(query, vector, 100, 0.5, lambda row: passes(row, filters)))
        by_meaning = index.search(query, vector, 100, filters, weight=1.0)
        assert {one.product_id for one in by_meaning} == {one for one, _ in found}
        sizes.add(len(found))

    check()
    assert len(sizes) > 5


# Similar products.


def test_similar_products_are_the_nearest_without_itself(bundle):
    index = LiveIndex(bundle, EXACT)
    likeness = bundle.hybrid.vectors @ bundle.hybrid.vectors[7]
    want = [(f"p{i}", float(likeness[i])) for i in rank(likeness[None], 11)[0] if i != 7]
    same(told(index.similar("p7", 10)), want)
    index.apply(
        [Change(1, want[0][0], None), Change(2, "new", row(3) | {"product_id": "new"})], bundle.hybrid.vectors[7:8]
    )
    assert want[0][0] not in dict(told(index.similar("p7", 50)))
    assert told(index.similar("p7", 1))[0][0] == "new"
    kitchen = index.similar("p7", 20, Filters(category=("kitchen",)))
    assert {index.product(one.product_id)["category"] for one in kitchen} == {"kitchen"}
    with pytest.raises(KeyError):
        index.similar("no-such", 5)


def test_vectors_are_of_those_that_are_still_there(bundle):
    index = LiveIndex(bundle, EXACT)
    known, vectors = index.vectors(["p7", "no-such", "p9"])
    assert known.tolist() == [True, False, True]
    assert np.array_equal(vectors, index.vectors(["p7", "p9"])[1])
    known, vectors = index.vectors([])
    assert (len(known), len(vectors)) == (0, 0)


def test_asked_for_diversity_they_are_less_like_each_other(bundle):
    index = LiveIndex(bundle, EXACT)

    def likeness(found):
        _, vectors = index.vectors([one.product_id for one in found])
        return float((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].mean())

    plain, varied, wild = (index.similar("p7", 10, diversity=share) for share in (0.0, 0.5, 1.0))
    assert plain[0] == varied[0]
    assert likeness(plain) > likeness(varied) > likeness(wild)
    assert len({one.product_id for one in wild}) == 10
