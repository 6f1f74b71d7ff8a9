"""The endpoint over real HTTP: Ray Serve with the small shop's bundle."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import numpy as np
import pytest

from serve_app.local import Home
from synthrec import bundle, schema, stores
from synthrec.errors import UserError
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.retrieval.ranking import rank
from synthrec.stages import serve
from synthrec.stores import sqlite

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def api(small_run):
    with (
        serve.endpoint(small_run, small_run.config.serve) as url,
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
    scores = opened.hybrid.scores(query.strip(), vector)
    best = [place for place in rank(scores[None], 10)[0] if scores[place] > 0]
    expected = [opened.catalogue["product_id"][int(place)].as_py() for place in best]
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
        hits = search(api, "pan 锅", k=26, weight=1.0, filters={"language": [language]})
        assert len(hits) == 13
        assert {hit["language"] for hit in hits} == {language}


def test_k_is_kept_to_the_catalogue(api):
    assert len(search(api, "pan", k=100, weight=1.0)) == 26


def test_similar_products_are_the_nearest_by_meaning_without_the_product_itself(api, opened):
    products = opened.catalogue["product_id"].to_pylist()
    vectors = np.asarray(opened.hybrid.vectors)
    hits = api.post("/v1/similar", json={"product_id": "KIT01", "k": 25, "same_language": False}).json()["hits"]
    order = [products[i] for i in np.argsort(-(vectors @ vectors[products.index("KIT01")]), kind="stable")]
    assert ids(hits) == [one for one in order if one != "KIT01"]
    own = api.post("/v1/similar", json={"product_id": "KIT01", "k": 25}).json()["hits"]
    assert {hit["language"] for hit in own} == {"en"}


def test_errors_are_problems_behind_ray_too(api):
    reply = api.post("/v1/search", json={})
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    assert reply.json()["errors"][0]["pointer"] == "#/query"
    assert reply.json()["instance"].rpartition(":")[2] == reply.headers["x-request-id"]
    assert api.post("/v1/similar", json={"product_id": "NO-SUCH"}).status_code == 404
    assert api.post("/v1/search", content=b'{"query": "\xff', headers=JSON).status_code == 400


def test_what_the_bundle_is_made_of_is_told(api, opened):
    told = api.get("/v1/bundle").json()
    assert told["lineage"] == opened.manifest["lineage"]
    assert (told["name"], told["products"], told["system"]) == ("small", 26, opened.manifest["system"])


def test_shoppers_of_the_files_are_known_from_the_start(api, small_run):
    rows = (small_run.folder("prepare") / "interactions").read_table(schema.INTERACTIONS).to_pylist()
    shopper = next(row["user_id"] for row in rows if row["product_id"].startswith("KIT"))
    assert sum(api.post("/v1/profile", json={"user_id": shopper}).json()["events"].values()) > 0
    assert api.post("/v1/recommend", json={"user_id": shopper}).json()["basis"] in ("model", "text")
    assert api.post("/v1/recommend", json={}).json()["basis"] == "popularity"


def test_a_store_whose_filling_was_cut_short_is_filled(small_run, tmp_path, monkeypatch):
    """An event is kept once, however often it is told."""
    home = Home(str(small_run.folder("package").local.parent), "none", f"sqlite:///{tmp_path}/store.sqlite")
    monkeypatch.setattr(serve, "BATCH", 7)
    with monkeypatch.context() as cut:
        one_more, told = sqlite.SqliteStore.add_events, []

        def dies(self, events):
            if told:
                raise KeyboardInterrupt
            told.append(one_more(self, events))

        cut.setattr(sqlite.SqliteStore, "add_events", dies)
        with pytest.raises(KeyboardInterrupt):
            serve.open_store(small_run, home)
    for _ in range(2):
        serve.open_store(small_run, home)
    rows = (small_run.folder("prepare") / "interactions").read_table(schema.INTERACTIONS).to_pylist()
    with closing(stores.open(home.store)) as store:
        assert sorted(store.users()) == sorted({row["user_id"] for row in rows})
        assert sum(len(store.history(user, 1000)) for user in store.users()) == len({tuple(r.values()) for r in rows})


def test_what_the_endpoint_refuses_is_told_in_words(api, monkeypatch):
    monkeypatch.delenv("SYNTHREC_API_KEY", raising=False)
    assert serve.show(str(api.base_url), "pan for pancakes")[0]["product_id"].startswith("KIT")
    with pytest.raises(UserError, match="at most 512 characters"):
        serve.show(str(api.base_url), "a" * 600)


def test_a_put_product_is_found_within_two_seconds_on_every_replica(api):
    api.post("/v1/products", json={"upsert": [{"product_id": "NEW1", "title": "Zorblax quantum whisk"}]})
    time.sleep(2)
    for _ in range(10):
        assert ids(search(api, "zorblax whisk", k=1)) == ["NEW1"]
    api.post("/v1/products", json={"delete": ["NEW1"]})
    time.sleep(2)
    for _ in range(10):
        assert "NEW1" not in ids(search(api, "zorblax whisk", k=26))


def test_a_swap_under_load_fails_no_request(api, small_run):
    """To a copy of the bundle, and back."""
    folder = small_run.folder("package").local
    copy = folder.parent / "copied"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    stop, replies = threading.Event(), []

    def load():
        while not stop.is_set():
            replies.append(api.post("/v1/search", json={"query": "pan"}).status_code)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(load) for _ in range(4)]
        try:
            swapped = api.post("/v1/admin/bundle", json={"version": "copied"})
            assert swapped.json()["bundle"] == "copied", swapped.text
            time.sleep(1)
            assert api.post("/v1/search", json={"query": "pan"}).json()["bundle"] == "copied"
            assert api.post("/v1/admin/rollback").json()["bundle"] == folder.name
        finally:
            stop.set()
        for job in jobs:
            job.result()
    assert set(replies) == {200}
    shutil.rmtree(copy)


def test_many_at_once_get_what_each_would_get_alone(api):
    queries = [
        f"{what} for {whom}" for what in ("pan", "knife", "kettle", "锅", "刀") for whom in ("eggs", "soup", "home")
    ]
    alone = [ids(search(api, query)) for query in queries]
    with ThreadPoolExecutor(12) as pool:  # as many as a replica takes
        together = list(pool.map(lambda query: ids(search(api, query)), queries * 4))
    assert together == alone * 4


def test_a_second_endpoint_of_a_run_is_refused_and_the_first_one_answers_on(small_run, api):
    """It would tell the first one, by their store, what to serve; and end it with itself."""
    before = api.get("/v1/bundle").json()
    with pytest.raises(UserError, match="another synthrec"), serve.endpoint(small_run, small_run.config.serve):
        pass
    assert api.get("/v1/bundle").json() == before


def test_a_port_that_is_taken_is_told(small_run, api):
    taken = small_run.config.serve.model_copy(update={"port": api.base_url.port})
    with (
        pytest.raises(UserError, match=f"port {api.base_url.port} of 127.0.0.1 is not free"),
        serve.endpoint(small_run, taken),
    ):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "shop.example"])
def test_it_will_not_listen_to_others_without_authentication(small_run, host):
    open_to_all = small_run.config.serve.model_copy(update={"host": host})
    with (
        pytest.raises(UserError, match="there are no keys"),
        serve.endpoint(small_run, open_to_all),
    ):
        pass
