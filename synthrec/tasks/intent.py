"""What a search wants: which category, which attribute matters, how near to buying the shopper is. Scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import IntentTask
from synthrec.tasks.base import Ask, Rejection, Task, chosen, pick
from synthrec.tasks.shop import Shop

STAGES = {
    "en": {"explore": "looking", "compare": "comparing", "buy": "buying"},
    "zh": {"explore": "逛逛", "compare": "比较", "buy": "购买"},
}
NONE = {"en": "none", "zh": "无所谓"}
NEAR = 20  # products whose categories and attributes are offered


class Intent(Task):
    """Reads a shopper's search history: each search is asked about with those before it in sight."""

    name = "intent"
    kind = "shopper"
    settings: IntentTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_shoppers

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        language = record["language"]
        searches: list[list[str]] = json.loads(schema.strings(record["fields"])["searches"])
        for place, (doc_id, query) in enumerate(searches):
            before = [text for _, text in searches[max(0, place - self.settings.history) : place]]
            fields = {"query": query, "before": "; ".join(before) or NONE[language]}
            categories, attributes = self._offered(query, language, shop)
            yield Ask([doc_id], fields, facet="stage", options=STAGES[language])
            if len(categories) > 1:
                yield Ask([doc_id], fields, facet="category", options={one: one for one in categories})
            if attributes:
                yield Ask([doc_id], fields, facet="attribute", options=attributes)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        # Categories and attributes differ in length and commonness: what counts is how the search moves them.
        by_prior = row["facet"] != "stage"
        return {"text": schema.strings(row["fields"])["query"], "product_id": None, **chosen(row, by_prior)}

    def _offered(self, query: str, language: str, shop: Shop) -> tuple[list[str], dict[str, str]]:
        """Categories and attributes (label -> word) of the products near the query, nearest first."""
        most = self.settings.candidates
        near = [shop.products[p] for p in shop.nearest(query, NEAR)]
        near = [product for product in near if product["language"] == language]
        categories = list(dict.fromkeys(p["category"] for p in near if p["category"]))[:most]
        if len(categories) < most:
            rest = [p["category"] for p in shop.products.values() if p["language"] == language and p["category"]]
            others = [one for one in pick(self.seed, rest, most, query) if one not in categories]
            categories += others[: most - len(categories)]
        keys = list(dict.fromkeys(key for p in near for key in schema.strings(p["attributes"])))[:most]
        return categories, ({key: key for key in keys} | {"none": NONE[language]} if keys else {})
