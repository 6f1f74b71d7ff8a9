"""Does a product fit a query? Scored for the query's own product and for its nearest rivals by BM25."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import RelevanceTask
from synthrec.tasks.base import Rejection, Shop, Task, chosen


class Relevance(Task):
    name = "relevance"
    reads = "queries"
    labels = ("relevant", "irrelevant")
    choices = {"en": (" yes", " no"), "zh": ("是", "否")}
    settings: RelevanceTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_queries

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[tuple[list[str], int, dict[str, str]]]:
        own = record["product_id"]
        rivals = [p for p in shop.nearest(record["text"], self.settings.candidates + 1) if p != own]
        for product_id in [own, *rivals[: self.settings.candidates]]:
            product = shop.products[product_id]
            card = " · ".join(p for p in (product["title"], product["category"]) if p)
            fields = {"query": record["text"], "product": card, "product_id": product_id, "own": str(product_id == own)}
            yield [record["id"], product_id], 0, fields

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        return {"text": fields["query"], "product_id": fields["product_id"], **chosen(self, row)}
