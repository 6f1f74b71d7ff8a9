"""How well does a product fit a query? Scored for the query's own product and for rivals.

The four grades are those of shopping-query judgments: E exact, S substitute, C complement, I irrelevant (Reddy et al.
2022, ESCI). Rivals come first from where retrievers disagree, which is where a judgment tells most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import RelevanceTask
from synthrec.tasks.base import Ask, Rejection, Task, chosen
from synthrec.tasks.shop import Shop

WORDS = {
    "en": {"E": "exact", "S": "similar", "C": "accessory", "I": "unrelated"},
    "zh": {"E": "符合", "S": "相近", "C": "配套", "I": "无关"},
}


class Relevance(Task):
    name = "relevance"
    version = 2
    reads = "queries"
    settings: RelevanceTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_queries

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        own = record["product_id"]
        rivals = [p for p in shop.pooled(record["text"], self.settings.pool) if p != own]
        for product_id in [own, *rivals[: self.settings.candidates]]:
            product = shop.products[product_id]
            card = " · ".join(p for p in (product["title"], product["category"]) if p)
            fields = {"query": record["text"], "product": card, "product_id": product_id, "own": str(product_id == own)}
            yield Ask([record["id"], f"product:{product_id}"], fields, options=WORDS[record["language"]])

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        return {"text": fields["query"], "product_id": fields["product_id"], **chosen(row)}


def relevant(scores: list[float]) -> float:
    """Probability that the product answers the query: exact or a substitute."""
    return scores[0] + scores[1]
