"""Tasks: what is asked, and the ids that say what made a row. No engine."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import (
    LANGUAGES,
    MODEL,
    PRODUCTS,
    RECORDS,
    SETTINGS,
    completion,
    product,
    query,
    review,
    shop_of,
    task,
)

from synthrec import schema
from synthrec.config import Config, OwnTask
from synthrec.errors import UserError
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.tasks import TASKS, chosen_tasks, waves
from synthrec.tasks.base import chosen, one_line, pick
from synthrec.tasks.own import own_task
from synthrec.tasks.sentiment import LONGEST

EACH = pytest.mark.parametrize(("name", "language"), [(n, la) for n in SETTINGS for la in LANGUAGES])
unhurried = settings(deadline=None)  # the machine may be busy
BLANK = re.compile(r"\{(\w+)\}")
CHOOSES = {("relevance", ""), ("sentiment", ""), ("sentiment", "aspect"), ("intent", "stage"), ("intent", "category")}
CHOOSES |= {("intent", "attribute"), ("reply", "choose"), ("session", "")}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_of(tmp_path_factory.mktemp("shop"))


def config(**synthesize):
    values = {"name": "x", "run_dir": "x", "sources": {"products": {"path": "x"}}, "seed": 7}
    return Config.model_validate(values | ({"synthesize": synthesize} if synthesize else {}))


# Prompts.


def test_the_records_here_are_of_every_task():
    assert set(SETTINGS) == set(TASKS)


@EACH
def test_each_prompt_s_blanks_are_fields_that_its_requests_fill(shop, name, language):
    one = task(name)
    asked = list(one.requests(RECORDS[name, language], shop))
    facets = {facet for facet, la in one.templates if la == language}
    assert {ask.facet for ask in asked} == facets  # each question is asked of this record
    for ask in asked:
        blanks = set(BLANK.findall(one.templates[ask.facet, language]))
        assert blanks
        assert blanks <= set(ask.fields)
        assert all(isinstance(value, str) for value in ask.fields.values())
        prompt = one.render(language, ask.facet, ask.fields)
        assert not BLANK.search(prompt)
        assert all(ask.fields[blank] in prompt for blank in blanks)
        assert (ask.options is not None) == ((name, ask.facet) in CHOOSES)
        if ask.options is not None:
            assert len(ask.options) > 1
            assert all(ask.options)
            assert all(word.strip() for word in ask.options.values())


@EACH
def test_every_prompt_file_is_a_template_and_both_languages_have_the_same(name, language):
    names = [path.name for path in (files("synthrec.tasks") / "prompts").iterdir()]
    ours = {n for n in names if n.startswith(f"{name}.") and n.endswith(f".{language}.txt")}
    facets = {facet for facet, la in task(name).templates if la == language}
    assert ours == {".".join(part for part in (name, facet, language, "txt") if part) for facet in facets}
    assert facets == {facet for facet, _ in task(name).templates}


@EACH
def test_a_prompt_ends_where_the_model_should_go_on(shop, name, language):
    one = task(name)
    for ask in one.requests(RECORDS[name, language], shop):
        template = one.templates[ask.facet, language]
        assert template == template.rstrip()  # a closing space would be a token that no example has
        if name in ("relevance", "sentiment") or ask.facet == "stage":
            # What stands after the last line's words in the examples is what is offered.
            lead = template.rsplit("\n", 1)[-1]
            shown = [line.removeprefix(lead) for line in template.splitlines() if line.startswith(lead)]
            words = [requests.spaced(word, language) for word in ask.options.values()]
            examples = [one for one in shown if one]
            assert all(any(example.startswith(word) for example in examples) for word in words)
            assert all(example.startswith(tuple(words)) for example in examples)


BRACED = st.text(st.sampled_from("{}ab 茶") | st.characters(codec="utf-8"), max_size=20)
TRICKY = BRACED | st.sampled_from(["{product}", "{aspect}", "{text}", "{query}", "{", "}", "{{text}}", "{text"])


@EACH
@given(data=st.data())
@unhurried
def test_every_field_stands_in_the_prompt_verbatim_and_opens_no_other_blank(name, language, data):
    one = task(name)
    facet = data.draw(st.sampled_from(sorted(facet for facet, la in one.templates if la == language)))
    pieces = BLANK.split(one.templates[facet, language])  # text, blank, text, blank, ... text
    fields = {blank: data.draw(TRICKY) for blank in pieces[1::2]}
    expected = "".join(fields[piece] if n % 2 else piece for n, piece in enumerate(pieces))
    assert one.render(language, facet, fields | {"product_id": data.draw(TRICKY)}) == expected


@given(fields=st.dictionaries(st.sampled_from(["a", "b", "c"]), TRICKY), data=st.data())
@unhurried
def test_any_template_is_filled_in_one_pass(fields, data):
    parts = data.draw(st.lists(st.sampled_from(["{a}", "{b}", "{c}", "{d}", "x", "}", " ", "茶"]), max_size=12))
    template = "".join(["-", *parts, "-"])
    one = own_task("mine", OwnTask(reads="review", prompt={"en": template}), 13)
    filled = [fields.get(part[1:2], part) if part.startswith("{") else part for part in parts]
    assert one.render("en", "", fields) == "".join(["-", *filled, "-"])


@EACH
def test_an_empty_prompt_shows_nothing_of_the_record(shop, name, language):
    one = task(name)
    nothing = {"en": "N/A", "zh": "无"}[language]
    for ask in one.requests(RECORDS[name, language], shop):
        template = one.templates[ask.facet, language]
        assert one.empty(language, ask.facet, ask.fields) == BLANK.sub(nothing, template)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_language_without_a_prompt_is_not_spoken(name):
    assert [la for la in ("en", "zh", "de", "") if task(name).speaks(la)] == ["en", "zh"]
    with pytest.raises(KeyError):
        task(name).render("de", "", {})


# Which tasks, in which order.


def test_tasks_that_read_another_s_labels_come_after_it():
    own = {"late": {"reads": "stars", "labels": ["a", "b"]}, "stars": {"reads": "relevance", "labels": ["c", "d"]}}
    every = {name: {} for name in TASKS}
    tasks = chosen_tasks(config(tasks=every, own_tasks=own))
    assert sorted(t.name for t in tasks) == sorted([*TASKS, "late", "stars"])
    before = ["corpus"]
    for one in tasks:
        assert one.reads in before
        before.append(one.name)
        assert one.seed == 7
    first, second, third, fourth = ({t.name for t in wave} for wave in waves(tasks))
    assert first == set(TASKS) - {"relevance"}
    assert (second, third, fourth) == ({"relevance"}, {"stars"}, {"late"})


def test_only_the_tasks_that_are_turned_on_are_asked():
    assert {t.name for t in chosen_tasks(config())} == {"queries", "relevance", "sentiment"}
    (only,) = chosen_tasks(config(tasks={"sentiment": {"max_reviews": 5}}))
    assert (only.name, only.limit) == ("sentiment", 5)
    assert waves([only]) == [[only]]
    assert waves([]) == []


@pytest.mark.parametrize(
    ("settings", "reader", "read"),
    [
        ({"tasks": {"relevance": {}, "sentiment": {}}}, "relevance", "queries"),
        ({"own_tasks": {"mine": {"reads": "reply", "labels": ["a"]}}}, "mine", "reply"),
        ({"own_tasks": {"mine": {"reads": "mine", "labels": ["a"]}}}, "mine", "mine"),
    ],
)
def test_a_task_that_reads_one_that_is_off_is_told(settings, reader, read):
    with pytest.raises(UserError) as told:
        chosen_tasks(config(**settings))
    assert told.value.problem == f"task {reader} reads the labels of {read}, which is not turned on"
    assert read in told.value.hint


# Requests.


def test_relevance_asks_about_the_own_product_and_its_nearest_rivals(shop):
    asked = list(task("relevance", candidates=1).requests(query(1, "en", "red kettle", "k1"), shop))
    assert [(a.fields["product_id"], a.fields["own"]) for a in asked] == [("k1", "True"), ("k2", "False")]
    assert asked[0].fields["product"] == "Tarrow Red Kettle · Kitchen"
    assert list(asked[0].options) == ["E", "S", "C", "I"]
    # A product that the query does not find is asked about all the same, and rivals stay as many.
    asked = list(task("relevance", candidates=2).requests(query(1, "en", "tarrow kettle", "k3"), shop))
    assert asked[0].fields["product_id"] == "k3"
    assert sorted(a.fields["product_id"] for a in asked[1:]) == ["k1", "k2"]
    assert len(list(task("relevance", candidates=0).requests(query(1, "en", "kettle", "k1"), shop))) == 1


@pytest.mark.parametrize("text", ["kettle", "red kettle for tea", "coat", "zzzz", "雨衣"])
def test_rivals_come_first_from_where_two_retrievers_disagree(tmp_path, text):
    both = shop_of(tmp_path, encoder="embedded")
    model = BiEncoder.load("embedded")
    scores = model.encode([row["text"] for row in both.products.values()]) @ model.encode([text], query=True)[0]
    meaning = [list(both.products)[i] for i in (-scores).argsort(kind="stable")[:3]]
    words = both.nearest(text, 3)
    alone = set(words) ^ set(meaning)
    pooled = both.pooled(text, 3)
    assert set(pooled[: len(alone)]) == alone
    assert pooled[len(alone) :] == [p for p in words if p in meaning]
    assert shop_of(tmp_path / "plain").pooled(text, 3) == words


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_review_is_one_line_of_bounded_length(shop, language):
    (asked,) = task("sentiment", aspects=False).requests(review(1, language, "好\n" * 2000), shop)
    assert asked.fields["text"] == ("好 " * 2000)[: LONGEST[language]]
    assert asked.fields["review"] == "review:r1"
    assert list(asked.options) == ["positive", "negative"]


@given(st.text(st.sampled_from("ab 茶\n\t") | st.characters(codec="utf-8"), max_size=60), st.integers(1, 40))
@unhurried
def test_a_text_is_cut_to_one_line_that_it_begins_with(text, most):
    line = one_line(text, most)
    flat = " ".join(text.split())
    assert flat.startswith(line)
    assert len(line) <= most
    assert len(line.splitlines()) <= 1
    assert line == flat or len(line) >= most // 2


@given(st.lists(st.text(max_size=3), max_size=12), st.integers(0, 8), st.data())
@unhurried
def test_a_pick_is_of_the_values_whatever_their_order(values, count, data):
    some = pick(13, values, count, "k1")
    assert len(some) == len(set(some)) == min(count, len(set(values)))
    assert set(some) <= set(values)
    assert pick(13, data.draw(st.permutations(values)), count, "k1") == some


# Answers that are chosen.


@pytest.mark.parametrize(
    ("name", "labels", "field"),
    [("relevance", ["E", "S", "C", "I"], "query"), ("sentiment", ["positive", "negative"], "text")],
)
def test_a_choice_is_the_label_of_its_place_with_its_probability(name, labels, field):
    for place, label in enumerate(labels):
        logs = [-0.1 if n == place else -2.3 for n in range(len(labels))]
        row = completion(name, logprobs=logs, labels=labels, prior=[0.0] * len(labels), product_id="k1")
        row["fields"] += [(field, "kettle")]
        found = task(name).parse(row)
        assert found["label"] == label
        assert found["score"] == max(found["scores"]) == found["scores"][place]
        assert found["score"] == pytest.approx(1 / (1 + (len(labels) - 1) * 0.1108), abs=1e-3)
        assert (found["product_id"], found["text"]) == ("k1", "kettle")


def test_against_the_prior_the_label_that_the_input_made_likelier_is_chosen():
    row = {"logprobs": [-0.2, -1.8], "prior": [-0.1, -2.5], "labels": ["common", "rare"]}
    assert chosen(row)["label"] == "common"
    by_prior = chosen(row, against_prior=True)
    assert by_prior["label"] == "rare"
    # exp(-1.8 + 2.5) : exp(-0.2 + 0.1)
    assert by_prior["scores"] == pytest.approx([0.31, 0.69], abs=1e-3)
    assert chosen(row | {"prior": None}, against_prior=True) == chosen(row)


LOGS = st.lists(st.tuples(st.floats(-200, 0), st.floats(-200, 0), st.floats(-50, 50)), min_size=1, max_size=6)


@given(LOGS)
@unhurried
def test_what_an_empty_input_scores_as_well_cancels_out(logs):
    labels = [f"l{n}" for n in range(len(logs))]
    row = {"labels": labels, "logprobs": [x for x, _, _ in logs], "prior": [p for _, p, _ in logs]}
    moved = {"labels": labels, "logprobs": [x + d for x, _, d in logs], "prior": [p + d for _, p, d in logs]}
    one, other = (chosen(each, against_prior=True) for each in (row, moved))
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-9)
    for each in (one, chosen(row)):
        assert sum(each["scores"]) == pytest.approx(1)
        assert each["score"] == max(each["scores"]) == each["scores"][labels.index(each["label"])]


def test_a_limit_picks_the_same_records_whatever_the_files(tmp_path):
    rows = [review(n, "en", "Fine") for n in range(40)]
    one, many = (Folder.open(str(tmp_path / name)) for name in ("one", "many"))
    one.write_table("0.parquet", schema.table(rows, schema.CORPUS))
    for n in range(4):
        many.write_table(f"{n}.parquet", schema.table(rows[::-1][n::4], schema.CORPUS))
    limited = task("sentiment", max_reviews=7)

    def picked(folder):
        names = folder.files(".parquet")
        limit = requests.limit_hash(limited, folder, names)
        batches = (batch for name in names for batch in requests.batches(folder, name, limited, limit))
        return sorted(record["doc_id"] for batch in batches for record in batch)

    assert picked(one) == picked(many)
    assert len(picked(one)) == 7
    assert picked(one) != sorted(row["doc_id"] for row in rows)[:7]


def test_requests_are_built_of_the_task_s_own_kind_and_unspoken_languages_are_told(tmp_path, shop):
    source, out = Folder.open(str(tmp_path / "corpus")), Folder.open(str(tmp_path / "out"))
    other = product(*PRODUCTS[0][:4])
    rows = [review(1, "en", "Fine"), review(2, "de", "Gut"), other, review(3, "zh", "好")]
    source.write_table("0.parquet", schema.table(rows, schema.CORPUS))
    unit = {"name": "0.parquet", "part": "0", "limit_hash": None}
    one = task("sentiment", aspects=False)
    told = requests.build(unit, one, source, shop, out, MODEL)
    assert told == {"rows": 2, "unspoken": 1}
    asked = (out / "requests" / "sentiment").read_table(schema.REQUEST)
    assert asked.schema.equals(schema.REQUEST)
    reviews = [schema.strings(row["fields"])["review"] for row in asked.to_pylist()]
    assert sorted(reviews) == ["review:r1", "review:r3"]
    (refused,) = (out / "rejects").read_table(schema.REJECT).to_pylist()
    assert (refused["where"], refused["reason"], refused["raw"]) == ("review:r2", "no prompt in this language", "Gut")
    assert requests.build(unit, one, source, shop, out, MODEL) == told
    assert (out / "requests" / "sentiment").read_table(schema.REQUEST).equals(asked)
