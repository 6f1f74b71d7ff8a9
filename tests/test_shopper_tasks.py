"""What is asked of shoppers and brands (intent, profile, brand), and what is refused as not grounded in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import PRODUCTS, RECORDS, brand, catalogue, completion, shop_of, shopper, task

from synthrec.tasks import Rejection
from synthrec.tasks.brand import KNOWN_FOR
from synthrec.tasks.profile import PREFERENCES, grounded

unhurried = settings(deadline=None)  # the machine may be busy


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_of(tmp_path_factory.mktemp("shop"))


# Intent.


SEARCHES = [[f"search:s{n}", text] for n, text in enumerate(["red kettle", "blue kettle", "dog coat", "tea pot"])]


@pytest.mark.parametrize("history", [0, 1, 2, 9])
def test_a_search_is_asked_about_with_the_earlier_ones_in_sight_and_no_later_one(shop, history):
    asked = list(task("intent", history=history).requests(shopper("u", "en", SEARCHES), shop))
    for place, (doc_id, text) in enumerate(SEARCHES):
        own = [ask for ask in asked if ask.sources == [doc_id]]
        assert {ask.facet for ask in own} == {"stage", "category", "attribute"}
        assert {ask.fields["query"] for ask in own} == {text}
        before = [said for _, said in SEARCHES[max(0, place - history) : place]]
        assert {ask.fields["before"] for ask in own} == {"; ".join(before) if before else "none"}


def test_a_search_without_a_history_says_so_in_its_language(shop):
    asked = list(task("intent").requests(shopper("u", "zh", [["search:s1", "狗狗雨衣"]]), shop))
    assert {ask.fields["before"] for ask in asked} == {"无所谓"}


def test_categories_are_those_near_the_search_then_others_of_its_language(shop):
    def categories(language, text, most=5):
        record = shopper("u", language, [["search:s1", text]])
        asked = task("intent", candidates=most).requests(record, shop)
        (ask,) = [ask for ask in asked if ask.facet == "category"]
        assert all(label == word for label, word in ask.options.items())
        return list(ask.options)

    assert categories("en", "tarrow kettle")[:1] == ["Kitchen"]
    assert categories("en", "dog coat")[:1] == ["Pets"]
    for text in ("dog coat", "zzzz"):  # what finds nothing is offered categories all the same
        assert sorted(categories("en", text)) == ["Dining", "Kitchen", "Pets"]
        assert len(categories("en", text, 2)) == 2
    assert sorted(categories("zh", "狗狗雨衣 kettle")) == ["厨房", "宠物用品"]


def test_attributes_are_of_products_near_the_search_or_none_of_them(shop):
    for language, text, key, none in (("en", "kettle", "colour", "none"), ("zh", "雨衣", "颜色", "无所谓")):
        record = shopper("u", language, [["search:s1", text], ["search:s2", "zzzz"]])
        asked = [ask for ask in task("intent").requests(record, shop) if ask.facet == "attribute"]
        (ask,) = asked  # nothing is near to zzzz
        assert ask.sources == ["search:s1"]
        assert ask.options == {key: key, "none": none}


def test_a_category_is_chosen_by_what_the_search_makes_likelier_and_a_stage_as_it_is():
    logs = {"logprobs": [-0.2, -1.8], "prior": [-0.1, -2.5], "query": "kettle", "before": "none"}
    found = {f: task("intent").parse(completion("intent", f, labels=["a", "b"], **logs)) for f in ("stage", "category")}
    assert {facet: one["label"] for facet, one in found.items()} == {"stage": "a", "category": "b"}
    assert {(one["text"], one["product_id"]) for one in found.values()} == {("kettle", None)}


# Profile.


def test_a_profile_shows_the_latest_of_a_history_by_title(shop):
    said = [[f"review:r{n}", "k1", f"Review number {n}"] for n in range(4)]
    record = shopper("u", "en", SEARCHES, ["k2", "gone", "k1", "k3"], said)
    asked = list(task("profile", events=2).requests(record, shop))
    assert [ask.facet for ask in asked] == ["preferences", "sentence"]
    for ask in asked:
        assert ask.sources == [record["doc_id"]]
        assert ask.fields == {
            "searches": "dog coat; tea pot",
            "bought": "Tarrow Red Kettle; Oakrun Dog Coat",
            "says": "Review number 2 / Review number 3",
            "user_id": "u-1",
        }


def test_of_nobody_and_of_a_shopper_without_a_history_no_profile_is_asked(shop):
    assert list(task("profile").requests(shopper("u", "en", SEARCHES, user_id=None), shop)) == []
    assert list(task("profile").requests(shopper("u", "en", [], ["gone"]), shop)) == []
    asked = list(task("profile").requests(shopper("u", "zh", [["search:s1", "狗窝"]]), shop))
    assert {(ask.fields["bought"], ask.fields["says"]) for ask in asked} == {("暂无", "暂无")}


def profile(facet, text, **fields):
    shown = {"searches": "dog coat; quiet kettle", "bought": "nothing yet", "says": "Keeps warm"}
    return task("profile").parse(completion("profile", facet, text=text, **(shown | fields), user_id="u-1"))


def test_preferences_are_kept_as_far_as_the_history_says_them():
    found = profile("preferences", ' {"likes": ["quiet kettles", "red wine", "dogs", "quiet kettles"]}')
    likes = '["quiet kettles", "dogs"]'  # by their words' stems, each once
    expected = {"text": "quiet kettles, dogs", "label": "preferences"}
    assert found == expected | {"fields": {"user_id": "u-1", "likes": likes}}
    chinese = profile("preferences", '{"likes": ["防水雨衣", "红酒"]}', searches="狗狗雨衣", says="暂无")
    assert json.loads(chinese["fields"]["likes"]) == ["防水雨衣"]


@pytest.mark.parametrize(
    ("facet", "text", "reason"),
    [
        ("preferences", '{"likes": ["red wine", "cheese"]}', "not in the history"),
        ("preferences", '{"likes": ["nothing"]}', "not in the history"),  # what stands for no purchases is none of it
        ("preferences", "dogs, kettles", "not JSON"),
        ("preferences", '{"likes": []}', "not of the schema"),
        ("preferences", '{"likes": ["dogs"], "age": 40}', "not of the schema"),
        ("sentence", "Loves red wine and cheese.", "not in the history"),
        ("sentence", "We know nothing yet, sadly.", "not in the history"),
        ("sentence", "The dog.", "too short"),
        ("sentence", "  ", "too short"),
    ],
)
def test_a_profile_of_what_is_not_in_the_history_is_refused(facet, text, reason):
    found = profile(facet, text)
    assert isinstance(found, Rejection)
    assert found.reason == reason


def test_a_sentence_about_the_history_is_kept():
    said = "Walks a dog and drinks tea at night."
    assert profile("sentence", f" {said}\n") == {"text": said, "label": "sentence", "fields": {"user_id": "u-1"}}


WORDS = st.lists(st.sampled_from(["dog", "kettle", "tea", "rain", "the", "水壶", "雨衣"]), max_size=4).map(" ".join)


@given(st.lists(WORDS, max_size=6), WORDS)
@unhurried
def test_what_is_grounded_is_some_of_the_values_each_once(values, text):
    found = grounded(values, text)
    assert found == [v for v in dict.fromkeys(values) if v in found]
    assert set(values) - set(found) == {v for v in values if not ({*v.split()} - {"the"}) & {*text.split()}}


# Brand.


def test_a_brand_shows_as_many_of_its_products_as_wanted(shop):
    for count in (1, 2, 6):
        asked = list(task("brand", products=count).requests(RECORDS["brand", "en"], shop))
        assert [ask.facet for ask in asked] == ["known_for", "sentence"]
        for ask in asked:
            doc_id, *ids = ask.sources
            assert doc_id == "brand:en:Tarrow"
            assert len(ids) == min(count, 2)
            titles = {i: title for i, _, title, *_ in PRODUCTS}
            assert [part.partition(" (")[0] for part in ask.fields["products"].split("; ")] == [titles[i] for i in ids]
            assert ask.fields["categories"] == "Kitchen"


def test_a_brand_s_products_are_told_from_the_catalogue_as_it_is(tmp_path):
    long = catalogue()[0] | {"description": "very " * 50}
    bare = catalogue()[1] | {"description": None}
    shop = shop_of(tmp_path, [long, bare])
    ask = next(task("brand").requests(brand("Tarrow", "en", "Kitchen", "k1", "k2", "gone"), shop))
    assert sorted(ask.sources) == sorted(["brand:en:Tarrow", "k1", "k2", "gone"])
    assert "Tarrow Blue Kettle ()" in ask.fields["products"]
    assert len(ask.fields["products"]) < 200


def of_brand(facet, text):
    shown = {"brand": "Tarrow", "products": "Tarrow Red Kettle (Boils a litre fast.)", "categories": "Kitchen"}
    return task("brand").parse(completion("brand", facet, text=text, **shown))


def test_a_brand_is_known_for_what_its_products_say():
    found = of_brand("known_for", '{"known_for": ["fast boiling", "kitchen goods", "shoes"]}')
    assert (found["text"], found["label"]) == ("fast boiling, kitchen goods", "known_for")
    assert found["fields"] == {
        "brand": "Tarrow",
        "categories": "Kitchen",
        "known_for": '["fast boiling", "kitchen goods"]',
    }
    said = "Kettles that boil fast."
    kept = {"brand": "Tarrow", "categories": "Kitchen"}
    assert of_brand("sentence", said) == {"text": said, "label": "sentence", "fields": kept}


@pytest.mark.parametrize(
    ("facet", "text", "reason"),
    [
        ("known_for", '{"known_for": ["shoes", "socks"]}', "not in its products"),
        ("known_for", '{"known_for": "kettles"}', "not of the schema"),
        ("known_for", "kettles", "not JSON"),
        ("sentence", "Makes shoes for children.", "not in its products"),
        ("sentence", "Kettles.", "too short"),
    ],
)
def test_a_brand_of_what_its_products_do_not_say_is_refused(facet, text, reason):
    found = of_brand(facet, text)
    assert isinstance(found, Rejection)
    assert found.reason == reason


def test_only_typed_questions_are_decoded_under_a_schema():
    assert task("profile").sampling("preferences").schema == PREFERENCES.schema
    assert task("brand").sampling("known_for").schema == KNOWN_FOR.schema
    assert {task(name).sampling("sentence").schema for name in ("profile", "brand")} == {None}
