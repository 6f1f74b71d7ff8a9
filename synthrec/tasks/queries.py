"""Shopper queries from products: what someone types who wants this product for one of its qualities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import QueriesTask
from synthrec.engines.base import Sampling
from synthrec.tasks.base import Ask, Rejection, Task
from synthrec.tasks.shop import Shop

CLAUSE = {"en": re.compile(r"[.;!?]\s+|\.$"), "zh": re.compile(r"[。；！？，]")}
SHORTEST_CLAUSE = {"en": 15, "zh": 5}
LONGEST_CLAUSE = 120


class Queries(Task):
    """Each sample is asked for by another aspect (an attribute, or a clause of the description), which spreads the
    queries over what the product is good for; a small model left to itself repeats the title."""

    name = "queries"
    kind = "product"
    settings: QueriesTask

    def sampling(self, facet: str) -> Sampling:
        # A query has no punctuation; a small model that goes on after a comma rambles.
        stop = ("\n", ", ", "; ", ". ", "，", "。", "；", "、", "！", "？", " (", "（")
        s = self.settings
        return Sampling(temperature=s.temperature, top_p=s.top_p, max_tokens=s.max_tokens, stop=stop)

    @property
    def limit(self) -> int | None:
        return self.settings.max_products

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        fields = schema.strings(record["fields"])
        asked = aspects(record["language"], fields)
        asked.sort(key=lambda aspect: schema.row_id(self.seed, record["product_id"], aspect))
        for sample, aspect in enumerate(asked[: self.settings.per_product]):
            shown = {"product_id": record["product_id"], "product": fields["title"], "aspect": aspect}
            yield Ask([record["doc_id"]], shown, sample)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        text = row["text"].strip().strip("\"'“”‘’ .")
        if not text:
            return Rejection("empty answer")
        fields = schema.strings(row["fields"])
        return {"text": text, "product_id": fields["product_id"], "label": fields["aspect"]}


def aspects(language: str, fields: dict[str, str]) -> list[str]:
    """What may matter to a shopper: each attribute and clause of the description; the category if there is neither."""
    tongue = language if language in CLAUSE else "en"
    colon = "：" if tongue == "zh" else ": "
    found = [a.replace(": ", colon, 1) for a in fields.get("attributes", "").split("; ") if a]
    clauses = [c.strip(" .。") for c in CLAUSE[tongue].split(fields.get("description", ""))]
    found += [c[:LONGEST_CLAUSE] for c in clauses if len(c) >= SHORTEST_CLAUSE[tongue]]
    return list(dict.fromkeys(found)) or [fields.get("category") or fields["title"]]
