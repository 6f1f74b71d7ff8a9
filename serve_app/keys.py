"""API keys: who may do what. The file holds hashes; it is read again when it changes, so rotation needs no restart.

A key is `sr_ID_SECRET`; the id finds its entry, the secret is 256 random bits. Hence one HMAC-SHA-256 with a salt, and
not bcrypt: slow hashes are for passwords, which can be guessed; nobody guesses 256 bits, and every request pays.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from synthrec.errors import UserError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_KEY = re.compile(r"sr_([0-9a-f]{12})_([0-9A-Za-z_-]{43})")

log = logging.getLogger("synthrec.serve")


@dataclass(frozen=True)
class Key:
    """An entry of the file.

    Attributes:
        rate: requests a second that it may make of a replica; None: as the config has it.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    salt: str
    digest: str
    made: str
    rate: float | None = None
    revoked: str | None = None


NOBODY = Key("0" * 12, "", (), "00", "00" * 32, "")  # compared where no entry is, so that both cost the same


def new(name: str, scopes: Iterable[Scope], rate: float | None = None) -> tuple[Key, str]:
    """An entry, and the key itself, which is told this once."""
    ident, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Key(ident, name, tuple(scopes), salt, _digest(salt, secret), made, rate), f"sr_{ident}_{secret}"


def _digest(salt: str, secret: str) -> str:
    return hmac.digest(bytes.fromhex(salt), secret.encode(), "sha256").hex()


class Keyring:
    """The key file, as it is now.

    Raises:
        UserError: there is no such file, others may read it, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _state(path)  # before it is read: what changes meanwhile is read again
        self._keys = {key.id: key for key in read(path)}

    def holder(self, text: str) -> Key | None:
        """The entry of a key that is presented, if it is one of ours and not revoked."""
        self._refresh()
        match = _KEY.fullmatch(text)
        entry = self._keys.get(match[1], NOBODY) if match else NOBODY
        right = hmac.compare_digest(_digest(entry.salt, match[2] if match else ""), entry.digest)
        return entry if right and entry.revoked is None else None

    def _refresh(self) -> None:
        seen = _state(self.path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._keys = {key.id: key for key in read(self.path)}
            log.info("keys read again", extra={"facts": {"keys": len(self._keys)}})
        except UserError as error:  # fail closed: better nobody than whoever was let in before
            self._keys = {}
            log.error("no key is accepted", extra={"facts": {"why": error.problem}})


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def read(path: Path) -> list[Key]:
    """Entries of a key file. Raises UserError as `Keyring` does."""
    try:
        if path.stat().st_mode & 0o077:
            raise UserError(f"the key file {path} is open to other users", f"run chmod 600 {path}")
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Key(**(row | {"scopes": tuple(row["scopes"])})) for row in rows]
    except OSError as error:
        raise UserError(f"cannot read the key file {path}: {error.strerror}", "make one: synthrec keys add") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"the key file {path} is damaged", "restore it, or delete it and add keys again") from None


def write(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file in one step, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # 0600 by its contract
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump([asdict(key) for key in keys], file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def add(path: Path, name: str, scopes: Iterable[Scope], rate: float | None = None) -> str:
    """Add a key to the file, made where there is none; returns the key."""
    entry, text = new(name, scopes, rate)
    with _alone(path):
        write(path, [*(read(path) if path.exists() else []), entry])
    return text


def revoke(path: Path, ident: str) -> Key:
    """Revoke by id; the entry stays, for the record. Raises UserError where there is no such key."""
    with _alone(path):
        keys = {key.id: key for key in read(path)}
        if ident not in keys:
            raise UserError(f"no key {ident} in {path}", "`synthrec keys list` shows them")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        keys[ident] = replace(keys[ident], revoked=keys[ident].revoked or now)
        write(path, keys.values())
    return keys[ident]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One that reads and writes the file at a time, or a key that is added would bring back one that is revoked."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
