"""Which products a search may find: by category, brand, price, language, attributes and id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Filters:
    """Products that satisfy every field given; of a field with several values, any one of them.

    Attributes:
        price: least and most, both included; None is open. A product without a price never passes a price filter.
        attributes: name -> admitted values.
        exclude: product ids that are never found.
    """

    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    price: tuple[float | None, float | None] = (None, None)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
