"""What a shopper who looks at a product would look at next: for cold products and new shoppers, before any behaviour.

The LLM only chooses: each product of a session stands in the catalogue. A title's score is how much likelier the first
product made it, so that short and common titles do not win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import SessionTask
from synthrec.tasks.base import Ask, Rejection, Task, chosen, one_line, pick
from synthrec.tasks.shop import Shop

SCORED = 48  # characters of a title that are scored; sizes and colours at its end say little


class Session(Task):
    name = "session"
    kind = "product"
    against_prior = True
    settings: SessionTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_products

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        own = shop.products.get(record["product_id"])
        if own is None:
            return
        near = [p for p in shop.nearest(own["text"], 4 * self.settings.candidates) if p != own["product_id"]]
        near = [p for p in near if shop.products[p]["language"] == own["language"]]
        titles: dict[str, str] = {}
        for product_id in [*near[: self.settings.candidates - 1], *self._far(own, shop)]:
            title = shop.products[product_id]["title"]
            word = one_line(title, SCORED)
            if word not in titles.values() and title != own["title"]:  # what reads the same cannot be told apart
                titles[product_id] = word
        if len(titles) > 1:
            fields = {"product": own["title"], "product_id": own["product_id"]}
            yield Ask([record["doc_id"], *titles], fields, options=titles)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        best = chosen(row, self.against_prior)
        order = sorted(range(len(best["scores"])), key=lambda i: -best["scores"][i])
        following = [row["labels"][i] for i in order[: self.settings.length]]
        made = {"session": json.dumps([fields["product_id"], *following])}
        return {"text": fields["product"], "product_id": fields["product_id"], **best, "fields": made}

    def _far(self, own: dict[str, Any], shop: Shop) -> list[str]:
        """A product of another category: if such ones win, the choice is no good."""
        others = [
            p["product_id"]
            for p in shop.products.values()
            if p["language"] == own["language"] and p["category"] != own["category"]
        ]
        return pick(self.seed, others, 1, own["product_id"])
