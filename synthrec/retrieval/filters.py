"""Which products a search may find: by category, brand, price, language, attributes and id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

    def admit(self, product: Mapping[str, Any]) -> bool:
        """Whether one product, a row of the catalogue, passes: for ranks that another than the index made."""
        least, most = self.price
        price, attributes = product["price"], dict(product["attributes"] or ())
        if (least is not None or most is not None) and price is None:
            return False
        return (
            product["product_id"] not in self.exclude
            and all(
                not wanted or product[name] in wanted
                for name, wanted in (("category", self.category), ("brand", self.brand), ("language", self.language))
            )
            and (least is None or price >= least)
            and (most is None or price <= most)
            and all(attributes.get(name) in wanted for name, wanted in self.attributes.items())
        )
