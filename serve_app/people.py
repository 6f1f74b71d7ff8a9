"""Shoppers, by the pseudonyms under which the run directory and the store know them."""

from __future__ import annotations

from collections.abc import Sequence

from synthrec.errors import UserError
from synthrec.privacy import USER, Pseudonymiser, load_key
from synthrec.sources.cleaning import clean
from synthrec.stores import Store

MARK = "privacy key"  # a note in the store that tells one key from another, and nothing of it


class People:
    """Args:
    hidden: kinds of personal data that `clean` replaces.
    key: the privacy key; by default this node's own, which is never made here: another one than the run was prepared
        with gives a shopper another pseudonym, so nobody would be recognised, and forgetting would find nobody.
    """

    def __init__(self, hidden: Sequence[str] = (), key: bytes | None = None) -> None:
        self._people = Pseudonymiser(load_key(make=False) if key is None else key, hidden)

    def clean(self, text: str) -> str:
        """A text of the catalogue, cleaned and without personal data."""
        return self._people.text(clean(text))[0]

    def shopper(self, user_id: str) -> str:
        """The pseudonym of a shop's own id; a pseudonym is its own."""
        return user_id if USER.fullmatch(user_id) else self._people.user(user_id)

    def agree(self, store: Store) -> None:
        """Raise UserError where the store's shoppers are known under another key."""
        mark = {"mark": self._people.user(MARK)}
        if not store.renote(MARK, None, mark) and store.noted(MARK) != mark:
            raise UserError(
                "the store's shoppers are known under another privacy key than this node's",
                "set SYNTHREC_PRIVACY_KEY to the run's on every node before Ray starts; or give another serve.store",
            )
