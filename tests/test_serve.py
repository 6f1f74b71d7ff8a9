"""The endpoint over real HTTP: Ray Serve with the small shop's bundle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from synthrec import bundle
from synthrec.errors import UserError
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.ranking import rank
from synthrec.stages import serve


@pytest.fixture(scope="module")
def api(small_run):
    with (
        serve.endpoint(small_run.folder("package").local, small_run.config.serve) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def opened(small_run):
    return bundle.load(small_run.folder("package").local)


def search(api, query, **more):
    reply = api.post("/v1/search", json={"query": query, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()["hits"]


def ids(hits):
    return [hit["product_id"] for hit in hits]


@pytest.mark.parametrize(
    "query", ["pan for pancakes", "炒菜不粘的锅", "lunch box 午餐", "???", "a" * 512, "  padded  "]
)
def test_search_ranks_as_evaluation_did(api, opened, query):
    vector = BiEncoder.load(opened.model).encode([query.strip()], query=True)[0]
    best = rank(opened.hybrid.scores(query.strip(), vector)[None], 10)[0]
    expected = opened.catalogue.take(best)["product_id"].to_pylist()
    hits = search(api, query)
    assert ids(hits) == expected
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_hits_carry_what_a_shop_page_shows(api):
    hit = search(api, "cast iron skillet", k=1)[0]
    assert hit["title"].startswith("Tarrowby Pre-Seasoned Cast Iron Skillet")
    assert (hit["product_id"], hit["brand"], hit["price"], hit["language"]) == ("KIT01", "Tarrowby", 34.0, "en")


@pytest.mark.parametrize(
    ("brand", "price", "line"),
    [("Tarrow", 34.0, "Pan  (Tarrow, 34)  0.500"), (None, 0.0, "Pan  (0)  0.500"), (None, None, "Pan  0.500")],
)
def test_a_hit_is_shown_with_what_the_shop_gave(brand, price, line):
    assert serve.told({"title": "Pan", "brand": brand, "price": price, "score": 0.5}) == line


def test_a_storefront_shows_its_own_language_alone(api):
    for language in ("en", "zh"):
        hits = search(api, "pan 锅", k=26, language=language)
        assert len(hits) == 13
        assert {hit["language"] for hit in hits} == {language}


def test_k_is_kept_to_the_catalogue(api):
    assert len(search(api, "pan", k=100)) == 26


def test_similar_products_are_the_nearest_by_meaning_without_the_product_itself(api, opened):
    products = opened.catalogue["product_id"].to_pylist()
    vectors = np.asarray(opened.hybrid.vectors)
    hits = api.post("/v1/similar", json={"product_id": "KIT01", "k": 25, "same_language": False}).json()["hits"]
    order = [products[i] for i in np.argsort(-(vectors @ vectors[products.index("KIT01")]), kind="stable")]
    assert ids(hits) == [one for one in order if one != "KIT01"]
    own = api.post("/v1/similar", json={"product_id": "KIT01", "k": 25}).json()["hits"]
    assert {hit["language"] for hit in own} == {"en"}


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/v1/search", {}, "query"),
        ("/v1/search", {"query": ""}, "query"),
        ("/v1/search", {"query": "   "}, "query"),
        ("/v1/search", {"query": "x" * 513}, "query"),
        ("/v1/search", {"query": ["pan"]}, "query"),
        ("/v1/search", {"query": "pan", "k": 0}, "k"),
        ("/v1/search", {"query": "pan", "k": 101}, "k"),
        ("/v1/search", {"query": "pan", "limit": 3}, "limit"),
        ("/v1/similar", {"product_id": ""}, "product_id"),
    ],
)
def test_a_bad_request_is_told_which_field_is_wrong(api, path, body, word):
    reply = api.post(path, json=body)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", word]


def test_what_is_not_json_is_refused(api):
    reply = api.post("/v1/search", content=b'{"query": "\xff', headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422)


def test_an_unknown_product_is_not_found(api):
    reply = api.post("/v1/similar", json={"product_id": "NO-SUCH"})
    assert (reply.status_code, reply.json()["detail"]) == (404, "no product 'NO-SUCH' in this bundle")


def test_health_says_what_is_served(api, opened):
    found = api.get("/healthz").json()
    assert found == {"status": "ok", "bundle": "small", "products": 26, "system": opened.manifest["system"]}


def test_openapi_names_every_path(api):
    assert {"/v1/search", "/v1/similar", "/healthz"} <= set(api.get("/openapi.json").json()["paths"])


def test_many_at_once_get_what_each_would_get_alone(api):
    queries = [
        f"{what} for {whom}" for what in ("pan", "knife", "kettle", "锅", "刀") for whom in ("eggs", "soup", "home")
    ]
    alone = [ids(search(api, query)) for query in queries]
    with ThreadPoolExecutor(15) as pool:
        together = list(pool.map(lambda query: ids(search(api, query)), queries * 4))
    assert together == alone * 4


def test_a_port_that_is_taken_is_told(small_run, api):
    taken = small_run.config.serve.model_copy(update={"port": api.base_url.port})
    with (
        pytest.raises(UserError, match=f"port {api.base_url.port} of 127.0.0.1 is not free"),
        serve.endpoint(small_run.folder("package").local, taken),
    ):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "shop.example"])
def test_it_will_not_listen_to_others_without_authentication(small_run, host):
    open_to_all = small_run.config.serve.model_copy(update={"host": host})
    with (
        pytest.raises(UserError, match="no authentication"),
        serve.endpoint(small_run.folder("package").local, open_to_all),
    ):
        pass
