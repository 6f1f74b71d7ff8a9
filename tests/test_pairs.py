"""Training pairs: the hard negatives beside them, and what a cross-encoder thinks of these."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from synthrec.recommenders.bi_encoder import info_nce
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


def mined(labels=(), count=2, margin=0.99):
    return with_negatives(PAIRS, TEXTS, list(labels), Words(), count, margin).to_pylist()


def test_the_nearest_that_is_not_the_querys_own_is_the_hardest():
    rows = mined()
    assert [row["query"] for row in rows] == [query for query, _ in ROWS]
    assert set(rows[0]["negative_groups"]) == {"p2", "p3"}
    for row, (query, group) in zip(rows, ROWS, strict=True):
        assert row["negatives"] == [TEXTS[one] for one in row["negative_groups"]]
        right = {other for asked, other in ROWS if asked == query} - {group}
        assert not right & set(row["negative_groups"]), "what any pair of the query calls right is no negative"
    assert rows[1]["negative_groups"] == ["p1", "p1"], "nothing is farther from it than its own"


def test_what_the_llm_found_fitting_is_no_negative():
    near = mined([judged("Kettle in red.", "p2", 0.9), judged("kettle in red", "p3", 0.1)])[0]["negative_groups"]
    assert "p2" not in near
    assert "p3" in near


def test_where_nothing_is_far_enough_the_pairs_own_product_fills_up():
    """What is above the margin may be right though nobody labelled it. The loss passes over a pair's own product."""
    assert [row["negative_groups"] for row in mined(margin=0.0)] == [[group] * 2 for _, group in ROWS]
    rows = mined(count=6)
    assert [len(row["negatives"]) for row in rows] == [6] * 4
    assert rows[0]["negative_groups"][-2:] == ["p1", "p1"]


def test_what_fills_up_changes_no_loss():
    queries, products = torch.eye(3)[:2], torch.eye(3)[[0, 1, 2]]
    groups, filled = torch.tensor([7, 8]), torch.tensor([7, 8, 9, 7, 8])
    without = info_nce(queries, products, groups, filled[:3], 0.1)
    both = torch.cat([products, products[:2]])
    own_only = info_nce(queries[:1], both[[0, 2, 3]], groups[:1], filled[[0, 2, 3]], 0.1)
    assert own_only.item() == pytest.approx(info_nce(queries[:1], both[[0, 2]], groups[:1], filled[[0, 2]], 0.1).item())
    assert info_nce(queries, both, groups, filled, 0.1).item() >= without.item(), "of the other pair it is a negative"


def test_the_teacher_scores_the_product_then_each_negative():
    class Teacher:
        def scores(self, pairs):
            self.asked = pairs
            return np.arange(len(pairs), dtype=np.float32)

    teacher, pairs = Teacher(), with_negatives(PAIRS, TEXTS, [], Words(), 2, 0.99)
    rows = with_teacher(pairs, teacher).to_pylist()
    assert [row["teacher"] for row in rows] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert teacher.asked[3:6] == [(rows[1]["query"], text) for text in (rows[1]["product"], *rows[1]["negatives"])]
