"""Judgments: what a file of them says, how they are split, what behaviour stands for, and what is tuned on them."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec.config import NextItem
from synthrec.errors import UserError
from synthrec.evaluation import judgments, metrics, systems
from synthrec.evaluation.judgments import Query, arrays, load_graded, load_next_item, split
from synthrec.retrieval.bm25 import BM25
from synthrec.sources.cleaning import product_text
from synthrec.sources.records import Product

# Graded judgments from a file.


@pytest.fixture
def graded(tmp_path):
    """`graded(row, ...)` loads a file of these rows; a row may be raw bytes."""

    def load(*rows):
        data = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
        path = tmp_path / "judged.jsonl"
        path.write_bytes(b"\n".join(data) + b"\n")
        return load_graded(str(path))

    return load


def test_grades_become_gains(graded):
    full = {
        "query_id": "q-7",
        "query": "pan for eggs",
        "language": "en",
        "E": ["a"],
        "S": ["b"],
        "C": ["c"],
        "I": ["d"],
    }
    found = graded(full, b"", {"query": "不粘锅", "E": ["b", "c"]}, b"  ", {"query": "lid", "E": []})
    assert found[0] == Query("q-7", "pan for eggs", "en", {"a": 1.0, "b": 0.1, "c": 0.01, "d": 0.0})
    assert found[1] == Query("3", "不粘锅", "zh", {"b": 1.0, "c": 1.0}), "no id: its line; no language: by its letters"
    assert found[2].gains == {}


def test_the_shops_own_judgments_load(store):
    found = load_graded(str(store / "judgments.jsonl"))
    assert len(found) == 120
    assert len({query.query_id for query in found}) == 120
    assert {query.language for query in found} == {"en", "zh"}
    assert all(1.0 in query.gains.values() for query in found)


def test_numbers_are_ids_too(graded):
    assert graded({"query": "pan", "E": [17]})[0].gains == {"17": 1.0}


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(graded):
    (one, two) = graded(b'\xef\xbb\xbf{"query": "pan", "E": ["a"]}\r', b'{"query": "lid", "E": ["b"]}\r')
    assert (one.text, two.text) == ("pan", "lid")


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\u00a0"])
def test_a_text_may_hold_what_unicode_calls_a_line_end(graded, inside):
    text = f"pan{inside}lid"
    assert [query.text for query in graded({"query": text, "E": ["a"]}, {"query": "x", "E": ["b"]})] == ["pan lid", "x"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"query": "pan", "E": ["a"]', "JSONDecodeError"),
        (b'["pan"]', "list"),
        (b"7", "int"),
        (b'{"E": ["a"]}', "query"),
        (b'{"query": null, "E": ["a"]}', "query is no text"),
        (b'{"query": 5, "language": "en", "E": ["a"]}', "query is no text"),
        (b'{"query": "pan", "E": null}', "list of product ids"),
        (b'{"query": "pan", "E": "KIT01"}', "list of product ids"),  # else its letters would be judged
        (b'{"query": "pan", "S": [["a"]]}', "list of product ids"),
        (b'{"query": "pan", "I": {"a": 1}}', "list of product ids"),
        (b'{"query": "pan", "E": ["a"], "I": ["b", "a"]}', "a is judged twice"),
        (b'{"query": "pan", "language": ["en"], "E": ["a"]}', "language is no text"),
        (b'{"query": "pan", "E": ' + b"[" * 100_000, "RecursionError"),
    ],
)
def test_a_line_that_is_no_judgment_is_told_with_its_place(graded, tmp_path, bad, told):
    with pytest.raises(UserError) as error:
        graded({"query": "lid", "E": ["a"]}, b"", bad)
    assert error.value.problem.startswith(f"{tmp_path / 'judged.jsonl'}:3: not a judgment (")
    assert told in error.value.problem
    assert '"query"' in error.value.hint


def test_a_file_that_cannot_be_read_is_told(graded, tmp_path):
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(UserError, match=r"evaluate\.judgments") as told:
            load_graded(str(path))
        assert str(path) in told.value.problem
    with pytest.raises(UserError, match=r"evaluate\.judgments"):
        graded('{"query": "café"}'.encode("latin-1"))
    with pytest.raises(UserError, match="no judged query"):
        graded(b"", b"")


# Splitting.


def queries(count, language):
    return [Query(f"{language}{i}", f"text {i}", language, {}) for i in range(count)]


@given(
    sizes=st.dictionaries(st.sampled_from(["en", "zh", "fr"]), st.integers(1, 40), min_size=1),
    share=st.floats(0, 1),
    seed=st.integers(0, 50),
    dice=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_each_language_is_split_alike_and_every_query_goes_to_one_side(sizes, share, seed, dice):
    given_ = [query for language, count in sizes.items() for query in queries(count, language)]
    tune, test = split(given_, share, seed)
    assert Counter(q.query_id for q in tune + test) == Counter(q.query_id for q in given_)
    for language, count in sizes.items():
        assert abs(sum(q.language == language for q in tune) - share * count) <= 0.5
    # By a hash of the query: neither the order of the file nor another run makes a difference.
    dice.shuffle(given_)
    again, _ = split(given_, share, seed)
    assert {q.query_id for q in again} == {q.query_id for q in tune}


def test_the_split_is_drawn_by_the_seed_and_not_by_the_order_of_the_file():
    some = queries(40, "en")
    first, second = ([q.query_id for q in split(some, 0.5, seed)[0]] for seed in (1, 2))
    assert set(first) != set(second)
    assert set(first) != {q.query_id for q in some[:20]}


# Behaviour.

TITLES = {"0": "Spoon", "k1": "Red kettle", "k2": "不粘平底锅", "k3": "Pan lid", "k4": "Wok"}


@pytest.fixture
def behaviour(tmp_path):
    """`behaviour([(history, target), ...], ...)` -> (queries, left out)."""

    def load(rows, most=None, types=None, **settings):
        path = tmp_path / "sequences.parquet"
        columns = {"history": [history for history, _ in rows], "target": [target for _, target in rows]}
        pq.write_table(pa.table(columns, schema=types), path)
        return load_next_item(str(path), NextItem(path=str(path), **settings), TITLES, most)

    return load


def test_the_last_product_of_a_history_asks_for_the_next(behaviour):
    found, left_out = behaviour([(["k1", "k3"], "k2"), (["k3", "k2"], "k4")])
    assert left_out == 0
    assert found == [
        Query("sequences.parquet:0", "Pan lid", "en", {"k2": 1.0}, ("k1", "k3")),
        Query("sequences.parquet:1", "不粘平底锅", "zh", {"k4": 1.0}, ("k3", "k2")),
    ]


def test_padding_is_no_product(behaviour):
    found, left_out = behaviour([(["0", "0", "k1"], "k2"), (["k1", "0"], "k2"), (["0", "0"], "k2")], padding="0")
    assert [(q.text, q.exclude) for q in found] == [("Red kettle", ("k1",))] * 2
    assert left_out == 1


def test_a_product_bought_again_is_the_answer_and_not_excluded(behaviour):
    found, left_out = behaviour([(["k1", "k3", "k1", "k3"], "k1"), (["k1"], "k1")])
    assert [(q.text, q.exclude, q.gains) for q in found] == [("Pan lid", ("k3",), {"k1": 1.0})]
    assert left_out == 1  # asked for by its own title, any system finds it


def test_what_the_catalogue_does_not_hold_is_left_out_and_counted(behaviour):
    rows = [
        (["k1"], "gone"),
        (["gone", "lost"], "k1"),
        (["k1", "gone"], "k2"),
        ([], "k1"),
        (None, "k1"),
        (["k1"], None),
    ]
    found, left_out = behaviour(rows)
    assert [(q.query_id, q.text, q.exclude) for q in found] == [("sequences.parquet:2", "Red kettle", ("k1",))]
    assert left_out == 5


def test_the_columns_may_have_other_names_and_numbers_for_ids(tmp_path):
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"seen": [[0, 1, 2]], "next": [3]}), path)
    settings = NextItem(path=str(path), history="seen", target="next", padding="0")
    titles = {"1": "Kettle", "2": "Pan", "3": "Lid"}
    assert load_next_item(str(path), settings, titles, None)[0][0].gains == {"3": 1.0}


def test_a_sample_is_drawn_by_hash_and_grows_without_changing(behaviour):
    rows = [([f"k{1 + i % 4}"], f"k{1 + (i + 1) % 4}") for i in range(60)]
    few, left_out = behaviour(rows, most=10)
    more, _ = behaviour(rows, most=30)
    assert (len(few), len(more), left_out) == (10, 30, 0)
    assert {q.query_id for q in few} < {q.query_id for q in more}
    assert {q.query_id for q in few} != {f"sequences.parquet:{i}" for i in range(10)}
    assert len(behaviour(rows, most=100)[0]) == 60


def test_behaviour_that_cannot_be_read_is_told(behaviour, tmp_path):
    (tmp_path / "text.parquet").write_text("not Parquet")
    for name in ("nowhere.parquet", "text.parquet"):
        path = str(tmp_path / name)
        with pytest.raises(UserError, match=r"evaluate\.next_item: cannot read") as told:
            load_next_item(path, NextItem(path=path), TITLES, None)
        assert name in told.value.problem
    with pytest.raises(UserError, match=r"No match for FieldRef\.Name\(seen\)"):
        behaviour([(["k1"], "k2")], history="seen")
    for kind in (pa.string(), pa.large_string()):
        text = pa.schema([("history", kind), ("target", pa.string())])
        with pytest.raises(UserError, match="column history holds text"):
            behaviour([(None, "k1"), ("k1 k3", "k2")], types=text)


# Ranking against them.


def test_a_judged_product_that_is_not_sold_still_counts_in_the_ideal():
    place = {"a": 0, "b": 1, "c": 2}
    judged = [Query("1", "pan", "en", {"gone": 1.0, "a": 1.0, "lost": 0.1}), Query("2", "lid", "en", {"gone": 1.0})]
    gains, _ = arrays(judged, place)
    assert sorted(gains[0].values()) == [0.1, 1.0, 1.0]
    assert gains[0][0] == 1.0
    assert all(position >= 3 for position in set(gains[0]) - {0})

    found = systems.rank(judged, place, lambda rows: np.tile(np.array([3.0, 2, 1], np.float32), (len(rows), 1)))
    assert found.ranking.tolist() == [[0, 1, 2], [0, 1, 2]]
    ideal = 1 + 1 / math.log2(3) + 0.1 / 2
    assert found.ndcg(10).tolist() == pytest.approx([1 / ideal, 0.0])
    assert metrics.recall(found.ranking, found.gains, 10, judgments.RELEVANT).tolist() == [0.5, 0.0]


def test_many_queries_are_ranked_in_pieces_with_their_own_exclusions(monkeypatch):
    dice = np.random.default_rng(0)
    place = {f"p{i}": i for i in range(150)}
    scores = dice.normal(size=(7, 150)).astype(np.float32)
    asked = [Query(str(i), "x", "en", {}, (f"p{scores[i].argmax()}", "gone")) for i in range(7)]
    whole = systems.rank(asked, place, lambda rows: scores[list(rows)])
    monkeypatch.setattr(systems, "CELLS", 3 * 150)
    pieces = systems.rank(asked, place, lambda rows: scores[list(rows)])
    assert pieces.ranking.shape == (7, systems.DEPTH)
    assert (pieces.ranking == whole.ranking).all()
    assert (pieces.ranking == np.argsort(-scores)[:, 1 : systems.DEPTH + 1]).all(), "the best is excluded, no other"
    assert systems.rank([], place, lambda rows: scores[list(rows)]).ranking.shape == (0, systems.DEPTH)


# Tuning.


def test_bm25_gets_the_best_of_the_grid(store):
    lines = (store / "products.jsonl").read_text(encoding="utf-8").splitlines()
    products = [Product.model_validate(json.loads(line)) for line in lines]
    texts, place = [product_text(p) for p in products], {p.product_id: i for i, p in enumerate(products)}
    tune = load_graded(str(store / "judgments.jsonl"))[::4]
    got = systems.tune_bm25(texts, tune, place)

    value = {}
    for k1 in systems.K1:
        for b in systems.B:
            index = BM25.build(texts, k1, b)
            ranking = metrics.rank(np.stack([index.scores(query.text) for query in tune]), 10)
            gains = [{place[p]: gain for p, gain in query.gains.items()} for query in tune]
            value[k1, b] = metrics.ndcg(ranking, gains, 10).mean()
    assert value[got["k1"], got["b"]] == max(value.values()) > min(value.values())
    assert systems.tune_bm25(texts, [], place) == {"k1": 1.2, "b": 0.75}
    no_help = [Query("1", "zzz", "en", {products[0].product_id: 1.0})]
    assert systems.tune_bm25(texts, no_help, place) == {"k1": 1.2, "b": 0.75}, "where all do as well, the usual ones"


def mixed(lexical, semantic, asked, place):
    """The tuned weights of queries whose scores are these rows."""
    one, other = (np.array(rows, np.float32) for rows in (lexical, semantic))
    return systems.tune_weights(lambda rows: one[list(rows)], lambda rows: other[list(rows)], asked, place)


def test_each_language_gets_the_weight_that_is_best_for_it():
    # One retriever has the right product first, the other a rival. Scores over their best: 1 and 0.5 by words, 1 and
    # 0.6 by vectors. So words are outvoted where w + 0.5 (1 - w) > 0.6 w + (1 - w), that is from w = 5/9 on.
    place = {"rival": 0, "right": 1}
    good, bad = [0.5, 1.0], [1.0, 0.5]
    near, far = [0.2, 1.0], [1.0, 0.2]
    right = {"right": 1.0}
    asked = [Query("1", "pan for eggs", "en", right), Query("2", "不粘锅", "zh", right)] * 5
    got = mixed([bad, good] * 5, [near, far] * 5, asked, place)
    assert list(got) == ["en", "zh"]
    assert got == {"en": 0.6, "zh": 0.5}
    assert mixed([good, bad] * 5, [far, near] * 5, asked, place) == {"en": 0.5, "zh": 0.6}
    assert mixed([bad, good] * 4, [near, far] * 4, asked[:8], place) == {"en": 0.5, "zh": 0.5}, "four tell nothing"


def no_worse(values, best):
    """By no more than the standard error of the mean difference."""
    lost = [a - b for a, b in zip(best, values, strict=True)]
    return statistics.mean(lost) <= statistics.stdev(lost) / math.sqrt(len(lost)) + 1e-8


@given(seed=st.integers(0, 200))
@settings(deadline=None)
def test_the_weight_is_within_a_standard_error_of_the_best_and_none_nearer_the_middle_is(seed):
    dice = np.random.default_rng(seed)
    place = {f"p{i}": i for i in range(6)}
    texts = ["pan for eggs", "不粘锅"] * 5
    asked = [Query(str(i), text, "", {f"p{dice.integers(6)}": 1.0}) for i, text in enumerate(texts)]
    lexical, semantic = np.abs(dice.normal(size=(10, 6))), dice.uniform(-1, 1, (10, 6))
    got = mixed(lexical, semantic, asked, place)

    def ndcg(row, weight):
        scores = (1 - weight) * lexical[row] / lexical[row].max()
        scores = scores + weight * (semantic[row] + 1) / (semantic[row].max() + 1)
        (own,) = asked[row].gains
        return 1 / math.log2(2 + (scores > scores[place[own]]).sum())

    for tongue, rows in (("en", range(0, 10, 2)), ("zh", range(1, 10, 2))):
        value = {weight: [ndcg(row, weight) for row in rows] for weight in systems.WEIGHTS}
        most = max(map(sum, value.values()))
        tops = [one for one in value.values() if sum(one) > most - 1e-9]  # the difference may be to any of them
        allowed = [{w for w, one in value.items() if no_worse(one, best)} for best in tops]
        off = abs(got[tongue] - 0.5)
        assert any(got[tongue] in some and off == min(abs(w - 0.5) for w in some) for some in allowed)


def test_the_weight_goes_by_the_text_as_it_will_be_served_and_not_by_the_judgments_word():
    asked = [Query("1", "pan", "zh", {"a": 1.0}), Query("2", "不粘锅", "en", {"a": 1.0})]
    assert list(mixed([[1, 0], [1, 0]], [[1, 0], [1, 0]], asked, {"a": 0, "b": 1})) == ["en", "zh"]
    (one,) = [Query("1", "pan", "zh", {"a": 1.0})]
    assert list(mixed([[1, 0]], [[1, 0]], [one], {"a": 0, "b": 1})) == ["en"]


def test_a_language_with_nothing_to_find_leans_on_neither():
    asked = [Query("1", "pan", "en", {"b": 1.0}), Query("2", "不粘锅", "zh", {"a": 0.0})] * 5
    got = mixed([[1.0, 0.0]] * 10, [[-1.0, 1.0]] * 10, asked, {"a": 0, "b": 1})
    assert got["zh"] == 0.5
    assert got["en"] > 0.5
