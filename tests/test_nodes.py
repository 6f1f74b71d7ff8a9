"""The endpoint over two nodes for real: one is lost while it is asked, and what it acknowledged is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import pytest
from redis_server import RedisServer, installed

from benchmarks.marked import marked
from benchmarks.serving.systems import answers, free_port
from synthrec import stores

ROOT = Path(__file__).parents[1]
MARK = "SYNTHREC_TEST_NODES"  # an environment variable: every process that is started here inherits it
CALLERS = 4


class Caller(Thread):
    """Sends events and searches in turn; `failed` holds when and how, `kept` the events that were acknowledged."""

    def __init__(self, url: str, name: int) -> None:
        super().__init__(daemon=True)
        self.url, self.number, self.end = url, name, Event()
        self.asked, self.failed, self.kept = 0, [], set()
        self.start()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self.end.is_set():
                self.asked += 1
                event = {"event_id": f"{self.number}-{self.asked}", "user_id": "ann", "product_id": "KIT01"}
                calls = {"/v1/events": {"events": [event | {"kind": "view"}]}, "/v1/search": {"query": "pan", "k": 3}}
                for route, body in calls.items():
                    try:
                        client.post(route, json=body).raise_for_status()
                    except httpx.HTTPError as error:
                        self.failed.append((self.asked, route, error))
                    else:
                        self.kept |= {event["event_id"]} if route == "/v1/events" else set()
                time.sleep(0.02)


def until(true, seconds, what):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def replicas(url):
    """Names of those that have answered some scrapes."""
    texts = [httpx.get(f"{url}/metrics", timeout=10).text for _ in range(20)]
    return {text.split('replica="')[1].split('"')[0] for text in texts if 'replica="' in text}


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="no redis-server here")
def test_a_lost_node_costs_what_it_had_in_hand_and_no_acknowledged_write(small_run, small_shop, tmp_path):
    port, env = free_port(), {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST"))}
    env |= {MARK: str(tmp_path)}
    redis = RedisServer(tmp_path)
    with ExitStack() as stack:
        stack.callback(lambda: [one.kill() for one in marked(MARK, str(tmp_path))])
        stack.callback(redis.kill)
        redis.start()
        subprocess.Popen([sys.executable, "-m", "tests.two_nodes", str(tmp_path)], cwd=ROOT, env=env)
        until((tmp_path / "address").exists, 60, "no cluster")
        settings = {"port": port, "store": redis.url, "replicas": "[2, 2]", "cpus": 1}  # one fits each node
        command = [sys.executable, "-m", "synthrec.cli", "serve", "-c", str(small_shop)]
        command += [word for name, value in settings.items() for word in ("-s", f"serve.{name}={value}")]
        subprocess.Popen(command, env=env | {"RAY_ADDRESS": (tmp_path / "address").read_text()})
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/readyz"), 120, "it does not answer")
        until(lambda: len(replicas(url)) == 2, 60, "not both replicas answer")
        callers = [Caller(url, number) for number in range(CALLERS)]
        time.sleep(2)
        before = [one.asked for one in callers]
        (tmp_path / "lose").touch()
        until((tmp_path / "lost").exists, 60, "the node stays")
        time.sleep(8)
        for one in callers:
            one.end.set()
        for one in callers:
            one.join(30)
        store = stores.open(redis.url)
        found = {event.event_id for user in store.users() for event in store.history(user, 100_000)}
        store.close()
    failed = [one for caller in callers for one in caller.failed]
    assert len(failed) <= CALLERS, "no more than each caller had in hand"
    assert all(caller.asked > count + 20 for caller, count in zip(callers, before, strict=True)), "it answered on"
    assert set().union(*(one.kept for one in callers)) <= found
    assert psutil.wait_procs(marked(MARK, str(tmp_path)), timeout=30)[1] == []
