"""Curation: each step on rows made by hand, the round trip on real products, and the stage as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import LABELS, TITLES, aids, config, query, scored, shelf_of, whole

from synthrec import schema
from synthrec.curation import STEPS, chosen
from synthrec.curation.clean import copies, normalise, well_formed
from synthrec.curation.dedup import duplicates
from synthrec.curation.relevance import scored_relevant
from synthrec.errors import UserError
from synthrec.retrieval.bm25 import BM25
from synthrec.tasks import TASKS

unhurried = settings(deadline=None)  # the machine may be busy


def reason(step, row, **wanted):
    """Why a step refuses a row by itself; None if it keeps it."""
    kept, refused = step([row], aids(**wanted))
    assert len(kept) + len(refused) == 1
    return refused[0][1] if refused else None


# Normalise.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Quiet  Kettle.", "quiet kettle"),
        (' "quiet kettle"!? ', "quiet kettle"),
        ("１．５Ｌ Ｋettle", "1．5l kettle"),
        ("安静的水壶。", "安静的水壶"),
        ("for <b>two</b> &amp; more", "for two & more"),
        ("non-stick pan, 28 cm", "non-stick pan, 28 cm"),
        ("...", ""),
    ],
)
def test_queries_are_normalised(text, expected):
    row = query(text)
    ((found,), refused) = normalise([row], aids())
    assert found == row | {"text": expected}
    assert refused == []
    assert row["text"] == text  # the row given is left as it was


# Well formed.


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("kettle", "en", "too short"),
        ("red kettle", "en", None),
        ("", "en", "too short"),
        ("壶", "zh", "too short"),
        ("水壶", "zh", None),
        ("2l 壶", "zh", None),
        ("ab " * 39 + "abc", "en", "repeats itself"),
        (" ".join(f"{n:02d}" for n in range(40)) + "1", "en", None),  # 120 characters
        (" ".join(f"{n:02d}" for n in range(40)) + "12", "en", "too long"),
        ("red red kettle", "en", None),
        ("red red red kettle", "en", "repeats itself"),
        ("好好好好水", "zh", "repeats itself"),
        ("red 水壶", "en", "wrong language"),
        ("red kettle", "zh", "wrong language"),
    ],
)
def test_queries_of_no_use_are_refused_with_their_reason(text, language, expected):
    assert reason(well_formed, query(text, language=language)) == expected


def test_what_is_too_short_or_long_is_a_setting():
    assert reason(well_formed, query("kettle"), min_words=1) is None
    assert reason(well_formed, query("quiet red kettle"), min_words=4) == "too short"
    assert reason(well_formed, query("quiet red kettle"), max_chars=15) == "too long"


# Copies.


@pytest.mark.parametrize(
    ("text", "product_id", "expected"),
    [
        ("tarrow cast iron skillet", "k1", "copy of the title"),
        ("tarrow cast iron skillets 10.25", "k1", "copy of the title"),  # words are stemmed
        ("cast iron skillet", "k1", None),  # half of the title's words only
        ("skillet cast iron tarrow", "k1", None),  # not in its order
        ("tarrow cast iron skillet for steak and eggs", "k1", None),
        ("tarrow cast iron skillet", "k2", None),  # another's title
        ("橡奔狗狗防水雨衣", "k3", "copy of the title"),
        ("下雨遛狗穿的衣服", "k3", None),
        ("the", "k1", None),  # stop words only: nothing to compare
    ],
)
def test_copies_of_the_title_are_refused(text, product_id, expected):
    assert reason(copies, query(text, product_id)) == expected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Boils a litre in two minutes", "Boils a litre in two minutes"),
        ("Boils a litre in two minutes!", "Boils a litre in two minutes!"),
        ("a kettle you will love", "A kettle you will love!"),
        ("颜色：红色", "颜色：红色"),
        ("夜里也安静。", "夜里也安静"),
    ],
)
def test_copies_of_what_the_prompt_asked_for_are_refused(text, label):
    (row,), _ = normalise([query(text, label=label)], aids())
    assert reason(copies, row) == "copy of the prompt"
    assert reason(copies, row | {"label": label + " x"}) is None


@given(
    title=st.lists(st.sampled_from([f"word{n}" for n in range(30)]), min_size=1, max_size=12, unique=True),
    data=st.data(),
)
@unhurried
def test_most_of_a_title_in_its_order_is_always_a_copy(title, data):
    places = st.lists(st.sampled_from(range(len(title))), min_size=-(-6 * len(title) // 10), unique=True)
    chosen = sorted(data.draw(places))
    known = {"k1": {"product_id": "k1", "title": " ".join(title), "text": ""}}
    assert reason(copies, query(" ".join(title[n] for n in chosen)), products=known) == "copy of the title"
    others = [f"other{n}" for n in range(len(title))]
    assert reason(copies, query(" ".join(others)), products=known) is None


# Duplicates.


def test_the_same_words_in_another_order_are_a_duplicate_of_the_same_product_only():
    rows = [
        query("red kettle", "k2", 3),
        query("kettles, red", "k2", 1),
        query("red kettle", "k1", 0),
        query("red kettle quiet", "k2", 2),
        query("红色水壶", "k2", 5, "zh"),
        query("水壶红色", "k2", 4, "zh"),
    ]
    kept, refused = duplicates(rows, aids())
    assert [row["id"] for row in kept] == ["q000", "q001", "q002", "q004"]
    assert [(row["id"], why) for row, why, _ in refused] == [("q003", "duplicate"), ("q005", "duplicate")]
    assert "kettles, red" in refused[0][2]


def test_queries_of_stop_words_alone_are_not_all_the_same():
    kept, refused = duplicates([query("of the", number=0), query("to it", number=1), query("of the", number=2)], aids())
    assert [row["id"] for row in kept] == ["q000", "q001"]
    assert len(refused) == 1


WORDS = st.sampled_from(["red", "kettle", "kettles", "quiet", "of", "the", "水壶", "红色", "的", "!", "2"])
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)
QUERIES = st.lists(
    st.builds(
        query,
        TEXTS,
        st.sampled_from(list(TITLES)),
        language=st.sampled_from(["en", "zh"]),
        label=TEXTS.filter(bool),
    ),
    max_size=12,
).map(lambda rows: [row | {"id": f"q{n:03d}"} for n, row in enumerate(rows)])


def answer(step, rows, **known):
    """Ids kept, and (id, reason) of those refused."""
    kept, refused = step(rows, aids(**known))
    return {row["id"] for row in kept}, {(row["id"], why) for row, why, _ in refused}


@given(rows=QUERIES, data=st.data())
@unhurried
def test_the_order_of_rows_does_not_matter_to_duplicates(rows, data):
    assert answer(duplicates, rows) == answer(duplicates, data.draw(st.permutations(rows)))


# No row is ever lost.

OTHERS = ("round_trip", "near_duplicates", "augment")  # tested on their own


@pytest.mark.parametrize(
    "step",
    [s for s in STEPS.values() if s.tasks[:1] == ("queries",) and s.name not in OTHERS],
    ids=lambda s: s.name,
)
@given(rows=QUERIES, data=st.data())
@unhurried
def test_every_query_is_kept_or_refused_with_a_reason(step, rows, data):
    relevance = {(row["text"], row["product_id"]): data.draw(st.floats(0, 1)) for row in rows[::2]}
    kept, refused = whole(step.name, rows, aids(relevance=relevance, min_relevance=0.5))
    assert sorted([row["id"] for row in kept] + [row["id"] for row, _, _ in refused]) == [row["id"] for row in rows]
    assert all(why and detail for _, why, detail in refused)
    assert all(schema.table([row], schema.LABEL).num_rows == 1 for row in kept)


@pytest.mark.parametrize("task", ["sentiment", "relevance"])
@pytest.mark.parametrize("how", ["batch", "contextual", "none"])
@given(data=st.data())
@unhurried
def test_every_scored_row_is_kept_with_scores_that_are_probabilities(task, how, data):
    one = st.lists(st.floats(-30, 30), min_size=len(LABELS[task]), max_size=len(LABELS[task]))
    drawn = data.draw(st.lists(st.tuples(one, one | st.none(), st.sampled_from(["en", "zh"])), max_size=12))
    rows = [scored(n, logits, language, task, prior=prior) for n, (logits, prior, language) in enumerate(drawn)]
    kept, refused = whole("calibrate", rows, aids(calibration=how))
    assert refused == []
    assert sorted(row["id"] for row in kept) == [row["id"] for row in rows]
    for row in kept:
        assert sum(row["scores"]) == pytest.approx(1)
        assert row["score"] == max(row["scores"])
        assert row["label"] == LABELS[task][row["scores"].index(row["score"])]


def test_steps_come_in_an_order_that_makes_sense():
    order = list(config().curate.steps)
    assert {task for step in STEPS.values() for task in step.tasks} <= set(TASKS)
    # What refuses by the text looks at the text as it will be kept, and the dear steps see the fewest rows.
    assert order.index("normalise") < min(order.index(s) for s in ("well_formed", "copies", "duplicates", "round_trip"))
    assert order.index("round_trip") > max(order.index(s) for s in ("well_formed", "copies", "duplicates"))


def test_a_step_that_is_none_is_told_with_those_that_are():
    with pytest.raises(UserError) as told:
        chosen(("normalise", "round_tripp"))
    assert "round_tripp" in told.value.problem
    assert "round_trip" in told.value.hint


# The LLM's second look.


@pytest.mark.parametrize(("least", "expected"), [(0.0, None), (0.4, None), (0.41, "scored irrelevant")])
def test_queries_scored_irrelevant_are_refused(least, expected):
    known = {("red kettle", "k1"): 0.4}
    assert reason(scored_relevant, query("red kettle"), relevance=known, min_relevance=least) == expected
    assert reason(scored_relevant, query("red kettle", "k2"), relevance=known, min_relevance=least) is None
    assert reason(scored_relevant, query("blue kettle"), relevance=known, min_relevance=least) is None


# The round trip, with the embedded encoder.


@pytest.fixture(scope="module")
def shelf(store):
    return shelf_of(store)


@pytest.fixture
def roundtrip(shelf, tmp_path):
    return lambda rows, k: whole("round_trip", rows, aids(shelf, work=tmp_path, roundtrip_k=k))


def test_a_query_must_find_its_product(shelf, roundtrip):
    english, chinese = (next(i for i, p in shelf.items() if p["language"] == la) for la in ("en", "zh"))
    rows = [query(product["title"], i, n, product["language"]) for n, (i, product) in enumerate(shelf.items())]
    swapped = dict(zip(shelf, [*list(shelf)[1:], next(iter(shelf))], strict=True))
    rows += [row | {"id": f"w{row['id']}", "product_id": swapped[row["product_id"]]} for row in rows]
    rows += [query("", english, 50), query("zzzz qqqq", english, 51), query("\U0001f980", chinese, 52, "zh")]
    kept, refused = roundtrip(rows, 1)
    assert sorted([row["id"] for row in kept] + [row["id"] for row, _, _ in refused]) == sorted(r["id"] for r in rows)
    found = {row["id"] for row in kept}
    assert {row["id"] for row in rows[:10]} <= found  # each title finds its own product
    # With two retrievers of one product each, a title can find one product beside its own.
    assert len(found & {row["id"] for row in rows[10:20]}) <= 2
    assert {why for _, why, _ in refused} == {"does not find its product"}


def test_either_retriever_is_enough(shelf, roundtrip):
    skillet, wok = (next(i for i, p in shelf.items() if word in p["title"]) for word in ("Skillet", "Wok"))
    meant = query("utensil to saute noodles", skillet, 0)  # not one word of its product
    named = query("bowl for stirring noodles chinese cooking", wok, 1)  # to the encoder it is rather a Chinese pan
    index = BM25.build([p["text"] for p in shelf.values()])
    assert index.top(meant["text"], 1) == []
    assert [list(shelf)[n] for n in index.top(named["text"], 1)] == [wok]
    kept, refused = roundtrip([meant, named, meant | {"id": "w", "product_id": wok}], 1)
    assert [row["id"] for row in kept] == ["q000", "q001"]
    assert [row["id"] for row, _, _ in refused] == ["w"]


def test_with_k_of_the_whole_catalogue_everything_is_found(shelf, roundtrip):
    rows = [query("zzzz qqqq", i, n) for n, i in enumerate(shelf)]
    kept, refused = roundtrip(rows, 500)
    assert kept == rows
    assert refused == []
    assert roundtrip([], 1) == ([], [])
