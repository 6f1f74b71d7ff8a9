"""Review sentiment: is the shopper satisfied, and what is it about? Scored by the label's words, not written out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import SentimentTask
from synthrec.tasks.base import Ask, Rejection, Task, chosen
from synthrec.tasks.shop import Shop

LONGEST = {"en": 600, "zh": 250}  # characters of a review that the prompt shows
WORDS = {"en": {"positive": "good", "negative": "bad"}, "zh": {"positive": "好", "negative": "差"}}
ASPECTS = {
    "en": {k: k for k in ("quality", "price", "delivery", "service", "fit")},
    "zh": {"quality": "质量", "price": "价格", "delivery": "物流", "service": "服务", "fit": "尺寸"},
}


class Sentiment(Task):
    name = "sentiment"
    version = 2
    kind = "review"
    settings: SentimentTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_reviews

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        language = record["language"]
        text = record["text"].replace("\n", " ")[: LONGEST.get(language, 600)]
        fields = {"text": text, "product_id": record["product_id"], "review": record["doc_id"]}
        yield Ask([record["doc_id"]], fields, options=WORDS[language])
        if self.settings.aspects:
            yield Ask([record["doc_id"]], fields, facet="aspect", options=ASPECTS[language])

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        return {"text": fields["text"], "product_id": fields["product_id"], **chosen(row)}
