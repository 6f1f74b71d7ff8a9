"""What a synthesis task is: which records it reads, what it asks, what the answer means. No engines here, no Ray."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any, ClassVar

from synthrec import schema
from synthrec.engines.base import Sampling
from synthrec.retrieval.bm25 import BM25
from synthrec.storage import Folder


@dataclass(frozen=True)
class Rejection:
    """Why an answer gives no label: `reason` is a class to count by, `detail` this row's particulars."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Shop:
    """What a task may look up while it builds requests, beside the record in hand."""

    catalogue: Folder

    @cached_property
    def products(self) -> dict[str, dict[str, Any]]:
        rows = self.catalogue.read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
        return {row["product_id"]: row for row in rows}

    @cached_property
    def _index(self) -> tuple[list[str], BM25]:
        return list(self.products), BM25.build([row["text"] for row in self.products.values()])

    def nearest(self, query: str, count: int) -> list[str]:
        """Ids of the products nearest to a query by BM25, best first."""
        ids, index = self._index
        return [ids[i] for i in index.top(query, count)]


@dataclass(frozen=True)
class Task:
    """A synthesis task. Subclasses are one file each.

    A task that generates has `sampling`; one that chooses has `labels` and, for each language, `choices`, the words
    that stand for the labels, in the same order and with the space that precedes them in the prompt.
    """

    settings: Any
    seed: int = 13

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[str] = "corpus"  # "corpus", or the name of the task whose labels it reads
    kind: ClassVar[str] = ""  # of corpus document
    labels: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}
    templates: dict[str, str] = field(default_factory=dict)

    @property
    def chooses(self) -> bool:
        return bool(self.labels)

    @property
    def sampling(self) -> Sampling:
        return Sampling()

    @property
    def limit(self) -> int | None:
        """At most so many records are asked about, picked by a hash of their id; None: all."""
        return None

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[tuple[list[str], int, dict[str, str]]]:
        """Source ids, sample number and the prompt's fields of each request that a record gives rise to."""
        raise AssertionError(f"task {self.name} builds no requests")

    def render(self, language: str, fields: dict[str, str]) -> str:
        """The prompt: the template's {blanks} filled from fields, in one pass, so that a field cannot open another."""
        text = self.template(language)
        for_blank = {f"{{{key}}}": value for key, value in fields.items()}
        head, *rest = text.split("{")
        parts = [head]
        for piece in rest:
            blank, brace, tail = piece.partition("}")
            parts.append(for_blank.get(f"{{{blank}}}", "{" + blank + brace) + tail)
        return "".join(parts)

    def template(self, language: str) -> str:
        """The prompt file `prompts/<task>.<language>.txt`. Raises KeyError where there is none."""
        if language not in self.templates:
            path = files("synthrec.tasks") / "prompts" / f"{self.name}.{language}.txt"
            if not path.is_file():
                raise KeyError(language)
            self.templates[language] = path.read_text(encoding="utf-8").rstrip("\n")
        return self.templates[language]

    def speaks(self, language: str) -> bool:
        try:
            return bool(self.template(language))
        except KeyError:
            return False

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        """A LABEL row (without ids) from a COMPLETION row, or why there is none."""
        raise AssertionError(f"task {self.name} parses nothing")

    def made_of(self, language: str) -> str:
        """Hash of all that shapes an answer beside the record and the model: enters every request's id."""
        text = self.template(language) if self.speaks(language) else ""
        parts = [self.name, self.version, text, self.choices.get(language), self.sampling, self.seed]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def chosen(task: Task, row: dict[str, Any]) -> dict[str, Any]:
    """Label, score and scores of a COMPLETION row that holds log-probabilities of the task's labels."""
    scores = [math.exp(value) for value in row["logprobs"]]
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"label": task.labels[best], "score": scores[best], "scores": scores}
