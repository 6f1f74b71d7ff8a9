"""What the endpoint keeps between requests: events, products changed since the bundle, feedback.

Users are known by whatever the caller gives: the endpoint gives pseudonyms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from synthrec.errors import UserError

Row = dict[str, Any]  # what JSON can hold


LATELY = 100_000  # events that popularity is counted from: it follows the season, and its cost is bounded
WEIGHTS = {"view": 1.0, "cart": 3.0, "purchase": 5.0}  # of the usual kinds of event


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
        revision: its number; every put or deletion of a product has one of its own, higher than all before.
        product: None where it was deleted.
    """

    revision: int
    product_id: str
    product: Row | None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(event: Event) -> int:
    """When it was, in microseconds since 1970. Raises StoreError for a time without zone or beyond UTC."""
    if event.at.tzinfo is None:
        raise StoreError(f"event {event.event_id}: its time {event.at} has no zone", "give one, as in 09:30:00Z")
    try:
        event.at.astimezone(UTC)
    except OverflowError:
        raise StoreError(f"event {event.event_id}: its time {event.at} is none in UTC", "give another") from None
    return (event.at - _EPOCH) // timedelta(microseconds=1)


def instant(micros: int) -> datetime:
    """The time that `micros` numbers, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def packed(row: Row) -> str:
    """A row as JSON. Raises StoreError where JSON cannot hold it."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"a row cannot be kept as JSON: {error}", "give numbers, texts, lists and dicts") from None


def products_packed(products: Iterable[Row]) -> list[tuple[str, str]]:
    """(product_id, JSON) of each. Raises StoreError where one has no id."""
    out = []
    for row in products:
        if not isinstance(row.get("product_id"), str):
            raise StoreError(f"a product has no product_id: {sorted(row)}", "give each product its id, a text")
        out.append((row["product_id"], packed(row)))
    return out


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
        """Add or replace products, each a dict with its `product_id`; the revision that holds them all."""
        ...

    def delete_products(self, product_ids: Sequence[str]) -> int:
        """Delete products, those of the bundle, too; the revision that holds that."""
        ...

    def changes(self, after: int, limit: int) -> list[Change]:
        """Products whose latest state came after a revision, ascending, at most `limit`."""
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

    def users(self) -> list[str]:
        """Every shopper of whom there is an event or feedback."""
        ...

    def popular(self, limit: int) -> list[tuple[str, float]]:
        """Products by the weight of the latest events with them, greatest first, and that weight."""
        ...

    def note(self, name: str, row: Row) -> None:
        """Keep a small document that all replicas share, in place of the one of this name."""
        ...

    def renote(self, name: str, before: Row | None, row: Row) -> bool:
        """The same, if what is there is still `before`, as `noted` gave it; whether it was, and `row` is kept."""
        ...

    def noted(self, name: str) -> Row | None:
        """The document of this name."""
        ...

    def forget(self, user_id: str) -> int:
        """Erase a shopper's events and feedback; how many rows."""
        ...

    def close(self) -> None: ...
