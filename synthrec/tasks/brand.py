"""A brand's profile from its products: what it is known for, and a sentence that a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import BrandTask
from synthrec.engines.base import Sampling
from synthrec.tasks.base import Ask, Rejection, Task, one_line, pick
from synthrec.tasks.profile import grounded, grounded_sentence
from synthrec.tasks.shop import Shop
from synthrec.tasks.typed import Typed, flat

KNOWN_FOR = Typed({"known_for": "strings"})
LONGEST = {"en": 100, "zh": 40}  # characters of one description that the prompt shows


class Brand(Task):
    name = "brand"
    kind = "brand"
    settings: BrandTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_brands

    def sampling(self, facet: str) -> Sampling:
        schema_ = KNOWN_FOR.schema if facet == "known_for" else None
        s = self.settings
        return Sampling(s.temperature, 0.9, s.max_tokens, ("\n",), schema_)

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        fields = schema.strings(record["fields"])
        ids = pick(self.seed, json.loads(fields["products"]), self.settings.products, record["doc_id"])
        products = [shop.products[p] for p in ids if p in shop.products]
        most = LONGEST.get(record["language"], 100)
        about = [f"{p['title']} ({one_line(p['description'] or '', most)})" for p in products]
        shown = {"brand": fields["brand"], "products": "; ".join(about), "categories": fields["categories"]}
        for facet in ("known_for", "sentence"):
            yield Ask([record["doc_id"], *ids], shown, facet=facet)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        source = f"{fields['products']} {fields['categories']}"
        who = {"brand": fields["brand"], "categories": fields["categories"]}
        if row["facet"] == "sentence":
            return grounded_sentence(row["text"], source, who, "not in its products")
        found = KNOWN_FOR.read(row["text"])
        if isinstance(found, Rejection):
            return found
        known_for = grounded(found["known_for"], source)
        if not known_for:
            return Rejection("not in its products", ", ".join(found["known_for"]))
        return {"text": ", ".join(known_for), "label": "known_for", "fields": who | flat({"known_for": known_for})}
