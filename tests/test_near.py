"""Near and semantic duplicates: what is close is found, whatever the parts; the best of a group is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import aids, query, shelf_of, whole

from synthrec import schema
from synthrec.curation import STEPS, Parts, near
from synthrec.storage import Folder

unhurried = settings(deadline=None)  # the machine may be busy
TEXTS = st.text(st.sampled_from("abcde 水壶红色 "), min_size=1, max_size=30)


@given(one=TEXTS, other=TEXTS)
@unhurried
def test_jaccard_is_a_likeness(one, other):
    a, b = near.shingles(one), near.shingles(other)
    assert near.jaccard(a, a) == 1
    assert 0 <= near.jaccard(a, b) == near.jaccard(b, a) <= 1
    assert near.shingles(one.upper()) == a


@given(texts=st.lists(TEXTS, min_size=1, max_size=20, unique=True))
@unhurried
def test_equal_texts_share_all_bands_and_other_salts_none(texts):
    signed = near.signatures([*texts, texts[0]])
    keys = near.band_keys(signed, np.zeros(len(signed), np.uint64))
    assert (keys[0] == keys[-1]).all()
    salted = near.band_keys(signed, np.arange(len(signed), dtype=np.uint64))
    assert not (salted[0] == salted[-1]).any()


@pytest.fixture
def run(tmp_path, ray_session):
    """The step on rows in files of so many; (kept ids, {refused id: detail})."""

    def step(rows, size=1000, relevance=None, **wanted):
        folder = Folder.open(str(tmp_path / f"{len(list(tmp_path.iterdir()))}"))
        for start in range(0, len(rows), size):
            some = schema.table(rows[start : start + size], schema.LABEL)
            (folder / "parts").write_table(f"{start:05d}.parquet", some)
        known = aids(work=f"{folder}/work", relevance=relevance, **wanted)
        one = STEPS["near_duplicates"]
        parts = Parts(folder / "parts")
        learnt = one.learn(parts, known)
        done = [one.apply(some, known, learnt) for some in parts]
        kept = {row["id"] for rows, _ in done for row in rows}
        return kept, {row["id"]: detail for _, refused in done for row, _, detail in refused}

    return step


ROWS = [
    query("quiet kettle for a small kitchen", "k1", 1),
    query("quiet kettles for a small kitchen", "k1", 2),
    query("quiet kettle for a small kitchen!", "k2", 3),
    query("garden chair that folds flat", "k2", 4),
    query("下雨天遛狗穿的红色防水雨衣", "k3", 5, "zh"),
    query("下雨天遛狗穿的红色防水雨衣服", "k3", 6, "zh"),
    query("遛狗雨衣", "k3", 7, "zh"),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_near_copies_are_found_within_a_product_or_anywhere(run, size):
    kept, refused = run(ROWS, size)
    assert kept == {"q001", "q003", "q004", "q005", "q007"}
    assert "of q001, which says 'quiet kettle for a small kitchen'" in refused["q002"]
    kept, _ = run(ROWS, size, near_scope="task")
    assert kept == {"q001", "q004", "q005", "q007"}
    assert run(ROWS, size, near_similarity=1.0)[1] == {}


def test_the_best_of_a_group_is_kept(run):
    scored = {(ROWS[1]["text"], "k1"): 0.9, (ROWS[0]["text"], "k1"): 0.2}
    kept, refused = run(ROWS[:2], relevance=scored)
    assert kept == {"q002"}
    assert "of q002" in refused["q001"]


def test_no_rows_have_no_copies(run):
    assert run([]) == (set(), {})


def test_what_means_the_same_of_one_product_is_one_query(store):
    shelf = shelf_of(store)
    one, other = list(shelf)[:2]
    rows = [
        query("cast iron skillet", one, 1),
        query("skillet, cast iron", one, 2),
        query("cast iron skillet", other, 3),
        query("birthday present for a cook", one, 4),
        query("安静的水壶", one, 5, "zh"),
        query("红色的雨衣", one, 6, "zh"),
    ]
    kept, refused = whole("semantic_duplicates", rows, aids(shelf, semantic_similarity=0.9))
    assert {row["id"] for row in kept} == {"q001", "q003", "q004", "q005", "q006"}
    assert "cosine" in refused[0][2]
