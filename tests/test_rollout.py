"""Swaps, trials and rollbacks on a running service: no request fails, and no plan is lost."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from serve_app import keys, searching, service
from serve_app.rollout import NOTE, Plan, bucket
from synthrec import stores
from synthrec.cli import app
from synthrec.client import ApiError, Client
from synthrec.evaluation.baselines import ItemKNN
from synthrec.recommenders import ready
from synthrec.recommenders.bi_encoder import BiEncoder
from tests import little_bundle

pytestmark = pytest.mark.usefixtures("one_thread")
KEYS = {"all": ["read", "write", "admin"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory, one_thread):
    """Five versions: the second lacks half of the products, one is damaged, one was judged badly, one recommends
    among other products than it has."""
    folder, encoder = tmp_path_factory.mktemp("rollout"), BiEncoder.load("embedded")
    little_bundle.make(folder / "one", encoder, whole=False)
    little_bundle.make(folder / "two", encoder, little_bundle.products("KIT0"), whole=False)
    shutil.copytree(folder / "two", folder / "torn")
    (folder / "torn" / "vectors.npy").write_bytes(b"torn")
    shutil.copytree(folder / "two", folder / "poor")
    told = json.loads((folder / "poor" / "manifest.json").read_text()) | {"metrics": {"ndcg@10": {"mean": 0.1}}}
    (folder / "poor" / "manifest.json").write_text(json.dumps(told))
    (folder / "odd" / "recommender").mkdir(parents=True)
    few = ready.Neighbours(ItemKNN([np.arange(3)] * 9, 5).likeness)
    (folder / "odd" / "recommender" / ready.NEIGHBOURS).write_bytes(few.stored())
    little_bundle.make(folder / "odd", encoder, whole=False, recommender={"system": ready.ITEM_KNN})
    return folder


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Keys by name, and their file."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return {name: keys.add(path, name, scopes) for name, scopes in KEYS.items()}, path


@pytest.fixture
def api(root, held, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
    (tmp_path / "run").mkdir()
    url = f"sqlite:///{tmp_path}/store.sqlite"
    where = little_bundle.home(root, run_dir=str(tmp_path / "run"), store=url)
    with little_bundle.served(where, keys=str(held[1]), poll_seconds=0.05, floor=0.5) as client:
        yield client


@pytest.fixture
def shop(api, held):
    with Client(str(api.base_url), key=held[0]["all"]) as client:
        yield client


def test_a_swap_under_load_fails_no_request_and_a_rollback_neither(shop):
    statuses, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            statuses.append(shop.search("pan", k=26).bundle)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(load) for _ in range(4)]
        time.sleep(0.3)
        assert shop.swap("two").bundle == "two"
        assert {hit.product_id[:4] for hit in shop.search("pan", k=26).hits} == {"KIT0"}
        time.sleep(0.3)
        assert shop.rollback().bundle == "one"
        time.sleep(0.3)
        stop.set()
        for job in jobs:
            job.result()
    assert set(statuses) == {"one", "two"}
    assert shop.bundle().version == "one"


@pytest.mark.parametrize(
    ("version", "words"),
    [("torn", "changed"), ("poor", "serve.floor is 0.5"), ("nowhere", "no bundle"), ("odd", "knows 5 products")],
)
def test_a_version_that_is_no_good_changes_nothing(shop, version, words):
    with pytest.raises(ApiError, match=words) as refused:
        shop.swap(version)
    assert refused.value.status == 409
    assert shop.bundle().version == "one"
    assert shop.search("pan").bundle == "one"


def test_live_products_are_in_the_version_that_is_swapped_in(shop):
    shop.upsert([{"product_id": "NEW9", "title": "Zorblax quantum whisk"}])
    shop.swap("two")
    assert shop.search("zorblax whisk", k=1).hits[0].product_id == "NEW9"


def test_a_canary_answers_its_share_of_the_shoppers_always_the_same(shop):
    shop.swap("two", percent=40)
    shoppers = [f"shopper {number}" for number in range(40)]
    first = [shop.search("pan", user_id=one).bundle for one in shoppers]
    assert [shop.search("pan", user_id=one).bundle for one in shoppers] == first
    assert 4 < first.count("two") < 30
    assert shop.search("pan").bundle == "one"  # who is not known takes no part
    report = shop.rollout()
    assert report.rollout.percent == 40
    assert report.arms["two"].requests == 2 * first.count("two")
    assert shop.rollback().candidate is None
    assert {shop.search("pan", user_id=one).bundle for one in shoppers} == {"one"}


def test_a_shadow_is_compared_and_seen_by_nobody(shop):
    shop.swap("two", shadow=True)
    for query in ("pan", "knife", "锅", "kettle"):
        assert shop.search(query, user_id="anna").bundle == "one"
    until = time.monotonic() + 10
    while (report := shop.rollout()).compared < 4:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert 0 < report.overlap < 1  # half of the products are not in the second
    assert report.arms["two"].requests == 4


def test_a_callers_mistake_is_no_fault_of_the_version(api, held, shop):
    good, wrong = {"query": "pan"}, {"query": "pan", "filters": {"attributes": {"no such": ["x"]}}}
    for searches in ([wrong], [good, wrong, good, good]):
        reply = api.post("/v1/search/batch", json={"searches": searches}, headers={"x-api-key": held[0]["all"]})
        assert reply.status_code == 422
    arm = shop.rollout().arms["one"]
    assert arm.requests >= 2
    assert arm.errors == 0


def test_another_replica_follows(api, root, held, tmp_path, shop):
    """Two processes would; two services over one store are the same to it."""
    where = little_bundle.home(root, store=f"sqlite:///{tmp_path}/store.sqlite")
    with (
        little_bundle.served(where, keys=str(held[1]), poll_seconds=0.05) as other,
        Client(str(other.base_url), key=held[0]["all"]) as second,
    ):
        start = time.monotonic()
        shop.upsert([{"product_id": "NEW9", "title": "Zorblax quantum whisk"}])
        while second.search("zorblax whisk", k=1).hits[0].product_id != "NEW9":
            assert time.monotonic() - start < 20  # how soon it is: benchmarks.serving
            time.sleep(0.02)
        shop.swap("two")
        start = time.monotonic()
        while second.bundle().version != "two":
            assert time.monotonic() - start < 20
            time.sleep(0.05)


def test_a_replica_that_cannot_load_the_plan_keeps_taking_products(api, held, tmp_path, shop, monkeypatch):
    """As where a version is on the other node's disk alone. It tries again, but not at every look."""
    tried, load = [], service.load

    def counted(*given):
        tried.append(given)
        return load(*given)

    monkeypatch.setattr(service, "load", counted)
    monkeypatch.setattr(service, "STALE_SECONDS", 0.5)
    key = {"x-api-key": held[0]["all"]}
    assert api.get("/readyz", headers=key).status_code == 200
    stores.open(f"sqlite:///{tmp_path}/store.sqlite").note(NOTE, Plan("elsewhere", "one").row())
    time.sleep(1.5)  # some thirty looks
    assert 1 <= len(tried) <= 2
    assert shop.upsert([{"product_id": "NEW8", "title": "Zorblax whisk"}]).upserted == 1
    assert shop.search("zorblax whisk", k=1).hits[0].product_id == "NEW8"
    assert api.get("/readyz", headers=key).status_code == 503
    assert shop.rollback().bundle == "one"  # of the plan in the store, which this replica never came to
    time.sleep(0.2)
    assert api.get("/readyz", headers=key).status_code == 200


def test_of_two_who_change_the_rollout_at_once_one_is_told(shop, tmp_path, monkeypatch):
    """As on two replicas: what the other decided while a bundle was loaded here is not written over."""
    theirs, load = Plan("one").trial("two", 5, shadow=False).row(), service.load

    def meanwhile(*given):
        with closing(stores.open(f"sqlite:///{tmp_path}/store.sqlite")) as store:
            store.note(NOTE, theirs)
        return load(*given)

    monkeypatch.setattr(service, "load", meanwhile)
    with pytest.raises(ApiError, match="somebody else") as refused:
        shop.swap("two")
    assert refused.value.status == 409
    with closing(stores.open(f"sqlite:///{tmp_path}/store.sqlite")) as store:
        assert store.noted(NOTE) == theirs


def test_what_administrators_do_is_on_record(shop, held, tmp_path):
    shop.swap("two")
    shop.forget("anna")
    entries = [json.loads(path.read_text()) for path in sorted((tmp_path / "run" / "audit").iterdir())]
    assert [one["what"] for one in entries] == ["swap", "forget from the store"]
    ring = {key.id: key.name for key in keys.read(held[1])}
    assert {ring[one["key"]] for one in entries} == {"all"}
    assert "anna" not in str(entries)


def test_the_command_line_shows_swaps_and_rolls_back(api, held):
    def run(*words):
        told = CliRunner().invoke(
            app, ["bundle", *words, "--url", str(api.base_url)], env={"SYNTHREC_API_KEY": held[0]["all"]}
        )
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    assert run("show")["version"] == "one"
    assert run("swap", "two", "--percent", "10")["candidate"] == "two"
    assert run("report")["rollout"]["percent"] == 10
    assert run("rollback")["candidate"] is None


def test_a_store_that_hiccups_after_a_rollback_does_not_undo_it(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
    where = little_bundle.home(root, store=f"sqlite:///{tmp_path}/store.sqlite")
    with little_bundle.served(where, poll_seconds=1) as api, Client(str(api.base_url)) as shop:
        assert shop.swap("two").bundle == "two"
        follow, failed = service.Loaded.follow, []

        def hiccups(self, store):
            if self.version == "one" and len(failed) < 2:
                failed.append(1)
                if len(failed) == 2:  # the first is of loading it, before anything is decided
                    raise stores.StoreError("away", "wait")
            return follow(self, store)

        monkeypatch.setattr(service.Loaded, "follow", hiccups)
        assert shop.rollback().bundle == "one"
        assert len(failed) == 2
        assert shop.bundle().version == "one"


def test_a_trial_whose_bundle_is_gone_does_not_keep_the_endpoint_from_starting(root, tmp_path, monkeypatch):
    from synthrec.stages import serve

    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", "a key for the tests, and for nothing else")
    url = f"sqlite:///{tmp_path}/store.sqlite"
    with closing(stores.open(url)) as store:
        store.note(NOTE, Plan("one", "two").trial("gone", 5, shadow=False).row())
        store.note(serve.SEEDED, {"version": "one"})
    serve.open_store(SimpleNamespace(), little_bundle.home(root, store=url))
    with closing(stores.open(url)) as store:
        assert Plan.read(store.noted(NOTE)) == Plan("one", "two")


def test_a_product_that_goes_while_it_is_ranked_is_left_out():
    class Index:
        def product(self, product_id, names=None):
            if product_id == "b":
                raise KeyError
            return {"product_id": product_id, "text": product_id, **dict.fromkeys(searching.SHOWN)}

    class Reranker:
        def rerank(self, query, texts):
            return [(place, float(place)) for place in reversed(range(len(texts)))]

    loaded = SimpleNamespace(index=Index())
    found = [searching.Ranked(one, 0.0) for one in "abc"]
    hits = searching._reranked(loaded, Reranker(), SimpleNamespace(query="q", explain=False), found)
    assert [hit.product_id for hit in hits] == ["c", "a"]


@given(shopper=st.text(max_size=30), percent=st.floats(0, 100), version=st.text(max_size=5))
def test_assignment_is_stable_and_grows_with_the_share(shopper, percent, version):
    plan = Plan("a").trial(version + "b", percent, shadow=False)
    assert plan.version(shopper) == plan.version(shopper)
    if plan.version(shopper) != "a":
        assert plan.trial(version + "b", min(100, percent + 1), shadow=False).version(shopper) != "a"
    assert 0 <= bucket(version, shopper) < 100


def test_assignment_keeps_its_share():
    taken = [bucket("two", f"u{number}") < 10 for number in range(20_000)]
    assert 0.09 < sum(taken) / len(taken) < 0.11


def test_a_swap_to_what_serves_already_ends_its_trial():
    assert Plan("b", "a").trial("c", 10, shadow=False).swapped("b") == Plan("b", "a")


def test_a_rollback_ends_a_trial_first_and_then_goes_back():
    plan = Plan("a").swapped("b").trial("c", 10, shadow=False)
    assert plan.back() == Plan("b", "a")
    assert plan.back().back() == Plan("a", "b")
    assert Plan("a").back() is None
