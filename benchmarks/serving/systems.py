"""What is measured, each started as a process of its own and stopped again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.marked import marked

START_SECONDS = 300
MARK = "SYNTHREC_BENCHMARK"  # an environment variable: every process of an endpoint inherits it
REPLICA = "ServeReplica:default:"
OTHERS = ("ProxyActor", "HAProxyManager", "ServeController", "haproxy")  # beside replicas, what a request needs


@dataclass(frozen=True)
class Endpoint:
    """One of ours that runs.

    Attributes:
        url: of its root.
        store: the URL of its store.
        mark: its processes have it in their environment.
    """

    url: str
    store: str
    mark: str

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Its processes that a request may pass, by kind: the deployment's name, or what Ray calls the actor."""
        found: dict[str, list[psutil.Process]] = {}
        for process in marked(MARK, self.mark):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words and (kind := _kind(words[0])):
                found.setdefault(kind, []).append(process)
        return found


def _kind(title: str) -> str | None:
    """Ray writes `ray::ServeReplica:default:Api` where a command's name is."""
    if REPLICA in title:
        return title.partition(REPLICA)[2].partition(".")[0].split()[0]
    name = title.removeprefix("ray::").partition(".")[0] if title.startswith("ray::") else Path(title).name
    return name if name in OTHERS else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, log: Path, variables: dict[str, str]) -> Iterator[None]:
    """Once its URL answers 200. Ends the process group afterwards, which is of its own."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | variables, start_new_session=True)
        try:
            until = time.monotonic() + START_SECONDS
            while not answers(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[:4]} did not start: see {log}")
                time.sleep(0.2)
            yield
        finally:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def ours(
    kind: str, root: Path, store: str, log: Path, settings: dict[str, Any], variables: dict[str, str]
) -> Iterator[Endpoint]:
    """Our service, `uvicorn` or `ray`."""
    base, mark = f"http://127.0.0.1:{(port := free_port())}", uuid.uuid4().hex
    command = [sys.executable, "-m", "benchmarks.serving.serve", kind, str(root), store, str(port)]
    try:
        with running([*command, json.dumps(settings)], f"{base}/readyz", log, variables | {MARK: mark}):
            yield Endpoint(base, store, mark)
    finally:
        _, left = psutil.wait_procs(marked(MARK, mark), 10)
        for process in left:  # of a Ray whose own keepers were killed
            process.kill()


@contextmanager
def infinity(binary: Path, model: Path, log: Path) -> Iterator[str]:
    """infinity-emb over the encoder before it is exported, the same weights: the URL of its root."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(binary), "v2", "--model-id", str(model), "--port", str(port), "--host", "127.0.0.1"]
    command += ["--device", "cpu", "--engine", "torch", "--no-bettertransformer", "--url-prefix", ""]
    with running(command, f"{base}/health", log, {}):
        yield base
