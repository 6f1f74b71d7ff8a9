"""Fixtures for all tests: the example shop, and one Ray for the whole session."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis_server import RedisServer, installed

from synthrec import config
from synthrec.cli import run_stages
from synthrec.pipeline import Pipeline

TEST_KEY = "a key for the tests, and for nothing else"
CALLED_WITH = dict(os.environ)  # the environment before a fixture changes it
SLOW_UNTIL = "SYNTHREC_SLOW_UNTIL"  # an environment variable: when, in seconds since 1970, no slow test begins any more


def pytest_runtest_setup(item: pytest.Item) -> None:
    """.ci/run has so much time, on a machine whose speed goes up and down."""
    until = float(os.environ.get(SLOW_UNTIL, "inf"))
    if item.get_closest_marker("slow") and time.time() > until:
        pytest.skip("LEFT OUT, since the time for slow tests is over; by hand: make slow")


@pytest.fixture(scope="session")
def store() -> Path:
    """The fictional shop's folder."""
    return Path(__file__).parents[1] / "examples" / "store"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On busy cores threads wait for each other longer than the small batches of tests take."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium. A module's own: while Playwright runs, no test of its thread can run a loop of events."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real server that syncs every write; skipped where there is none."""
    pytest.importorskip("redis", reason="the client of Redis is not installed: pip install 'synthrec[redis]'")
    if not installed():
        pytest.skip("no redis-server on PATH: apt-get install redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray on two CPUs, and a fixed privacy key, so that no test touches the user's own key file."""
    import ray

    from synthrec import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHREC_PRIVACY_KEY", TEST_KEY)
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster.start(num_cpus=2)
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def small_shop(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a small shop: the kitchen department of the fictional one, in both languages."""
    folder = tmp_path_factory.mktemp("small")
    keep = {
        "products.jsonl": lambda row: row["product_id"].startswith("KIT"),
        "judgments.jsonl": lambda row: all(product.startswith("KIT") for product in row["E"]),
        "dialogues.jsonl": lambda row: True,
        "searches.jsonl": lambda row: True,
    }
    for name, wanted in keep.items():
        lines = (store / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(line for line in lines if wanted(json.loads(line))), encoding="utf-8")
    reviews = (store / "reviews.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "reviews.csv").write_text("".join(reviews[:1] + [r for r in reviews if ",KIT" in r]), encoding="utf-8")
    settings = {
        "name": "small",
        "run_dir": str(folder / "run"),
        "sources": {
            "products": {"path": str(folder / "products.jsonl")},
            "reviews": {"path": str(folder / "reviews.csv")},
            "searches": {"path": str(folder / "searches.jsonl")},
            "interactions": {"path": str(store / "interactions.parquet")},
            "dialogues": {"path": str(folder / "dialogues.jsonl")},
        },
        "synthesize": {
            # Threads of one LLM wait for each other at every layer; on busy cores that takes most of the time.
            "engine": {"resources": {"actors": [2, 2], "cpus": 0.5, "batch_size": 8, "threads": 1}},
            "tasks": {
                "queries": {"per_product": 2},
                "relevance": {"max_queries": 10},
                "sentiment": {"max_reviews": 24},
            },
        },
        "train": {"epochs": 2, "batch_size": 8, "models": []},  # a classifier is trained in tests of its own
        "recommend": {
            "models": ["sequential", "graph"],
            "sequential": {"epochs": 4, "width": 16, "batch_size": 16},
            "graph": {"epochs": 2, "width": 16, "batch_size": 128},
        },
        "evaluate": {"judgments": str(folder / "judgments.jsonl"), "bootstrap": 200},
        # int8 is exported in its own tests; its vectors depend on the batch, and other tests compare bit by bit.
        "package": {"encoder": "float32"},
        "serve": {"port": 0},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_run(small_shop: Path, ray_session: None) -> Pipeline:
    """The whole loop over the small shop, on real parts: LLM, encoder, two DDP workers. Takes about a minute."""
    return run_stages(config.load(small_shop))
