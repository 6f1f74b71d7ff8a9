"""Replace personal data by pseudonyms: the same value and key always give the same one, and only the key gives it."""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from synthrec.errors import UserError
from synthrec.privacy.recognisers import KINDS, check_kinds, find

KEY_VARIABLE = "SYNTHREC_PRIVACY_KEY"

# People break these up as they like; 138-1234-5678 and 13812345678 are one phone.
_NUMBERS = frozenset({"phone", "resident_id", "bank_card", "order_no", "passport", "iban", "plate"})

log = logging.getLogger(__name__)


People = Callable[[Sequence[str]], list[list[tuple[int, int]]]]


class PrivacyKeyError(UserError, ValueError):
    """The privacy key cannot be used. Says where it came from, never what it is."""


USER = re.compile("u_[0-9a-f]{16}")  # what `Pseudonymiser.user` gives


class Pseudonymiser:
    """Pseudonyms under one key.

    Args:
        key: the secret; see `load_key`.
        kinds: the kinds of personal data to replace, from `KINDS`.
        remember: keep what each pseudonym stands for in `seen`, for the vault.
        people: finds names in many texts at once (see `ner`); the rules for names are used all the same.

    Raises:
        ValueError: the key is empty or a kind unknown.
    """

    def __init__(
        self, key: bytes, kinds: Sequence[str] = KINDS, remember: bool = False, people: People | None = None
    ) -> None:
        if not key:
            raise PrivacyKeyError("the privacy key is empty", "get one from load_key()")
        check_kinds(kinds)
        self._key = key
        self.kinds = tuple(kinds)
        self.seen: dict[str, str] | None = {} if remember else None
        self._people = people
        self._ahead: dict[str, list[tuple[int, int]]] = {}

    def __repr__(self) -> str:  # the key must not reach a log
        return f"Pseudonymiser(kinds={self.kinds!r})"

    def text(self, text: str) -> tuple[str, dict[str, int]]:
        """Replace personal data by `<KIND_xxxxxxxx>`. Doing it twice changes nothing more.

        Args:
            text: any string.

        Returns:
            The new text, and how many finds of each kind were replaced (kinds without a find are left out).
        """
        spans = find(text, self.kinds, self._named(text))
        if not spans:
            return text, {}
        parts, at = [], 0
        for span in spans:
            digest = self._digest(span.kind, _normalise(span.kind, span.text))
            parts += [text[at : span.start], self._noted(f"<{span.kind.upper()}_{digest[:8]}>", span.text)]
            at = span.end
        return "".join((*parts, text[at:])), dict(Counter(span.kind for span in spans))

    def look_ahead(self, texts: Iterable[str]) -> None:
        """Have the model of names read texts that `text` will soon be given: it reads many at once much faster."""
        if self._people:
            once = list(dict.fromkeys(texts))
            self._ahead = dict(zip(once, self._people(once), strict=True))

    def _named(self, text: str) -> list[tuple[int, int]]:
        if self._people is None or not text:
            return []
        return self._ahead[text] if text in self._ahead else self._people([text])[0]

    def user(self, user_id: str) -> str:
        """The pseudonym `u_` + 16 hex digits of a user id, which is taken as it is, letter case included."""
        return self._noted(f"u_{self._digest('user', user_id)[:16]}", user_id)

    def _noted(self, pseudonym: str, value: str) -> str:
        if self.seen is not None:
            self.seen[pseudonym] = value
        return pseudonym

    def _digest(self, kind: str, value: str) -> str:
        # surrogatepass: a lone surrogate from a broken export is no reason to fail.
        return hmac.digest(self._key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), "sha256").hex()


def _normalise(kind: str, value: str) -> str:
    value = unicodedata.normalize("NFKC", value).casefold()
    return "".join(char for char in value if char.isalnum() or char == "+") if kind in _NUMBERS else value


def load_key(path: Path | None = None, make: bool = True) -> bytes:
    """The privacy key: from the environment variable SYNTHREC_PRIVACY_KEY if set, else from the key file.

    The key file is made, with a random key and readable by its owner only, if it is missing. Whoever has the key can
    tell which pseudonym a known phone number has: keep it apart from the data, and keep it, since pseudonyms made under
    another key do not match.

    Args:
        path: the key file; by default `synthrec/privacy.key` in XDG_CONFIG_HOME or `~/.config`.
        make: whether to make a missing one; where pseudonyms are to match those of before, it must not be.

    Returns:
        The key: the bytes that 32 or more hex digits spell, or any other string's UTF-8 bytes.

    Raises:
        ValueError: the key is shorter than 16 characters, or there is none.
        OSError: the key file can be neither read nor made.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        return _parse(given, f"the environment variable {KEY_VARIABLE}")
    path = path or _default_path()
    if not path.exists():
        if not make:
            raise PrivacyKeyError(
                f"there is no privacy key here: neither {KEY_VARIABLE} nor {path}",
                f"set {KEY_VARIABLE} to the one that the run was prepared with",
            )
        _create(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("the privacy key file %s is open to other users; run chmod 600 on it", path)
    return _parse(path.read_text(encoding="utf-8"), f"the key file {path}")


def _parse(text: str, source: str) -> bytes:
    text = text.strip()
    if len(text) < 16:
        raise PrivacyKeyError(f"{source} holds no key of 16 or more characters", "make one: openssl rand -hex 32")
    if len(text) % 2 == 0 and re.fullmatch("[0-9A-Fa-f]{32,}", text):
        return bytes.fromhex(text)
    return text.encode("utf-8", "surrogateescape")


def _default_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG standard: a relative path there is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "synthrec" / "privacy.key"


def _create(path: Path) -> None:
    """Make the key file. Of several processes at once one wins, and none ever sees it half written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".privacy-key-")  # O_EXCL and 0600 by its contract
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32) + "\n")
        os.link(draft, path)  # unlike a rename, fails if the file is there
        log.info("made the privacy key file %s", path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
