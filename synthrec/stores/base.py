"""What the endpoint keeps between requests: events, products changed since the bundle, feedback.

Users are known by the shop's own ids here, as the API receives them, not by pseudonyms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from synthrec.errors import UserError

Row = dict[str, Any]  # what JSON can hold


class StoreError(UserError):
    """The store cannot do what was asked: what and where, and how to mend it. Nothing of the call was kept."""


@dataclass(frozen=True)
class Event:
    """What a shopper did with a product.

    Attributes:
        event_id: the sender's own; the same event sent twice is kept once.
        kind: view, cart, purchase, or whatever the API admits.
        at: when, with a time zone.
        weight: how much it tells of the shopper's taste.
    """

    event_id: str
    user_id: str
    product_id: str
    kind: str
    at: datetime
    weight: float = 1.0


@dataclass(frozen=True)
class Change:
    """The latest state of a product that was put or deleted.

    Attributes:
        revision: of the call that made it so; several products of one call share theirs.
        product: None where it was deleted.
    """

    revision: int
    product_id: str
    product: Row | None


class Store(Protocol):
    """Every method that writes returns when what it was given would survive a crash of process and machine.

    All raise StoreError. Safe to use from several threads, and by several processes at once.
    """

    def add_events(self, events: Sequence[Event]) -> int:
        """Keep events; how many were new. One whose event_id is known already is left as it was."""
        ...

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The shopper's latest `limit` events, oldest first; of one instant, in the order in which they came."""
        ...

    def put_products(self, products: Sequence[Row]) -> int:
        """Add or replace products, each a dict with its `product_id`; the revision that holds them."""
        ...

    def delete_products(self, product_ids: Sequence[str]) -> int:
        """Delete products, those of the bundle, too; the revision that holds that."""
        ...

    def changes(self, after: int, limit: int) -> list[Change]:
        """Products whose latest state came after a revision, by revision and id. At least `limit`, where there are
        so many: a revision comes whole, so that the last one's number is where to go on.
        """
        ...

    def revision(self) -> int:
        """Of the latest change; 0 where there was none."""
        ...

    def add_feedback(self, rows: Sequence[Row]) -> int:
        """Keep what shoppers or staff said of results; how many. A row may name its `user_id`."""
        ...

    def feedback(self, after: int, limit: int) -> list[tuple[int, Row]]:
        """Feedback after a number, oldest first, each with its number."""
        ...

    def forget(self, user_id: str) -> int:
        """Erase a shopper's events and feedback; how many rows."""
        ...

    def close(self) -> None: ...
