"""The API over real HTTP under bare uvicorn: what every route answers. (What is refused is in test_refusals.)"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from synthrec import bundle
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.ranking import rank
from tests import little_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder():
    return BiEncoder.load("embedded")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder):
    root = tmp_path_factory.mktemp("bundles")
    little_bundle.make(root / "one", encoder)
    return root


@pytest.fixture(scope="module")
def api(folder, one_thread):
    with (
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
        with little_bundle.served(little_bundle.home(folder), poll_seconds=0.1) as client:
            yield client


@pytest.fixture(scope="module")
def opened(folder):
    return bundle.load(folder / "one")


def ask(api, path, status=200, **body):
    reply = api.post(path, json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


def ids(reply):
    return [hit["product_id"] for hit in reply["hits"]]


@pytest.mark.parametrize("query", ["pan for pancakes", "炒菜不粘的锅", "lunch box 午餐", "a" * 512])
def test_search_ranks_as_evaluation_does(api, opened, encoder, query):
    vector = encoder.encode([query], query=True)[0]
    best = rank(opened.hybrid.scores(query, vector)[None], 10)[0]
    assert ids(ask(api, "/v1/search", query=query)) == opened.catalogue.take(best)["product_id"].to_pylist()


def test_pages_follow_each_other(api):
    whole = ids(ask(api, "/v1/search", query="pan", k=20))
    pages = [ids(ask(api, "/v1/search", query="pan", k=5, page=page)) for page in (1, 2, 3, 4)]
    assert [one for page in pages for one in page] == whole


def test_filters_hold(api):
    hits = ask(api, "/v1/search", query="pan", k=50, filters={"price": {"most": 30}, "language": ["en"]})["hits"]
    assert hits
    assert all(hit["price"] <= 30 and hit["language"] == "en" for hit in hits)
    first = hits[0]["product_id"]
    without = ask(api, "/v1/search", query="pan", k=50, filters={"exclude": [first], "language": ["en"]})
    assert first not in ids(without)


def test_a_hit_says_why_it_is_there(api):
    hit = ask(api, "/v1/search", query="cast iron skillet", k=1, explain=True)["hits"][0]
    assert {"cast", "iron", "skillet"} <= set(hit["why"]["matched"])
    assert hit["why"]["lexical"] > 0
    assert -1 <= hit["why"]["semantic"] <= 1
    assert hit["product_id"] == "KIT01"
    assert hit["why"]["learnt"] == ["cast iron skillet for steaks", "iron pan", "for gas stoves"]
    assert ask(api, "/v1/search", query="cast iron skillet", k=1)["hits"][0]["why"] is None


def test_the_weight_decides_between_words_and_meaning(api, opened, encoder):
    vector = encoder.encode(["keep soup warm"], query=True)[0]
    nearest = opened.catalogue["product_id"][int((opened.hybrid.vectors @ vector).argmax())].as_py()
    assert ids(ask(api, "/v1/search", query="keep soup warm", weight=1.0, k=1)) == [nearest]
    hit = ask(api, "/v1/search", query="keep soup warm", weight=0.0, k=1, explain=True)["hits"][0]
    assert hit["why"]["semantic"] is None
    assert hit["score"] == pytest.approx(hit["why"]["lexical"], abs=1e-5)


def test_the_cross_encoder_orders_the_first_page_by_its_own_scores(api, folder):
    from synthrec.recommenders.cross_encoder import CrossEncoder

    plain = ids(ask(api, "/v1/search", query="frying pan", k=20))
    hits = ask(api, "/v1/search", query="frying pan", k=20, rerank=True, explain=True)["hits"]
    assert {hit["product_id"] for hit in hits} == set(plain)
    assert all(hit["why"]["reranked"] for hit in hits)
    texts = {row["product_id"]: row["text"] for row in little_bundle.products()}
    scores = CrossEncoder.load(str(folder / "one" / "reranker")).scores([("frying pan", texts[i]) for i in plain])
    expected = [plain[i] for i in np.argsort(-scores, kind="stable")]
    assert [hit["product_id"] for hit in hits] == expected


def test_reranked_pages_neither_repeat_nor_lose_a_product(api):
    whole = ids(ask(api, "/v1/search", query="frying pan", k=30))
    pages = [ask(api, "/v1/search", query="frying pan", k=5, page=page, rerank=True)["hits"] for page in range(1, 7)]
    shown = [hit["product_id"] for page in pages for hit in page]
    assert sorted(shown) == sorted(whole)
    assert sorted(shown[:20]) == sorted(whole[:20])  # so many are reordered among themselves
    assert shown[:20] != whole[:20]
    assert shown[20:] == whole[20:]
    # A page that begins among them and ends beyond.
    third = ids(ask(api, "/v1/search", query="frying pan", k=8, page=3, rerank=True))
    assert third == shown[16:24]


def test_queries_and_filters_are_cleaned_as_the_catalogue_is(api):
    wide = ask(api, "/v1/search", query="ｆｒｙｉｎｇ　<b>ｐａｎ</b>", k=5)["hits"]
    assert wide == ask(api, "/v1/search", query="frying pan", k=5)["hits"]
    category = next(hit["category"] for hit in wide if hit["category"])
    spaced = {"category": [f"\u3000{category.replace(' ', '  ')}\u200b"]}
    assert ids(ask(api, "/v1/search", query="pan", filters=spaced)) == ids(
        ask(api, "/v1/search", query="pan", filters={"category": [category]})
    )
    assert api.post("/v1/search", json={"query": "<br>"}).status_code == 422


def test_a_batch_answers_as_each_would_alone(api):
    searches = [{"query": query, "k": 5} for query in ("pan", "knife", "锅")]
    together = ask(api, "/v1/search/batch", searches=searches)["replies"]
    assert [ids(one) for one in together] == [ids(ask(api, "/v1/search", **one)) for one in searches]


@pytest.mark.parametrize("language", ["en-US", "EN", "en_GB"])
def test_a_language_is_known_by_its_first_part(api, language):
    plain = ask(api, "/v1/search", query="pan", filters={"language": ["en"]})
    assert ids(ask(api, "/v1/search", query="pan", filters={"language": [language]})) == ids(plain) != []


def test_many_at_once_get_what_each_gets_alone(api):
    queries = [f"{what} for {whom}" for what in ("pan", "knife", "锅") for whom in ("eggs", "soup", "home")]
    alone = [ids(ask(api, "/v1/search", query=query)) for query in queries]
    with ThreadPoolExecutor(9) as pool:
        assert list(pool.map(lambda query: ids(ask(api, "/v1/search", query=query)), queries * 3)) == alone * 3


def test_similar_products_are_the_nearest_without_the_product_itself(api, opened):
    known = opened.catalogue["product_id"].to_pylist()
    vectors = np.asarray(opened.hybrid.vectors)
    order = [known[i] for i in np.argsort(-(vectors @ vectors[known.index("KIT01")]), kind="stable")]
    found = ids(ask(api, "/v1/similar", product_id="KIT01", k=25, same_language=False))
    assert found == [one for one in order if one != "KIT01"]
    assert {hit["language"] for hit in ask(api, "/v1/similar", product_id="KIT01", k=25)["hits"]} == {"en"}


def test_brands_for_a_query_and_for_a_shopper(api):
    brands = {row["product_id"]: row["brand"] for row in little_bundle.products()}
    found = ask(api, "/v1/brands", history=["KIT01"], k=3)["brands"]
    assert brands["KIT01"] in [one["name"] for one in found]
    assert len(ask(api, "/v1/brands", query="cast iron", k=2)["brands"]) == 2


def test_sentiment_is_what_the_classifier_says(api):
    good = ask(api, "/v1/sentiment", text="great and sturdy")["tasks"]["sentiment"]
    assert good["label"] == "positive"
    assert sum(good["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert ask(api, "/v1/sentiment", text="it leaks")["tasks"]["sentiment"]["label"] == "negative"


def test_what_the_bundle_does_not_hold_is_said_and_not_made_up(api):
    problem = ask(api, "/v1/intent", 404, text="I want a pan")
    assert "intent is not in this bundle" in problem["detail"]
    assert "synthesize.tasks.intent" in problem["hint"]


def test_replies_come_with_their_source(api):
    best = ask(api, "/v1/reply", turns=["hello", "hi", "is the flask going to leak"], k=1)["replies"][0]
    assert (best["text"], best["source"]) == ("No, its lid is sealed.", "dialogue:1#0")


def test_events_count_at_once(api):
    assert ask(api, "/v1/recommend", user_id="anna", k=5)["basis"] in ("typical", "popularity")
    event = {"event_id": "e1", "user_id": "anna", "product_id": "KIT05", "kind": "view"}
    assert ask(api, "/v1/events", events=[event, event]) == {"received": 2, "new": 1}
    found = ask(api, "/v1/recommend", user_id="anna", k=25)
    assert found["basis"] == "model"
    assert "KIT05" not in ids(found)
    assert "KIT05" in ids(ask(api, "/v1/recommend", user_id="anna", k=26, filter_viewed=False))


def test_neighbours_in_the_graph_are_recommended(api, opened):
    """The fixture's shoppers took four products in a row: the next ones are what comes next."""
    known = opened.catalogue["product_id"].to_pylist()
    found = ids(ask(api, "/v1/recommend", history=[known[8], known[9]], k=5))
    assert {known[7], known[10]} <= set(found)


def test_history_and_filters_and_exclusions(api, opened):
    found = ask(api, "/v1/recommend", history=["KIT01"], k=20, filters={"language": ["zh"]})
    assert {hit["language"] for hit in found["hits"]} == {"zh"}
    gone = ids(found)[0]
    again = ask(api, "/v1/recommend", history=["KIT01"], k=20, filters={"language": ["zh"], "exclude": [gone]})
    assert ids(again) == ids(found)[1:]


def test_what_nobody_took_is_recommended_by_its_text(api, opened):
    """The graph cannot score the last product; likeness can."""
    last = opened.catalogue["product_id"][-1].as_py()
    assert last in ids(ask(api, "/v1/recommend", history=["KIT01"], k=26))


def test_an_unknown_history_is_answered_like_none(api):
    found = ask(api, "/v1/recommend", history=["NO-SUCH"], k=5)
    assert found["basis"] in ("typical", "popularity")
    assert len(found["hits"]) == 5


def test_diversity_makes_a_list_less_alike(api, opened):
    known = opened.catalogue["product_id"].to_pylist()
    vectors = np.asarray(opened.hybrid.vectors)

    def likeness(found):
        rows = vectors[[known.index(one) for one in ids(found)]]
        return float((rows @ rows.T).mean())

    plain = ask(api, "/v1/recommend", history=["KIT01"], k=5)
    spread = ask(api, "/v1/recommend", history=["KIT01"], k=5, diversity=0.7)
    assert likeness(spread) < likeness(plain)
    assert ids(spread)[0] == ids(plain)[0]


def test_recommend_in_a_batch(api):
    asked = [{"history": ["KIT01"], "k": 3}, {"k": 3}]
    replies = ask(api, "/v1/recommend/batch", shoppers=asked)["replies"]
    assert [ids(one) for one in replies] == [ids(ask(api, "/v1/recommend", **one)) for one in asked]


def test_a_profile_tells_fields_and_words(api):
    for number, product in enumerate(("KIT01", "KIT02", "KIT02")):
        event = {"event_id": f"p{number}", "user_id": "ben", "product_id": product, "kind": "purchase"}
        ask(api, "/v1/events", events=[event])
    found = ask(api, "/v1/profile", user_id="ben")
    rows = {row["product_id"]: row for row in little_bundle.products()}
    assert found["events"] == {"purchase": 3}
    assert found["brands"][0]["name"] == rows["KIT02"]["brand"]
    assert rows["KIT02"]["brand"] in found["words"]
    assert [hit["product_id"] for hit in found["latest"]] == ["KIT02", "KIT01"]
    assert found["price"]["least"] == min(rows["KIT01"]["price"], rows["KIT02"]["price"])
    ask(api, "/v1/profile", 404, user_id="nobody knows")


def test_a_product_is_found_once_it_is_put_and_no_more_once_it_is_deleted(api):
    product = {"product_id": "NEW1", "title": "Zorblax quantum whisk", "price": 9.5, "brand": "Zorblax"}
    before = api.get("/v1/bundle").json()
    changed = ask(api, "/v1/products", upsert=[product])
    assert ids(ask(api, "/v1/search", query="zorblax whisk", k=1)) == ["NEW1"]
    now = api.get("/v1/bundle").json()
    assert (now["products"], now["revision"]) == (before["products"] + 1, changed["revision"])
    assert "NEW1" in ids(ask(api, "/v1/recommend", history=["KIT01"], k=50))
    ask(api, "/v1/products", upsert=[product | {"title": "Plain whisk", "price": 5}])
    assert ask(api, "/v1/search", query="plain whisk", k=1)["hits"][0]["price"] == 5
    ask(api, "/v1/products", delete=["NEW1"])
    assert "NEW1" not in ids(ask(api, "/v1/search", query="whisk", k=50))
    ask(api, "/v1/similar", 404, product_id="NEW1")


def test_personal_data_in_a_live_product_is_hidden_as_prepare_does(api, folder):
    product = {"product_id": "NEW7", "title": "Zorblax kettle, call 13812345678", "description": "jane@mail.example"}
    ask(api, "/v1/products", upsert=[product])
    hit = ask(api, "/v1/search", query="zorblax kettle", k=1)["hits"][0]
    assert hit["product_id"] == "NEW7"
    assert "13812345678" not in hit["title"] and "<PHONE_" in hit["title"]
    kept = b"".join(path.read_bytes() for path in folder.glob("store.sqlite*"))
    assert b"13812345678" not in kept and b"jane@mail" not in kept
    ask(api, "/v1/products", delete=["NEW7"])


def test_feedback_is_kept_without_personal_data(api, folder):
    from synthrec import stores

    comment = "wrong, call me at 13812345678"
    ask(api, "/v1/feedback", about="search", verdict="bad", query="pan", user_id="carla", comment=comment)
    store = stores.open(f"sqlite:///{folder}/store.sqlite")
    rows = [row for _, row in store.feedback(0, 100)]
    store.close()
    assert rows[-1]["verdict"] == "bad"
    assert "13812345678" not in str(rows)
    assert "carla" not in str(rows)


def test_a_shopper_is_forgotten(api):
    event = {"event_id": "f1", "user_id": "dora", "product_id": "KIT05", "kind": "cart"}
    ask(api, "/v1/events", events=[event])
    assert ask(api, "/v1/admin/forget", user_id="dora")["rows"] == 1
    ask(api, "/v1/profile", 404, user_id="dora")


def test_the_request_id_is_kept_where_it_is_sound(api):
    assert api.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert api.get("/healthz", headers={"x-request-id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_health_readiness_bundle_and_metrics(api, opened):
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json()["bundle"] == "one"
    told = api.get("/v1/bundle").json()
    assert told["lineage"] == opened.manifest["lineage"]
    assert set(told["parts"]) == {"recommender", "reranker", "classifier", "replies"}
    ask(api, "/v1/search", query="pan")
    ask(api, "/v1/NO-SUCH", 404)
    lines = api.get("/metrics").text.splitlines()
    counted = [one for one in lines if one.startswith("synthrec_requests_total") and 'route="/v1/search"' in one]
    assert any('status="200"' in one and float(one.split()[-1]) > 0 for one in counted)
    assert not [one for one in lines if "NO-SUCH" in one]


def test_openapi_describes_every_route_and_its_errors(api):
    told = api.get("/openapi.json").json()
    assert {"/v1/search", "/v1/recommend", "/v1/events", "/v1/products", "/v1/admin/bundle"} <= set(told["paths"])
    search = told["paths"]["/v1/search"]["post"]
    assert "application/problem+json" in search["responses"]["422"]["content"]
    assert "HTTPValidationError" not in str(told)
    for path, methods in told["paths"].items():
        for operation in methods.values():
            assert operation.get("summary"), path


def test_it_goes_on_after_a_pause(api):
    time.sleep(0.3)  # three looks at the store
    assert api.get("/readyz").status_code == 200
