"""The key of pseudonyms: where it is found, how it is made, what is no key."""

from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synthrec.errors import UserError
from synthrec.privacy import load_key


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SYNTHREC_PRIVACY_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_key_file_is_made_once_and_private(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        key = load_key()
    path = home / "synthrec" / "privacy.key"
    assert len(key) == 32
    assert bytes.fromhex(path.read_text()) == key == load_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["privacy.key"]
    assert key.hex() not in caplog.text


def test_key_file_elsewhere(home: Path) -> None:
    path = home / "other" / "key"
    assert load_key(path) == load_key(path) != load_key()


def test_key_home_without_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    key = load_key()
    assert (home / ".config" / "synthrec" / "privacy.key").read_text().strip() == key.hex()


def test_open_key_file_is_warned_about(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_key(home / "key")
    (home / "key").chmod(0o644)
    load_key(home / "key")
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("given", "key"),
    [("ab" * 32, bytes.fromhex("ab" * 32)), ("correct horse battery", b"correct horse battery"), ("a" * 16, b"a" * 16)],
)
def test_key_from_environment(home: Path, monkeypatch: pytest.MonkeyPatch, given: str, key: bytes) -> None:
    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", given)
    assert load_key() == key
    assert not (home / "synthrec").exists()


@pytest.mark.parametrize("given", ["", "s3cr3t", " " * 20], ids=["empty", "short", "blank"])
def test_bad_key(home: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    (home / "key").write_text(given)
    with pytest.raises(ValueError, match="16 or more") as from_file:
        load_key(home / "key")
    monkeypatch.setenv("SYNTHREC_PRIVACY_KEY", given)
    with pytest.raises(ValueError, match="SYNTHREC_PRIVACY_KEY") as from_environment:
        load_key()
    for caught in (from_file, from_environment):
        assert isinstance(caught.value, UserError)
        assert "s3cr3t" not in str(caught.value)


def test_key_race(home: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(load_key, [home / "race" / "key"] * 200))
    assert len(keys) == 1
    assert [file.name for file in (home / "race").iterdir()] == ["key"]
