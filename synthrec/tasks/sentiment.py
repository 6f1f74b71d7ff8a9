"""Review sentiment: is the shopper satisfied? Scored by the label's token, not written out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import SentimentTask
from synthrec.tasks.base import Rejection, Shop, Task, chosen

LONGEST = {"en": 600, "zh": 250}  # characters of a review that the prompt shows


class Sentiment(Task):
    name = "sentiment"
    kind = "review"
    labels = ("positive", "negative")
    choices = {"en": (" good", " bad"), "zh": ("好", "差")}
    settings: SentimentTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_reviews

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[tuple[list[str], int, dict[str, str]]]:
        text = record["text"].replace("\n", " ")[: LONGEST.get(record["language"], 600)]
        yield [record["doc_id"]], 0, {"text": text, "product_id": record["product_id"], "review": record["doc_id"]}

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        return {"text": fields["text"], "product_id": fields["product_id"], **chosen(self, row)}
