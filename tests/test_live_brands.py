"""Brands that are served follow what is sold: means as if taken anew after every change, profiles while it sells."""

from __future__ import annotations

import numpy as np
import pytest
import test_live as live
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.brands import BrandIndex, BrandMeans, sold
from serve_app.loaded import Loaded
from synthrec.config import Index
from synthrec.live.index import LiveIndex
from synthrec.recommenders.brands import Brands
from synthrec.stores import Change, open

BRANDS = [None, "", "Tarrow", "Ember", "Quill"]
EDITS = st.lists(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([*BRANDS, "gone"])), max_size=6), max_size=6)


def anew(index, ids):
    """Name -> mean direction, of all that is sold."""
    sums = {}
    for brand, vector in sold(index, ids):
        sums.setdefault(brand, []).append(vector)
    means = {brand: np.mean(some, axis=0) for brand, some in sums.items()}
    return {brand: one / np.linalg.norm(one) for brand, one in means.items()}


@given(EDITS)
@settings(max_examples=40, deadline=None)
def test_they_follow_what_is_put_replaced_and_deleted(edits):
    bundle = live.bundle_of([live.row(number) for number in range(30)], live.unit(30, 6))
    index, means, revision = LiveIndex(bundle, Index()), BrandMeans.of(bundle), 0
    vector, ids = live.unit(1, 7)[0], [f"p{number}" for number in range(41)]
    for seed, edit in enumerate([[], *edits]):
        changes = []
        for number, brand in edit:
            revision += 1
            row = None if brand == "gone" else live.row(number, seed) | {"brand": brand}
            changes.append(Change(revision, f"p{number}", row))
        changed = [change.product_id for change in changes]
        gone = sold(index, changed)
        index.apply(changes, live.unit(sum(one.product is not None for one in changes), seed))
        means.change(gone, sold(index, changed))
        want = {brand: float(one @ vector) for brand, one in anew(index, ids).items()}
        assert dict(means.top("", vector, 9)) == pytest.approx(want, abs=1e-5)


class Words:
    """Stands in for an encoder: a text's vector is that of its first word."""

    width = live.WIDTH

    def encode(self, texts, query=False):
        return np.array([live.unit(1, len(text.split()[0]))[0] for text in texts], np.float32).reshape(-1, live.WIDTH)


def test_a_version_that_follows_the_store_follows_its_brands(tmp_path):
    rows = [live.row(number) for number in range(20)]
    bundle = live.bundle_of(rows, live.unit(20, 6))
    loaded = Loaded("one", bundle, LiveIndex(bundle, Index()), Words(), None, BrandMeans.of(bundle), None)
    store = open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.put_products([live.row(90) | {"brand": "Quill", "text": "abcdefghi new"}])
    store.delete_products([row["product_id"] for row in rows if row["brand"] == "Ember"])
    assert loaded.follow(store) > 1
    vector = live.unit(1, 9)[0]
    found = loaded.brands.top("", vector, 9)
    assert [name for name, _ in found] == ["Quill", "Tarrow"]
    assert found[0][1] == pytest.approx(1, abs=1e-5)
    store.put_products([live.row(90) | {"brand": "Tarrow", "text": "abcdefghi new"}])
    loaded.follow(store)
    assert [name for name, _ in loaded.brands.top("", vector, 9)] == ["Tarrow"]
    store.close()


def test_changes_that_the_files_held_already_are_passed_over(tmp_path):
    rows = [live.row(number) for number in range(20)]
    store = open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.put_products([live.row(3) | {"title": "as it was put on Monday", "text": "monday"}])
    settled = store.delete_products(["p4"])

    def served(settled):
        bundle = live.bundle_of(rows, live.unit(20, 6))
        bundle.manifest["settled"] = settled
        loaded = Loaded("one", bundle, LiveIndex(bundle, Index()), Words(), None, BrandMeans.of(bundle), None)
        loaded.skip_settled(store)
        loaded.follow(store)
        return loaded.index

    assert served(0).size == 19
    assert served(settled).size == 20
    assert served(settled).product("p3")["title"] == rows[3]["title"]
    store.delete_products(["p5"])
    assert served(settled).size == 19  # what came after them counts
    assert served(settled + 100).size == 18  # of another store's numbers nothing is known: all changes count
    store.close()


def test_a_brand_with_a_profile_is_passed_over_once_it_sells_nothing(tmp_path):
    rows = [live.row(number) for number in range(20)]
    bundle = live.bundle_of(rows, live.unit(20, 6))
    known = Brands.build({"Ember": "pans for gas"}, {"Ember": ["pan"], "Tarrow": ["kettle"]}, Words().encode)
    loaded = Loaded("one", bundle, LiveIndex(bundle, Index()), Words(), None, BrandIndex.of(bundle, known), None)
    store = open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    vector = live.unit(1, 9)[0]

    def names(k):
        return [name for name, _ in loaded.brands.top("pans", vector, k)]

    assert names(9) == ["Ember", "Tarrow"]
    ember = [row["product_id"] for row in rows if row["brand"] == "Ember"]
    store.delete_products(ember[1:])
    loaded.follow(store)
    assert names(1) == ["Ember"]  # one product is left
    store.delete_products(ember[:1])
    loaded.follow(store)
    assert names(1) == names(9) == ["Tarrow"]
    store.put_products([live.row(90) | {"brand": "Ember", "text": "abcdefghi new"}])
    loaded.follow(store)
    assert names(1) == ["Ember"]
    store.close()
