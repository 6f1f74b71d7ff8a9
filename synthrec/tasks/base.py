"""What a synthesis task is: which records it reads, what it asks, what the answer means. No engines here, no Ray."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, ClassVar

from synthrec import schema
from synthrec.engines.base import Sampling
from synthrec.tasks.shop import Shop

EMPTY = {"zh": "无"}  # what stands for an empty input, to see where a prompt leans; elsewhere N/A


@dataclass(frozen=True)
class Rejection:
    """Why an answer gives no label: `reason` is a class to count by, `detail` this row's particulars."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Ask:
    """One question about a record.

    Attributes:
        sources: ids of the records that it is made of.
        fields: fill the prompt's blanks, and travel on to the label.
        sample: tells apart questions that are the same but for the dice.
        facet: which of the task's prompts; "" where it has one.
        options: label -> the word that stands for it in the prompt; the LLM chooses. None: it writes.
    """

    sources: list[str]
    fields: dict[str, str]
    sample: int = 0
    facet: str = ""
    options: dict[str, str] | None = field(default=None)


class Task:
    """A synthesis task. Subclasses are one file each, with their prompts in `prompts/<name>[.<facet>].<language>.txt`.

    Args:
        settings: of the config.
        seed: of the choices that the task makes itself.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when `requests` or the prompts' meaning changes
    reads: ClassVar[str] = "corpus"  # "corpus", or the name of the task whose labels it reads
    kind: ClassVar[str] = ""  # of corpus document
    # Fields that are left in when the input is emptied to see where the prompt leans; see `empty`.
    kept: ClassVar[tuple[str, ...]] = ()
    against_prior: bool = False  # whether it scores its choices so, see `chosen`

    def __init__(self, settings: Any, seed: int = 13) -> None:
        self.settings, self.seed = settings, seed
        self.templates = templates(files("synthrec.tasks") / "prompts", self.name)

    def sampling(self, facet: str) -> Sampling:
        return Sampling()

    @property
    def limit(self) -> int | None:
        """At most so many records are asked about, picked by a hash of their id; None: all."""
        return None

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        """What to ask about a record: a CORPUS row, or a LABEL row of the task that this one reads."""
        raise AssertionError(f"task {self.name} builds no requests")

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        """What a COMPLETION row means: text, product_id, label, score, scores, fields of a LABEL row; or why none."""
        raise AssertionError(f"task {self.name} parses nothing")

    def render(self, language: str, facet: str, fields: dict[str, str]) -> str:
        """The prompt: the template's {blanks} filled from fields, in one pass, so that a field cannot open another."""
        head, *rest = self.templates[facet, language].split("{")
        parts = [head]
        for piece in rest:
            blank, brace, tail = piece.partition("}")
            known = brace and blank in fields
            parts.append(fields[blank] + tail if known else "{" + piece)
        return "".join(parts)

    def empty(self, language: str, facet: str, fields: dict[str, str]) -> str:
        """The prompt with nothing in it to judge: how likely a label is all the same, by the prompt's own lean
        (Zhao et al. 2021, Calibrate Before Use)."""
        nothing = EMPTY.get(language, "N/A")
        return self.render(language, facet, {k: v if k in self.kept else nothing for k, v in fields.items()})

    @property
    def languages(self) -> set[str]:
        """That it has prompts in."""
        return {language for _, language in self.templates}

    def speaks(self, language: str) -> bool:
        return language in self.languages

    def made_of(self, language: str, facet: str) -> str:
        """Hash of all that shapes an answer beside the record and the model: enters every request's id."""
        parts = [self.name, self.version, self.templates[facet, language], self.sampling(facet), self.seed]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def identity(self) -> Any:
        """All prompts' hashes: what of the task can change the stage's result."""
        return [self.name, {f"{facet}.{la}": self.made_of(la, facet) for facet, la in sorted(self.templates)}]


def templates(folder: Traversable, name: str) -> dict[tuple[str, str], str]:
    """(facet, language) -> prompt, of the files `<name>[.<facet>].<language>.txt` in a folder."""
    found: dict[tuple[str, str], str] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        task, *facet, language, suffix = path.name.split(".") if path.name.count(".") in (2, 3) else ("", "", "")
        if task == name and suffix == "txt":
            found["".join(facet), language] = path.read_text(encoding="utf-8").rstrip("\n")
    return found


def chosen(row: dict[str, Any], against_prior: bool = False) -> dict[str, Any]:
    """Label, score and scores of a COMPLETION row that holds log-probabilities.

    Args:
        against_prior: score each choice by how much likelier the input made it (Holtzman et al. 2021, Surface Form
            Competition): for choices that differ in length and commonness, of which the bare sum says little else.
    """
    logs = list(row["logprobs"])
    if against_prior and row["prior"]:
        logs = [value - before for value, before in zip(logs, row["prior"], strict=True)]
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    scores = [one / sum(weights) for one in weights]
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"label": row["labels"][best], "score": scores[best], "scores": scores}


def one_line(text: str, most: int) -> str:
    """Text on one line, cut at a word (or anywhere, in a language without spaces) to at most so many characters."""
    flat = " ".join(text.split())
    if len(flat) <= most:
        return flat
    head = flat[:most]
    return head.rsplit(" ", 1)[0] if " " in head[most // 2 :] else head


def pick(seed: int, values: Sequence[str], count: int, *of: str) -> list[str]:
    """`count` of the values, the same each time for the same `of`, whatever their order."""
    return sorted(set(values), key=lambda value: schema.row_id(seed, *of, value))[:count]
