"""What is to be ranked: the set's own cases, and cases whose answer is known without its labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthrec.errors import UserError
from synthrec.retrieval.bm25 import BM25

CANDIDATES = 10
SHORTEST = 3  # characters of a turn that is worth finding


@dataclass(frozen=True)
class Case:
    """`context` is the number of the dialogue it is from; `right` the place of the right reply."""

    context: int
    turns: list[str]
    replies: list[str]
    right: int


@dataclass(frozen=True)
class Exchange:
    """What a shopper asked and what the agent said to it, in the dialogue of that number."""

    context: int
    asked: str
    answered: str


class Exchanges:
    """All exchanges that the dialogues hold, to be found by a question."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.all = [
            Exchange(case.context, case.turns[end - 1], case.turns[end])
            for case in cases
            for end in range(len(case.turns) - 2, 0, -2)  # the shopper speaks last
        ]
        self._asked = BM25.build([one.asked for one in self.all])
        self._answered = BM25.build([one.answered for one in self.all])

    def near(self, asked: str, context: int) -> list[tuple[float, Exchange]]:
        """With scores, of other dialogues: those where something like it was asked first, then all others."""
        return self._of_others(self._asked, asked, context)

    def alike(self, answered: str, context: int) -> list[Exchange]:
        """Of other dialogues: those where something like it was answered first, then all others."""
        return [one for _, one in self._of_others(self._answered, answered, context)]

    def _of_others(self, index: BM25, text: str, context: int) -> list[tuple[float, Exchange]]:
        scores = index.scores(text)
        order = np.argsort(-scores, kind="stable")
        return [(float(scores[i]), self.all[i]) for i in order if self.all[i].context != context]


def distinct(some: Iterable[Exchange], count: int, without: Collection[str] = ()) -> list[Exchange]:
    """The first of them, no two alike; none whose reply is one of `without`."""
    found = {(one.asked, one.answered): one for one in reversed(list(some)) if one.answered not in without}
    return list(reversed(found.values()))[:count]


def read_cases(path: Path) -> list[Case]:
    """The set's cases, spaces between words taken out, candidates in the order of the file."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    cases: list[Case] = []
    for start in range(0, len(rows), CANDIDATES):
        some = rows[start : start + CANDIDATES]
        turns = {tuple(row[1:-1]) for row in some}
        labels = [int(row[0]) for row in some]
        if len(turns) != 1 or sum(labels) != 1:
            raise UserError(f"{path}: rows {start} and on are not of one context", "one right reply among each ten")
        replies = [_joined(row[-1]) for row in some]
        cases.append(Case(len(cases), [_joined(turn) for turn in some[0][1:-1]], replies, labels.index(1)))
    return cases


def own_turns(test: Sequence[Case], exchanges: Exchanges) -> list[Case]:
    """A case for each turn of an agent's that a dialogue holds."""
    return [
        known(case.context, case.turns[:end], case.turns[end], exchanges)
        for case in test
        for end in range(len(case.turns) - 2, 0, -2)
        if len(case.turns[end]) >= SHORTEST
    ]


def known(context: int, turns: list[str], right: str, exchanges: Exchanges) -> Case:
    """The right reply among those of other dialogues that BM25 finds for what was asked."""
    answers = (one.answered for _, one in exchanges.near(turns[-1], context))
    others = dict.fromkeys(one for one in answers if len(one) >= SHORTEST and one != right)
    return Case(context, turns, [right, *list(others)[: CANDIDATES - 1]], 0)


def _joined(text: str) -> str:
    return "".join(text.split())
