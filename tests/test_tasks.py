"""Tasks: what is asked, what an answer means, and the ids that say what made a row. No engine."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrec import schema
from synthrec.config import Config, QueriesTask, RelevanceTask, SentimentTask
from synthrec.storage import Folder
from synthrec.synthesis import requests
from synthrec.tasks import TASKS, Rejection, Shop, chosen_tasks
from synthrec.tasks.base import Task
from synthrec.tasks.queries import LONGEST_CLAUSE, aspects
from synthrec.tasks.sentiment import LONGEST

SETTINGS = {"queries": QueriesTask(), "relevance": RelevanceTask(), "sentiment": SentimentTask()}
LANGUAGES = ("en", "zh")
EACH = pytest.mark.parametrize(("name", "language"), [(n, la) for n in SETTINGS for la in LANGUAGES])
MODEL = "llamacpp:embedded"
unhurried = settings(deadline=None)  # the machine may be busy


def task(name, seed=13, **changes):
    return TASKS[name](SETTINGS[name].model_copy(update=changes), seed)


PRODUCTS = [
    ("k1", "en", "Tarrow Red Kettle", "Boils a litre in two minutes. Quiet enough for the night.", "colour: red"),
    ("k2", "en", "Tarrow Blue Kettle", "Boils two litres at once.", "colour: blue; lid: glass"),
    ("k3", "en", "Oakrun Dog Coat", "Keeps the belly dry in the rain.", "size: M"),
    ("k4", "zh", "橡奔 狗狗雨衣", "下雨天遛狗不湿肚子。", "尺码: 中号"),
]


def document(product_id, language, title, description="", attributes="", **fields):
    fields |= {"title": title, "description": description, "attributes": attributes}
    made = {"doc_id": f"product:{product_id}", "kind": "product", "language": language, "text": title}
    return made | {"product_id": product_id, "fields": list(fields.items())}


def review(number, language, text):
    made = {"doc_id": f"review:r{number}", "kind": "review", "language": language, "text": text}
    return made | {"product_id": "k1", "fields": []}


def query(number, language, text, product_id):
    return {"id": f"q{number}", "language": language, "text": text, "product_id": product_id}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = Folder.open(str(tmp_path_factory.mktemp("shop") / "catalogue"))
    rows = [
        {"product_id": i, "language": la, "title": title, "category": "Home", "text": f"{title} . {text}"}
        for i, la, title, text, _ in PRODUCTS
    ]
    folder.write_table("part.parquet", schema.table(rows, schema.CATALOGUE))
    return Shop(folder)


RECORDS = {
    ("queries", "en"): document(*PRODUCTS[0]),
    ("queries", "zh"): document(*PRODUCTS[3]),
    ("relevance", "en"): query(1, "en", "red kettle", "k1"),
    ("relevance", "zh"): query(2, "zh", "狗狗雨衣", "k4"),
    ("sentiment", "en"): review(1, "en", "Boils fast"),
    ("sentiment", "zh"): review(2, "zh", "水开得快"),
}


# Prompts.


@EACH
def test_each_prompt_s_blanks_are_fields_that_its_requests_fill(shop, name, language):
    path = files("synthrec.tasks") / "prompts" / f"{name}.{language}.txt"
    blanks = set(re.findall(r"\{(\w+)\}", path.read_text(encoding="utf-8")))
    asked = list(task(name).requests(RECORDS[name, language], shop))
    assert blanks
    assert asked
    for _, _, fields in asked:
        assert blanks <= set(fields)
        # What a prompt does not show only travels on to the label.
        assert set(fields) - blanks <= {"product_id", "review", "own"}
        prompt = task(name).render(language, fields)
        assert not re.search(r"\{\w+\}", prompt)
        assert all(fields[blank] in prompt for blank in blanks)


@EACH
def test_a_prompt_ends_where_the_model_should_go_on(name, language):
    chooses, template = task(name).chooses, task(name).template(language)
    assert template == template.rstrip()  # a closing space would be a token that no example has
    if chooses:  # what stands after the last line's words in the examples is what choose offers
        lead = template.rsplit("\n", 1)[-1]
        offered = {line.removeprefix(lead) for line in template.splitlines() if line.startswith(lead) and line != lead}
        firsts = task(name).choices[language]
        assert len(firsts) == len(task(name).labels)
        assert {one for one in firsts if any(o.startswith(one) for o in offered)} == set(firsts)
        assert all(o.startswith(firsts) for o in offered)


BRACED = st.text(st.sampled_from("{}ab 茶") | st.characters(codec="utf-8"), max_size=20)
TRICKY = BRACED | st.sampled_from(["{product}", "{aspect}", "{text}", "{query}", "{", "}", "{{text}}", "{text"])


@EACH
@given(data=st.data())
@unhurried
def test_every_field_stands_in_the_prompt_verbatim_and_opens_no_other_blank(name, language, data):
    one = task(name)
    template = one.template(language)
    pieces = re.split(r"\{(\w+)\}", template)  # text, blank, text, blank, ... text
    fields = {blank: data.draw(TRICKY) for blank in pieces[1::2]}
    expected = "".join(fields[piece] if n % 2 else piece for n, piece in enumerate(pieces))
    assert one.render(language, fields | {"product_id": data.draw(TRICKY)}) == expected


@given(fields=st.dictionaries(st.sampled_from(["a", "b", "c"]), TRICKY), data=st.data())
@unhurried
def test_any_template_is_filled_in_one_pass(fields, data):
    parts = data.draw(st.lists(st.sampled_from(["{a}", "{b}", "{c}", "{d}", "x", "}", " ", "茶"]), max_size=12))
    one = Task(None, templates={"en": "".join(parts)})
    filled = [fields.get(part[1:2], part) if part.startswith("{") else part for part in parts]
    assert one.render("en", fields) == "".join(filled)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_language_without_a_prompt_is_not_spoken(name):
    assert [la for la in ("en", "zh", "de", "") if task(name).speaks(la)] == ["en", "zh"]
    with pytest.raises(KeyError):
        task(name).template("de")


def test_tasks_that_read_another_s_labels_come_after_it():
    values = {"name": "x", "run_dir": "x", "sources": {"products": {"path": "x"}}, "seed": 7}
    tasks = chosen_tasks(Config.model_validate(values))
    assert {t.name for t in tasks} == set(TASKS) == set(SETTINGS)
    before = ["corpus"]
    for one in tasks:
        assert one.reads in before
        before.append(one.name)
        assert one.seed == 7
    values["synthesize"] = {"tasks": {"sentiment": {"max_reviews": 5}}}
    (only,) = chosen_tasks(Config.model_validate(values))
    assert (only.name, only.limit) == ("sentiment", 5)


# Aspects.


def test_english_aspects_are_attributes_and_clauses_long_enough_to_mean_something():
    description = "Boils a litre in two minutes; stays warm all night. Red. It holds 1.5 litres of water!"
    fields = {"title": "Kettle", "attributes": "colour: red; base: 360: swivel", "description": description}
    assert aspects("en", fields) == [
        "colour: red",
        "base: 360: swivel",
        "Boils a litre in two minutes",
        "stays warm all night",
        "It holds 1.5 litres of water!",
    ]


def test_chinese_aspects_are_split_at_chinese_signs_and_take_a_chinese_colon():
    description = "一升水两分钟烧开，夜里也安静。红色！装得下1.5升水；好"
    fields = {"title": "水壶", "attributes": "颜色: 红色; 底座: 360: 旋转", "description": description}
    assert aspects("zh", fields) == [
        "颜色：红色",
        "底座：360: 旋转",
        "一升水两分钟烧开",
        "夜里也安静",
        "装得下1.5升水",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_attributes_or_clauses_the_category_is_the_aspect_and_without_one_the_title(language):
    bare = {"title": "Kettle", "attributes": "", "description": "Red."}
    assert aspects(language, bare | {"category": "Kitchen"}) == ["Kitchen"]
    assert aspects(language, bare) == ["Kettle"]
    assert aspects(language, {"title": "Kettle"}) == ["Kettle"]


def test_aspects_of_a_language_without_rules_are_read_like_english():
    fields = {"title": "Kessel", "attributes": "Farbe: rot", "description": "Kocht einen Liter in zwei Minuten. Rot."}
    assert aspects("de", fields) == ["Farbe: rot", "Kocht einen Liter in zwei Minuten"]


@given(
    language=st.sampled_from(["en", "zh", "de"]),
    fields=st.fixed_dictionaries(
        {"title": st.text(min_size=1)},
        optional={k: st.text() for k in ("attributes", "description", "category")},
    ),
)
@unhurried
def test_there_is_always_an_aspect_and_none_twice(language, fields):
    found = aspects(language, fields)
    assert found
    assert all(found)
    assert len(set(found)) == len(found)
    allowed = [fields["title"], fields.get("category"), fields.get("attributes", "")]
    assert all(len(a) <= max(LONGEST_CLAUSE, *(len(x or "") for x in allowed)) for a in found)


# Requests.


def test_each_sample_of_a_product_is_asked_for_by_another_aspect(shop):
    record = document(
        "k9", "en", "Kettle", "Boils a litre in two minutes. Stays warm all night.", "colour: red; lid: glass"
    )
    asked = list(task("queries", per_product=3).requests(record, shop))
    assert [sample for _, sample, _ in asked] == [0, 1, 2]
    assert len({fields["aspect"] for _, _, fields in asked}) == 3
    assert {fields["aspect"] for _, _, fields in asked} <= set(aspects("en", schema.strings(record["fields"])))
    fewer = list(task("queries", per_product=2).requests(record, shop))
    assert fewer == asked[:2]  # asking for more later leaves what is paid for as it was
    # Which aspects are first is the seed's to say, not the shop's order of attributes.
    firsts = {next(task("queries", seed).requests(record, shop))[2]["aspect"] for seed in range(12)}
    assert len(firsts) > 1


def test_relevance_asks_about_the_own_product_and_its_nearest_rivals(shop):
    asked = list(task("relevance", candidates=1).requests(query(1, "en", "red kettle", "k1"), shop))
    assert [(fields["product_id"], fields["own"]) for _, _, fields in asked] == [("k1", "True"), ("k2", "False")]
    assert asked[0][2]["product"] == "Tarrow Red Kettle · Home"
    # A product that the query does not find is asked about all the same, and rivals stay as many.
    asked = list(task("relevance", candidates=2).requests(query(1, "en", "tarrow kettle", "k3"), shop))
    assert asked[0][2]["product_id"] == "k3"
    assert sorted(fields["product_id"] for _, _, fields in asked[1:]) == ["k1", "k2"]
    assert len(list(task("relevance", candidates=0).requests(query(1, "en", "kettle", "k1"), shop))) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_review_is_one_line_of_bounded_length(shop, language):
    ((_, _, fields),) = task("sentiment").requests(review(1, language, "好\n" * 2000), shop)
    assert fields["text"] == ("好 " * 2000)[: LONGEST[language]]
    assert fields["review"] == "review:r1"


# Answers.


def completion(name, language="en", text=None, logprobs=None, **fields):
    return {"id": "x", "language": language, "text": text, "logprobs": logprobs, "fields": list(fields.items())}


@pytest.mark.parametrize(
    ("said", "kept"),
    [(" quiet kettle", "quiet kettle"), (' "quiet kettle." ', "quiet kettle"), ("“安静的水壶”", "安静的水壶")],
)
def test_a_written_query_is_a_label_without_the_quotes_around_it(said, kept):
    row = completion("queries", text=said, product_id="k1", product="Kettle", aspect="quiet")
    assert task("queries").parse(row) == {"text": kept, "product_id": "k1", "label": "quiet"}


@pytest.mark.parametrize("said", ["", "  ", ' "" ', "...", "‘’"])
def test_an_answer_that_says_nothing_is_a_rejection(said):
    row = completion("queries", text=said, product_id="k1", product="Kettle", aspect="quiet")
    assert task("queries").parse(row) == Rejection("empty answer")


@pytest.mark.parametrize(
    ("name", "logprobs", "label"),
    [
        ("relevance", [-0.1, -2.3], "relevant"),
        ("relevance", [-2.3, -0.1], "irrelevant"),
        ("sentiment", [-0.1, -2.3], "positive"),
        ("sentiment", [-2.3, -0.1], "negative"),
    ],
)
def test_a_choice_is_the_label_of_its_place_with_its_probability(name, logprobs, label):
    row = completion(name, logprobs=logprobs, product_id="k1")
    row["fields"] += [("query", "kettle"), ("text", "Boils fast")]
    found = task(name).parse(row)
    assert found["label"] == label
    assert found["score"] == max(found["scores"]) == pytest.approx(0.905, abs=1e-3)
    assert found["scores"][0 if logprobs[0] > logprobs[1] else 1] == found["score"]
    assert (found["product_id"], found["text"]) == ("k1", "kettle" if name == "relevance" else "Boils fast")


# Ids.


def ids_of(one, record, shop, model=MODEL):
    return [row["id"] for row in requests.of_record(one, record, shop, model)]


@EACH
def test_request_ids_change_with_all_that_shapes_an_answer(shop, monkeypatch, name, language):
    record = RECORDS[name, language]
    base = ids_of(task(name), record, shop)
    assert len(set(base)) == len(base) > 0
    assert ids_of(task(name), record, shop) == base
    changed = {
        "model": ids_of(task(name), record, shop, "llamacpp:other.gguf"),
        "seed": ids_of(task(name, seed=14), record, shop),
    }
    reworded = task(name)
    reworded.templates[language] = task(name).template(language) + " "
    changed["prompt"] = ids_of(reworded, record, shop)
    key = "doc_id" if "doc_id" in record else "id"
    changed["record"] = ids_of(task(name), record | {key: "another"}, shop)
    if name == "queries":
        for setting in ({"temperature": 0.8}, {"top_p": 0.5}, {"max_tokens": 21}):
            changed[str(setting)] = ids_of(task(name, **setting), record, shop)
        title = [(k, v + "!" if k == "title" else v) for k, v in record["fields"]]
        changed["text"] = ids_of(task(name), record | {"fields": title}, shop)
    else:
        changed["text"] = ids_of(task(name), record | {"text": record["text"] + "!"}, shop)
    with monkeypatch.context() as patch:
        patch.setattr(TASKS[name], "version", TASKS[name].version + 1)
        changed["version"] = ids_of(task(name), record, shop)
    if task(name).chooses:
        with monkeypatch.context() as patch:
            patch.setattr(TASKS[name], "choices", {language: (" fine", " poor")})
            changed["choices"] = ids_of(task(name), record, shop)
    for what, found in changed.items():
        assert not set(found) & set(base), what


@EACH
def test_request_ids_do_not_change_with_anything_else(shop, name, language):
    record = RECORDS[name, language]
    base = ids_of(task(name), record, shop)
    other = {"timestamp": "2025-01-01", "user_id": "u-1", "kind": "other"}
    assert ids_of(task(name), record | other, shop) == base
    limited = {"queries": {"max_products": 1}, "relevance": {"max_queries": 1}, "sentiment": {"max_reviews": 1}}[name]
    assert ids_of(task(name, **limited), record, shop) == base
    reworded = task(name)  # the prompt in the other language is none of its business
    other_language = "zh" if language == "en" else "en"
    reworded.templates[other_language] = "{text}{query}{product}"
    assert ids_of(reworded, record, shop) == base
    if name == "queries":  # more samples, or a new attribute at the end, leave the rest alone
        more = ids_of(task(name, per_product=50), record, shop)
        assert more[: len(base)] == base
    if name == "relevance":
        assert ids_of(task(name, candidates=3), record, shop)[: len(base)] == base


@EACH
def test_made_of_names_prompt_sampling_seed_and_version(monkeypatch, name, language):
    base = task(name).made_of(language)
    assert task(name).made_of(language) == base
    found = {"base": base, "seed": task(name, seed=14).made_of(language)}
    reworded = task(name)
    reworded.templates[language] = "Something else: {text}"
    found["prompt"] = reworded.made_of(language)
    other_language = task(name)
    other_language.templates["zh" if language == "en" else "en"] = "Something else: {text}"
    assert other_language.made_of(language) == base
    if name == "queries":
        found |= {
            key: task(name, **{key: value}).made_of(language) for key, value in (("temperature", 0.1), ("top_p", 0.1))
        }
        assert task(name, per_product=9, max_products=9).made_of(language) == base
    monkeypatch.setattr(TASKS[name], "version", 99)
    found["version"] = task(name).made_of(language)
    assert len(set(found.values())) == len(found)


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
    rows = [review(1, "en", "Fine"), review(2, "de", "Gut"), document(*PRODUCTS[0]), review(3, "zh", "好")]
    source.write_table("0.parquet", schema.table(rows, schema.CORPUS))
    unit = {"name": "0.parquet", "part": "0", "limit_hash": None}
    told = requests.build(unit, task("sentiment"), source, shop.catalogue, out, MODEL)
    assert told == {"rows": 2, "unspoken": 1}
    asked = (out / "requests" / "sentiment").read_table(schema.REQUEST)
    assert asked.schema.equals(schema.REQUEST)
    assert [schema.strings(row["fields"])["review"] for row in asked.to_pylist()] == ["review:r1", "review:r3"]
    (refused,) = (out / "rejects").read_table(schema.REJECT).to_pylist()
    assert (refused["where"], refused["reason"], refused["raw"]) == ("review:r2", "no prompt in this language", "Gut")
    assert requests.build(unit, task("sentiment"), source, shop.catalogue, out, MODEL) == told
    assert (out / "requests" / "sentiment").read_table(schema.REQUEST).equals(asked)


PARTS = st.lists(st.text("ab|\0茶", max_size=4), max_size=5)


@given(one=PARTS, other=PARTS)
@unhurried
def test_row_ids_tell_parts_apart(one, other):
    assert (schema.row_id(*one) == schema.row_id(*other)) == (one == other)


@given(parts=st.lists(st.text(max_size=6), min_size=2, max_size=5), sign=st.sampled_from("|,:/ \n\t\0\x1f"))
@unhurried
def test_no_sign_in_a_part_is_taken_for_its_end(parts, sign):
    assert schema.row_id(*parts) != schema.row_id(sign.join(parts))


@given(parts=st.lists(st.text(max_size=6), min_size=2, max_size=5), cut=st.data())
@unhurried
def test_row_ids_know_where_one_part_ends(parts, cut):
    whole = "".join(parts)
    bounds = sorted(cut.draw(st.lists(st.integers(0, len(whole)), min_size=len(parts) - 1, max_size=len(parts) - 1)))
    again = [whole[a:b] for a, b in zip([0, *bounds], [*bounds, len(whole)], strict=True)]
    assert (schema.row_id(*parts) == schema.row_id(*again)) == (parts == again)
    assert re.fullmatch(r"[0-9a-f]{32}", schema.row_id(*parts))
