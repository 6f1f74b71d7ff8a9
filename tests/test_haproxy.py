"""HAProxy, which Ray Serve runs before the replicas if one asks for it: open at the endpoint's port, nowhere else."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import TEST_KEY

from benchmarks.marked import marked
from benchmarks.serving.systems import free_port
from serve_app.haproxy import narrowed
from synthrec.errors import UserError

MARK = "SYNTHREC_TEST_HAPROXY"  # an environment variable: every process of the endpoint inherits it
DIRECT = range(30_000, 32_000)  # where Ray has replicas listen for HAProxy
RAYS = """global
    log 127.0.0.1:514 local0 info
    stats socket /tmp/h/n/admin.sock mode 666 level admin expose-fd listeners
    stats timeout 30s
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
  stats enable
"""


def test_what_ray_leaves_open_is_shut():
    assert narrowed(RAYS, Path("/tmp/h/n")).splitlines() == [
        "global",
        "    log 127.0.0.1:514 local0 info",
        "    stats socket /tmp/h/n/admin.sock mode 600 level admin expose-fd listeners",
        "    stats timeout 30s",
        "frontend prometheus",
        "    bind unix@/tmp/h/n/9101.sock mode 600",
        "    mode http",
        "frontend http_frontend",
        "    bind 127.0.0.1:8000",
        "listen stats",
        "  bind unix@/tmp/h/n/8404.sock mode 600",
        "  stats enable",
    ]


@pytest.mark.parametrize(
    "changed",
    [RAYS.replace("*:8404", "[::]:8404"), RAYS.replace("mode 666 ", ""), RAYS + "frontend other\n    bind :9000\n"],
)
def test_a_configuration_of_another_kind_is_refused(changed):
    with pytest.raises(UserError, match="RAY_SERVE_ENABLE_HA_PROXY"):
        narrowed(changed, Path("/tmp/h/n"))


def listening(process):
    return {(at.laddr.ip, at.laddr.port) for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_nothing_listens_beyond_loopback_and_nothing_is_left(small_run, small_shop, tmp_path):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST"))}
    env |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", MARK: str(tmp_path), "SYNTHREC_PRIVACY_KEY": TEST_KEY}
    port = free_port()
    command = [sys.executable, "-m", "synthrec.cli", "serve", "-c", str(small_shop), "-s", f"serve.port={port}"]
    serving = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(client)
            assert client.post("/v1/search", json={"query": "pan"}).json()["hits"]
        ours = marked(MARK, str(tmp_path))
        (proxy,) = (one for one in ours if one.name() == "haproxy")
        assert listening(proxy) == {("127.0.0.1", port)}
        doors = {at for one in ours if "ServeReplica" in one.cmdline()[0] for at in listening(one) if at[1] in DIRECT}
        assert doors
        assert {ip for ip, _ in doors} == {"127.0.0.1"}

        folder = Path(proxy.cmdline()[proxy.cmdline().index("-f") + 1]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        socket = httpx.HTTPTransport(uds=str(folder / "9101.sock"))
        with httpx.Client(transport=socket, base_url="http://haproxy") as client:
            assert "haproxy_process" in client.get("/metrics").text

        serving.send_signal(signal.SIGINT)
        assert serving.wait(120) in (0, 128 + signal.SIGINT)
        assert [one.name() for one in marked(MARK, str(tmp_path)) if one.name() == "haproxy"] == []
    finally:
        for process in marked(MARK, str(tmp_path)):
            process.kill()


def wait_for(client):
    for _ in range(240):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError("it does not answer")
