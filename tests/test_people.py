"""Shoppers at the endpoint are those of the run: under the same privacy key, or nothing starts."""

from __future__ import annotations

import asyncio

import pytest

from serve_app import local
from serve_app.people import People
from synthrec import stores
from synthrec.config import Serve
from synthrec.errors import UserError
from synthrec.privacy import load_key
from tests import little_bundle

KEY = "SYNTHREC_PRIVACY_KEY"


@pytest.fixture
def store(tmp_path):
    opened = stores.open(f"sqlite:///{tmp_path}/store.sqlite")
    yield opened
    opened.close()


def test_a_shopper_has_one_pseudonym_and_keeps_it(store):
    people = People(key=b"a key for the tests, and for nothing else")
    people.agree(store)
    known = people.shopper("anna")
    assert known.startswith("u_") and "anna" not in known
    assert people.shopper(known) == known


def test_a_node_with_another_key_is_told(store):
    People(key=b"the key of the run, which is this one").agree(store)
    People(key=b"the key of the run, which is this one").agree(store)
    with pytest.raises(UserError, match="another privacy key") as told:
        People(key=b"the key of a node that has its own").agree(store)
    assert KEY in told.value.hint


def test_a_node_without_a_key_makes_none(monkeypatch, tmp_path):
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UserError, match="there is no privacy key here"):
        People()
    assert not list(tmp_path.iterdir())
    made = load_key()
    assert load_key(make=False) == made


def test_a_replica_with_another_key_does_not_start(tmp_path, monkeypatch):
    little_bundle.make(tmp_path / "one", whole=False)
    for key in ("the key of the run, which is this one", "the key of a node that has its own"):
        monkeypatch.setenv(KEY, key)
        service = local.service(little_bundle.home(tmp_path), Serve())
        start = service.start()
        if "run" in key:
            asyncio.run(_whole(service, start))
        else:
            with pytest.raises(UserError, match="another privacy key"):
                asyncio.run(start)
        service.store.close()


async def _whole(service, start):
    await start
    await service.stop()
