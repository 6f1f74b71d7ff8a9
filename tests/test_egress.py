"""Text goes to a server elsewhere only if the config names its host."""

from __future__ import annotations

import pytest
import yaml

from synthrec import config
from synthrec.errors import UserError


def loaded(tmp_path, url, hosts=(), kind="openai"):
    settings = {
        "name": "shop",
        "run_dir": str(tmp_path / "run"),
        "sources": {"products": {"path": "p.jsonl"}},
        "privacy": {"allow_hosts": list(hosts)},
        "synthesize": {"engine": {"kind": kind, "model": "m", "server": {"url": url}}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    return config.load(tmp_path / "c.yaml")


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "http://127.0.0.1/v1", "http://[::1]:80/v1"])
def test_loopback_needs_no_leave(tmp_path, url):
    loaded(tmp_path, url)


@pytest.mark.parametrize("host", ["api.example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.7"])
def test_another_host_must_be_named(tmp_path, host):
    with pytest.raises(UserError, match=rf"would go to {host}") as told:
        loaded(tmp_path, f"https://{host}:443/v1", ["example.com", "other.example.com"])
    assert f"allow_hosts: [{host}]" in told.value.hint
    loaded(tmp_path, f"https://{host.upper()}/v1", [host])


def test_engines_that_run_here_are_not_asked(tmp_path):
    loaded(tmp_path, "https://api.example.com/v1", kind="fake")
