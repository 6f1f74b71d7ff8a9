"""What is measured, each started as a process of its own and stopped again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, log: Path, **variables: str) -> Iterator[str]:
    """The URL, once it answers 200. Ends the process group afterwards, which is of its own."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | variables, start_new_session=True)
        try:
            until = time.monotonic() + START_SECONDS
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[:4]} did not start: see {log}")
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def ours(kind: str, root: Path, store: str, log: Path, **variables: str) -> Iterator[str]:
    """Our service, `uvicorn`, `ray` or `apart`: the base URL."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "benchmarks.serving.serve", kind, str(root), store, str(port)]
    with running(command, f"{base}/healthz", log, **variables):
        yield base


@contextmanager
def infinity(binary: Path, model: Path, log: Path) -> Iterator[str]:
    """infinity-emb over the encoder before it is exported: the same weights."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(binary), "v2", "--model-id", str(model), "--port", str(port), "--host", "127.0.0.1"]
    command += ["--device", "cpu", "--engine", "torch", "--no-bettertransformer", "--url-prefix", ""]
    with running(command, f"{base}/health", log):
        yield base
