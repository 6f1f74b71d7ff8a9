"""A checked record -> its rows of the catalogue, the corpus and the interactions: clean, and pseudonymised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from synthrec.privacy import Pseudonymiser
from synthrec.sources import records
from synthrec.sources.cleaning import clean, language, product_text

Row = tuple[str, dict[str, Any]]  # the table's name, the row


def rows(record: records.Record, hide: Pseudonymiser, personal: Counter[str], products: bool = True) -> Iterator[Row]:
    """What one record adds to the tables. Finds of personal data are counted into `personal`, by kind.

    A product stands in the catalogue and in the corpus.

    Args:
        products: hide in product texts, too.
    """
    veil = _Veil(hide, personal)
    match record:
        case records.Product():
            product = product_row(record, veil.text if products else clean)
            yield "catalogue", product
            yield "corpus", _document("product", record.product_id, product, _named(product))
        case records.Review():
            fields = {"rating": str(record.rating)} if record.rating else {}
            yield "corpus", _written("review", record.review_id, record, veil.text(record.text), fields, veil)
        case records.Search():
            fields = {"clicks": "|".join(record.clicks)}
            yield "corpus", _written("search", record.search_id, record, veil.text(record.query), fields, veil)
        case records.Dialogue():
            body = "\n".join(f"{turn.role}: {veil.text(turn.text)}" for turn in record.turns)
            yield "corpus", _written("dialogue", record.dialogue_id, record, body, {}, veil)
        case records.Interaction():
            seen = {"user_id": hide.user(record.user_id), "product_id": record.product_id}
            yield "interactions", seen | {"event": record.event, "timestamp": record.timestamp}
        case _:
            raise TypeError(type(record))


@dataclass(frozen=True)
class _Veil:
    """Cleans a text and hides the personal data in it, counting what it hid."""

    hide: Pseudonymiser
    personal: Counter[str]

    def text(self, value: str) -> str:
        hidden, counts = self.hide.text(clean(value))
        self.personal.update(counts)
        return hidden


def product_row(record: records.Product, told: Callable[[str], str] = clean) -> dict[str, Any]:
    """A CATALOGUE row; `told` cleans a text, and hides what must be hidden."""
    named = {
        key: told(value) for key in ("title", "description", "brand", "category") if (value := getattr(record, key))
    }
    attributes = {told(k): told(v) for k, v in record.attributes.items()}
    whole = product_text(record.model_copy(update=named | {"attributes": attributes}))
    return {
        "product_id": record.product_id,
        "language": record.language or language(whole),
        "title": named["title"],
        "description": named.get("description", ""),
        "brand": named.get("brand"),
        "category": named.get("category"),
        "attributes": attributes,
        "price": record.price,
        "text": whole,
    }


def _named(product: dict[str, Any]) -> dict[str, str]:
    """What prompts may name of a product."""
    fields = {k: product[k] for k in ("title", "description", "brand", "category") if product[k]}
    return fields | {"attributes": "; ".join(f"{k}: {v}" for k, v in product["attributes"].items())}


def _written(kind: str, source: str, record: Any, body: str, fields: dict[str, str], veil: _Veil) -> dict[str, Any]:
    """A document that a shopper wrote, or had a part in."""
    said = body if kind != "dialogue" else " ".join(turn.text for turn in record.turns)
    made = {
        "language": record.language or language(said),
        "text": body,
        "product_id": getattr(record, "product_id", None),
        "user_id": veil.hide.user(record.user_id) if record.user_id else None,
        "timestamp": record.timestamp,
    }
    return _document(kind, source, made, fields)


def _document(kind: str, source: str, made: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    kept = {k: made.get(k) for k in ("language", "text", "product_id", "user_id", "timestamp")}
    return {"doc_id": f"{kind}:{source}", "kind": kind, "fields": fields, **kept}
