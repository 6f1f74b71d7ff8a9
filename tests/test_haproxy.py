"""HAProxy, which Ray Serve runs before the replicas: open at the endpoint's port and nowhere else."""

from __future__ import annotations

import contextlib
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

from benchmarks.marked import marked
from benchmarks.serving.systems import answers, free_port
from serve_app.haproxy import narrowed
from synthrec import cluster
from synthrec.errors import UserError
from synthrec.stages import serve

pytestmark = pytest.mark.skipif(not cluster.haproxy(), reason="no HAProxy comes with Ray on this system")
MARK = "SYNTHREC_TEST_HAPROXY"  # an environment variable: every process of an endpoint inherits it
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


def test_the_endpoints_own_port_stays_as_it_was_asked_for():
    wide = RAYS.replace("127.0.0.1:8000", "*:8000")
    assert narrowed(wide, Path("/tmp/h/n")) == narrowed(RAYS, Path("/tmp/h/n")).replace("127.0.0.1:8000", "*:8000")


@pytest.mark.parametrize(
    "changed",
    [RAYS.replace("*:8404", "[::]:8404"), RAYS.replace("mode 666 ", ""), RAYS.replace("prometheus", "counters")],
)
def test_a_configuration_of_another_kind_is_refused(changed):
    with pytest.raises(UserError, match="RAY_SERVE_ENABLE_HA_PROXY"):
        narrowed(changed, Path("/tmp/h/n"))


def ours():
    """What runs below this process: (process, name, command line, where it listens); none that has just ended."""
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield one, one.name(), one.cmdline(), listening(one)


def proxied():
    """Where HAProxy listens, and its folder. Ray begins it anew where replicas change: it may be away for a moment."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for _, name, told, where in ours():
            if name == "haproxy" and where and "-f" in told:
                return where, Path(told[told.index("-f") + 1]).parent
        time.sleep(0.1)
    raise AssertionError("there is no HAProxy")


def listening(process):
    return {(at.laddr.ip, at.laddr.port) for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN}


def test_nothing_listens_beyond_loopback_and_nothing_is_left(small_run):
    with serve.endpoint(small_run, small_run.config.serve) as url:
        where, folder = proxied()
        assert where == {("127.0.0.1", int(url.rpartition(":")[2]))}
        replicas = [where for _, _, told, where in ours() if told and "ServeReplica" in told[0]]
        doors = {at for where in replicas for at in where if at[1] in DIRECT}
        assert doors
        assert {ip for ip, _ in doors} == {"127.0.0.1"}

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        socket = httpx.HTTPTransport(uds=str(folder / "9101.sock"))
        with httpx.Client(transport=socket, base_url="http://haproxy") as client:
            assert "haproxy_process" in client.get("/metrics").text
    _, left = psutil.wait_procs([one for one, name, _, _ in ours() if name == "haproxy"], timeout=10)
    assert left == []


def test_an_address_where_it_finds_no_replica_is_left_to_rays_proxy(small_run, monkeypatch):
    settings = small_run.config.serve.model_copy(update={"host": "::1"})
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(UserError, match="RAY_SERVE_ENABLE_HA_PROXY=0"), serve.endpoint(small_run, settings):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_holds_the_port_after_the_endpoint_has_ended(small_run, small_shop, tmp_path, how):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST"))}
    port = free_port()
    command = [sys.executable, "-m", "synthrec.cli", "serve", "-c", str(small_shop), "-s", f"serve.port={port}"]
    serving = subprocess.Popen(command, env=env | {MARK: str(tmp_path)}, start_new_session=True)
    try:
        until = time.monotonic() + 180
        while not answers(f"http://127.0.0.1:{port}/readyz"):
            assert serving.poll() is None
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.5)
        assert "haproxy" in [one.name() for one in marked(MARK, str(tmp_path))]
        serving.send_signal(how)
        serving.wait(60)
        _, left = psutil.wait_procs(marked(MARK, str(tmp_path)), timeout=60)
        assert left == []
    finally:
        for process in marked(MARK, str(tmp_path)):
            process.kill()
