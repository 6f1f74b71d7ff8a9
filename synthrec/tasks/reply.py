"""Customer-service replies: candidates written for a dialogue, and which past reply fits it best.

The reply that the agent really gave is among the past ones to choose from: how often it is chosen says how far the
choice can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from synthrec import schema
from synthrec.config import ReplyTask
from synthrec.engines.base import Sampling
from synthrec.retrieval.tokens import words
from synthrec.tasks.base import Ask, Rejection, Task, chosen, one_line, pick
from synthrec.tasks.shop import Shop

ROLES = {"en": {"shopper": "Shopper", "agent": "Agent"}, "zh": {"shopper": "顾客", "agent": "客服"}}
COLON = {"en": ": ", "zh": "："}
LONGEST = {"en": 240, "zh": 100}  # characters of one turn that the prompt shows
SCORED = {"en": 80, "zh": 32}  # characters of a past reply that are scored: its beginning says what it is about
SHORTEST = {"en": 5, "zh": 3}  # characters of a reply
OTHERS = 4  # times as many past replies to pick from as are offered


class Reply(Task):
    name = "reply"
    kind = "dialogue"
    against_prior = True
    settings: ReplyTask

    @property
    def limit(self) -> int | None:
        return self.settings.max_dialogues

    def sampling(self, facet: str) -> Sampling:
        return Sampling(temperature=self.settings.temperature, top_p=0.95, max_tokens=self.settings.max_tokens)

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        language = record["language"]
        turns = [line.partition(": ")[::2] for line in record["text"].split("\n")]
        for place, ((role, asked), (next_role, given)) in enumerate(pairwise(turns)):
            if role != "shopper" or next_role != "agent":
                continue
            fields = {
                "dialogue": _shown(turns[max(0, place + 1 - self.settings.turns) : place + 1], language),
                "asked": asked,
                "given": one_line(given, LONGEST[language]),
                "product_id": record["product_id"] or "",
            }
            source = [f"{record['doc_id']}#{place}"]
            for sample in range(self.settings.write):
                yield Ask(source, fields, sample, facet="write")
            options = self._options(fields["given"], asked, record, place, shop)
            if len(options) > 1:
                yield Ask(source, fields, facet="choose", options=options)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        kept = {"dialogue": fields["dialogue"], "given": fields["given"]}
        about = {"product_id": fields["product_id"] or None}
        if row["facet"] == "choose":
            best = chosen(row, self.against_prior)
            right = str(best["label"] == fields["given"]).lower()
            return {"text": fields["asked"], **about, **best, "fields": kept | {"is_the_given": right}}
        said = row["text"].strip()
        if len(said) < SHORTEST.get(row["language"], 5):
            return Rejection("too short", said)
        if words(said) == words(fields["asked"]):
            return Rejection("copy of the question", said)
        return {"text": said, **about, "label": "written", "fields": kept}

    def _options(self, given: str, asked: str, record: dict[str, Any], place: int, shop: Shop) -> dict[str, str]:
        """The reply given, and past ones from other dialogues near to the question."""
        count = self.settings.candidates
        if not count:
            return {}
        language = record["language"]
        near = shop.past_replies(asked, language, record["doc_id"], OTHERS * count)
        others = [
            one_line(one, LONGEST[language]) for one in pick(self.seed, near, count, record["doc_id"], str(place))
        ]
        offered = pick(self.seed, [given, *[one for one in others if one != given][: count - 1]], count, asked)
        options: dict[str, str] = {}
        for one in sorted(offered, key=lambda one: one != given):  # of two that begin alike, the one given stays
            word = one_line(one, SCORED[language])
            if word not in options.values():
                options[one] = word
        return {one: options[one] for one in offered if one in options}


def _shown(turns: list[tuple[str, str]], language: str) -> str:
    roles, colon = ROLES[language], COLON[language]
    return "\n".join(f"{roles.get(role, role)}{colon}{one_line(said, LONGEST[language])}" for role, said in turns)
