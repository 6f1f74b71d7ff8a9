"""Training pairs: the hard negatives beside them, and what a cross-encoder thinks of these."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from synthrec.errors import UserError
from synthrec.training.pairs import PAIR, with_negatives, with_teacher

TEXTS = {"p1": "red kettle", "p2": "blue kettle", "p3": "kettle stand", "p4": "dog leash", "p5": "dog bowl"}
ROWS = [("kettle in red", "p1"), ("something to boil water", "p1"), ("leash", "p4"), ("leash", "p5")]
PAIRS = pa.Table.from_pylist([{"query": q, "product": TEXTS[g], "group": g} for q, g in ROWS], schema=PAIR)
WORDS = ("red", "kettle", "dog", "leash", "stand", "bowl", "blue")


class Words:
    """An encoder that knows seven words, each a direction, and a little of everything in every text."""

    def encode(self, texts, query=False):
        rows = np.array([[0.1 + (word in text) for word in WORDS] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def judged(query, product, fits):
    return {"task": "relevance", "text": query, "product_id": product, "scores": [fits, 0.0, 0.0, 1 - fits]}


def mined(labels=(), count=2, margin=0.99, seed=1):
    return with_negatives(PAIRS, TEXTS, list(labels), Words(), count, margin, seed).to_pylist()


def test_the_nearest_that_is_not_the_querys_own_is_the_hardest():
    rows = mined()
    assert [row["query"] for row in rows] == [query for query, _ in ROWS]
    assert set(rows[0]["negative_groups"]) == {"p2", "p3"}
    for row in rows:
        assert row["negatives"] == [TEXTS[one] for one in row["negative_groups"]]
        assert len(set(row["negative_groups"])) == 2
        own = {group for query, group in ROWS if query == row["query"]}
        assert not own & set(row["negative_groups"]), "what any pair of the query calls right is no negative"


def test_what_the_llm_found_fitting_is_no_negative():
    near = mined([judged("Kettle in red.", "p2", 0.9), judged("kettle in red", "p3", 0.1)])[0]["negative_groups"]
    assert "p2" not in near
    assert "p3" in near


def test_random_products_fill_up_and_the_seed_draws_them():
    none_near = [mined(margin=0.0, seed=seed)[1]["negative_groups"] for seed in range(8)]
    assert all("p1" not in some and len(set(some)) == 2 for some in none_near)
    assert len({tuple(some) for some in none_near}) > 1
    assert mined(margin=0.0, seed=3) == mined(margin=0.0, seed=3)


def test_a_catalogue_may_be_too_small():
    with pytest.raises(UserError, match="5 products are too few for 4 hard negatives"):
        mined(count=4)


def test_the_teacher_scores_the_product_then_each_negative():
    class Teacher:
        def scores(self, pairs):
            self.asked = pairs
            return np.arange(len(pairs), dtype=np.float32)

    teacher, pairs = Teacher(), with_negatives(PAIRS, TEXTS, [], Words(), 2, 0.99, 1)
    rows = with_teacher(pairs, teacher).to_pylist()
    assert [row["teacher"] for row in rows] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert teacher.asked[3:6] == [(rows[1]["query"], text) for text in (rows[1]["product"], *rows[1]["negatives"])]
