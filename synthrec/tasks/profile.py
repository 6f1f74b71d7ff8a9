"""A shopper's profile: preferences that a recommender can use, and a sentence that a person can read.

Both are held against the shopper's own history: a preference of which nothing stands there is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from synthrec import schema
from synthrec.config import ProfileTask
from synthrec.engines.base import Sampling
from synthrec.retrieval.tokens import words
from synthrec.tasks.base import Ask, Rejection, Task, one_line
from synthrec.tasks.shop import Shop
from synthrec.tasks.typed import Typed, flat

PREFERENCES = Typed({"likes": "strings"})
LISTED = re.compile(r"[,，、;；]")
NOTHING = {"en": "nothing yet", "zh": "暂无"}
LONGEST = {"en": 160, "zh": 60}  # characters of one review that the prompt shows


class Profile(Task):
    name = "profile"
    kind = "shopper"
    settings: ProfileTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_shoppers

    def sampling(self, facet: str) -> Sampling:
        schema_ = PREFERENCES.schema if facet == "preferences" else None
        s = self.settings
        return Sampling(s.temperature, 0.9, s.max_tokens, ("\n",), schema_)

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        if record["user_id"] is None:  # one search of nobody in particular
            return
        language = record["language"]
        shown = _history(schema.strings(record["fields"]), language, shop, self.settings.events)
        if not any(shown.values()):
            return
        nothing = NOTHING[language]
        fields = {key: value or nothing for key, value in shown.items()} | {"user_id": record["user_id"]}
        for facet in ("preferences", "sentence"):
            yield Ask([record["doc_id"]], fields, facet=facet)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        shown = (fields[key] for key in ("searches", "bought", "says"))
        history = " ".join(one for one in shown if one not in NOTHING.values())
        who = {"user_id": fields["user_id"]}
        if row["facet"] == "sentence":
            return grounded_sentence(row["text"], history, who)
        found = PREFERENCES.read(row["text"])
        if isinstance(found, Rejection):
            return found
        likes = grounded(found["likes"], history)
        if not likes:
            return Rejection("not in the history", ", ".join(found["likes"]))
        return {"text": ", ".join(likes), "label": "preferences", "fields": who | flat({"likes": likes})}


def _history(fields: dict[str, str], language: str, shop: Shop, most: int) -> dict[str, str]:
    """What the prompt shows of a shopper: the latest searches, purchases by title, and words of reviews."""
    searches = [query for _, query in json.loads(fields["searches"])]
    bought = [shop.products[p]["title"] for p in json.loads(fields["purchases"]) if p in shop.products]
    says = [one_line(text, LONGEST[language]) for _, _, text in json.loads(fields["reviews"])]
    return {
        "searches": "; ".join(searches[-most:]),
        "bought": "; ".join(bought[-most:]),
        "says": " / ".join(says[-2:]),
    }


def grounded(values: list[str], text: str) -> list[str]:
    """The values that share a word with a text, each once; one that is a list in itself is taken apart."""
    known = set(words(text))
    values = [part.strip(" .。") for value in values for part in LISTED.split(value)]
    return list(dict.fromkeys(value for value in values if known & set(words(value))))


def grounded_sentence(
    text: str, source: str, fields: dict[str, str], otherwise: str = "not in the history"
) -> dict[str, Any] | Rejection:
    """A LABEL row of a sentence about a source, or why there is none."""
    said = text.strip()
    if len(words(said)) < 3:
        return Rejection("too short", said)
    if not grounded([said], source):
        return Rejection(otherwise, said)
    return {"text": said, "label": "sentence", "fields": fields}
