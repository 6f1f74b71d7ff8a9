"""What pseudonyms stand for, sealed value by value under a key derived from the privacy key.

Who a value's shopper is stands beside it in the open, as a pseudonym: a shopper can be forgotten without the key.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow.dataset as pads
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from synthrec import schema
from synthrec.errors import UserError
from synthrec.sealed import derived
from synthrec.storage import Folder


def rows(seen: dict[str, str], owner: str | None, key: bytes) -> list[dict[str, Any]]:
    """VAULT rows of one record's pseudonyms. AES-256-GCM; the pseudonym is authenticated with its value."""
    cipher = _cipher(key)
    made = []
    for pseudonym, value in seen.items():
        nonce = os.urandom(12)
        sealed = nonce + cipher.encrypt(nonce, value.encode("utf-8", "surrogatepass"), pseudonym.encode())
        made.append({"pseudonym": pseudonym, "user_id": owner, "value": sealed})
    return made


def reveal(vault: Folder, pseudonym: str, key: bytes) -> list[str]:
    """The values of a pseudonym, as the shop's texts spell them: 138-1234-5678 and 13812345678 share one.

    Raises:
        UserError: it is not in the vault, or the key is not the one that it was made with.
    """
    found = vault.read_table(schema.VAULT, ["value"], pads.field("pseudonym") == pseudonym)["value"].to_pylist()
    if not found:
        raise UserError(f"no {pseudonym} in {vault}", "is privacy.reversible set, and was prepare run with it?")
    try:
        opened = [_cipher(key).decrypt(one[:12], one[12:], pseudonym.encode()) for one in found]
    except InvalidTag:
        raise UserError(
            f"this privacy key does not open {vault}", "give the key that prepare was run with, in SYNTHREC_PRIVACY_KEY"
        ) from None
    return sorted({one.decode("utf-8", "surrogatepass") for one in opened})


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(derived(key, "vault of pseudonyms"))
