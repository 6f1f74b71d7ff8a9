"""cluster.yaml against what `ray up` itself checks, and against what this project promises about it. No network."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
FILE = ROOT / "cluster.yaml"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SECRETS = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS access keys
    r"|aws_(secret_access_key|access_key_id|session_token)\s*[:=]"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(RAY_AUTH_TOKEN|SYNTHREC_PRIVACY_KEY|HF_TOKEN|[A-Z_]*(PASSWORD|SECRET|API_KEY))\s*[:=]\s*[^\s$]"
    r"|\b(hf_|sk-|gh[pousr]_)[A-Za-z0-9]{16,}"
    r"|\b[0-9a-fA-F]{32,}\b",
    re.IGNORECASE,
)

Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def ray_up_checks(config: Config) -> Config:
    """What `ray up` does to a file before it first asks the cloud."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def command_lists(config: Config) -> Iterator[tuple[str, list[str]]]:
    for place in (config, *config["available_node_types"].values()):
        yield from ((key, value) for key, value in place.items() if key.endswith("_commands"))


def ray_starts(commands: list[str]) -> list[dict[str, str]]:
    """The options of each `ray start`, and the variables set before it."""
    found = []
    for command in commands:
        words = shlex.split(command)
        for at in range(len(words) - 1):
            if words[at : at + 2] == ["ray", "start"]:
                options = dict(w.removeprefix("--").partition("=")[::2] for w in words[at:] if w.startswith("--"))
                found.append(options | dict(w.split("=", 1) for w in words[:at] if re.match(r"[A-Z_]+=", w)))
    return found


def faults(config: Config) -> list[str]:
    """Promises that the file breaks."""
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    workers = [one for name, one in types.items() if name != config["head_node_type"]]
    found = []
    if head["resources"].get("GPU") or not head["resources"].get("CPU"):
        found.append("the head offers GPUs, or no CPUs")
    gpu = [one for one in workers if one["resources"].get("GPU")]
    if not any(one["max_workers"] > one["min_workers"] for one in gpu):
        found.append("no GPU worker type is autoscaled")
    if any(one["min_workers"] for one in gpu):
        found.append("GPU workers run, and are paid for, without work")
    if max((one["max_workers"] for one in workers), default=0) > config["max_workers"]:
        found.append("a type's max_workers is above the cluster's")
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = ray_starts(config[key])
        if len(starts) != 1:
            found.append(f"{key}: one `ray start` is expected")
        for start in starts:
            if start.get("RAY_AUTH_MODE") != "token":
                found.append(f"{key}: Ray asks for no token")
            # Loopback is Ray's default, but one that has to be said: its own AWS template opens the dashboard to all.
            if start.get("dashboard-host", "" if "head" in start else "127.0.0.1") not in LOOPBACK:
                found.append(f"{key}: the dashboard is not on loopback")
    if not config["provider"].get("use_internal_ips"):
        found.append("nodes are reached at public addresses")
    excluded = {pattern.rstrip("/") for pattern in config["rsync_exclude"]}
    if not {"runs", ".venv"} <= excluded:
        found.append("runs or .venv is copied to the nodes")
    return found


def test_ray_accepts_the_file(config: Config) -> None:
    prepared = ray_up_checks(config)
    # What is left out comes from Ray's own AWS template, which opens the dashboard and installs another Ray.
    assert prepared["head_start_ray_commands"] == config["head_start_ray_commands"]
    assert prepared["worker_start_ray_commands"] == config["worker_start_ray_commands"]
    assert prepared["setup_commands"] == config["setup_commands"]
    assert faults(prepared) == []


@pytest.mark.parametrize(
    "break_it",
    [
        lambda c: c.update(wrokers=3),
        lambda c: c.pop("head_node_type"),
        lambda c: c.update(head_node_type="nobody"),
        lambda c: c.pop("provider"),
        lambda c: c["auth"].update(password="x"),
        lambda c: c["available_node_types"]["gpu_worker"].pop("resources"),
        lambda c: c["available_node_types"]["gpu_worker"]["resources"].update(GPU="one"),
        lambda c: c["available_node_types"]["gpu_worker"].update(spot=True),
        lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=c["max_workers"] + 1),
    ],
    ids=[
        "unknown-key",
        "no-head",
        "unknown-head",
        "no-provider",
        "auth-key",
        "no-resources",
        "gpu-word",
        "type-key",
        "too-many",
    ],
)
def test_ray_refuses_a_broken_file(config: Config, break_it: Callable[[Config], Any]) -> None:
    break_it(config)
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        ray_up_checks(config)


def _replace(config: Config, key: str, old: str, new: str) -> None:
    assert any(old in command for command in config[key])
    config[key] = [command.replace(old, new) for command in config[key]]


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda c: c["available_node_types"]["head"]["resources"].update(GPU=1), "the head offers GPUs"),
        (lambda c: c["available_node_types"]["gpu_worker"].update(max_workers=0), "no GPU worker type"),
        (lambda c: c["available_node_types"].pop("gpu_worker"), "no GPU worker type"),
        (lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=1), "without work"),
        (lambda c: c.update(max_workers=1), "above the cluster's"),
        (lambda c: c.pop("head_start_ray_commands"), "head_start_ray_commands: the dashboard"),
        (lambda c: _replace(c, "head_start_ray_commands", "127.0.0.1", "0.0.0.0"), "not on loopback"),
        (lambda c: _replace(c, "worker_start_ray_commands", "RAY_AUTH_MODE=token", ""), "asks for no token"),
        (lambda c: c["provider"].pop("use_internal_ips"), "public addresses"),
        (lambda c: c.update(rsync_exclude=[]), "copied to the nodes"),
    ],
)
def test_a_broken_promise_is_seen(config: Config, break_it: Callable[[Config], Any], fault: str) -> None:
    break_it(config)
    assert any(fault in one for one in faults(ray_up_checks(config)))


def test_the_token_reaches_workers_before_ray_starts(config: Config) -> None:
    head = config["head_start_ray_commands"]
    made = next(i for i, command in enumerate(head) if "get-auth-token --generate" in command)
    assert made < next(i for i, command in enumerate(head) if "ray start" in command)
    assert "~/.ray/auth_token" in config["cluster_synced_files"]


def test_every_node_installs_the_project_under_the_constraints(config: Config) -> None:
    types = config["available_node_types"]
    lists = [config["head_setup_commands"]]
    lists += [one["worker_setup_commands"] for name, one in types.items() if name != config["head_node_type"]]
    for commands in lists:
        assert any("-c ~/synthrec/constraints.txt" in one and "$HOME/synthrec" in one for one in commands)
    assert any("torch.cuda.is_available()" in one for one in types["gpu_worker"]["worker_setup_commands"])


def test_mounted_files_are_in_the_repository(config: Config) -> None:
    assert {"constraints.txt", "pyproject.toml"} <= set(config["file_mounts"].values())
    missing = [here for here in config["file_mounts"].values() if not (ROOT / here).exists()]
    assert missing == []


def test_commands_are_valid_shell(config: Config) -> None:
    for key, commands in command_lists(config):
        for command in commands:
            checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            assert checked.returncode == 0, f"{key}: {command}: {checked.stderr}"


def test_no_secret_is_in_the_file() -> None:
    found = SECRETS.search(FILE.read_text(encoding="utf-8"))
    assert found is None, "line with a secret: remove it, and revoke the secret"


@pytest.mark.parametrize(
    "line",
    [
        "AKIA" + "A2B4" * 4,
        "aws_secret_access_key: x",
        "export SYNTHREC_PRIVACY_KEY=0123",
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "HF_TOKEN: hf_x",
        "token " + "0f" * 32,
    ],
)
def test_a_secret_would_be_seen(line: str) -> None:
    assert SECRETS.search(line)


def test_instances_get_their_rights_from_profiles(config: Config) -> None:
    for node_type in config["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Name"]
        assert node_type["node_config"]["MetadataOptions"]["HttpTokens"] == "required"  # IMDSv2
