"""What can be said of a reply to a dialogue without a label, and a small model that joins it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.reply.cases import Case, Exchanges
from synthrec.recommenders.likelihood import Read

Values = NDArray[np.float64]
Scored = dict[str, Values]  # a feature's name -> its value for each candidate

NEAR = 20  # past questions that are looked at
FOLDS = 5
RIDGE = 0.05  # a case's weight of the squared weights; never tuned
NUMBER = re.compile(r"\d+")


def features(case: Case, reads: Sequence[tuple[Read, Read]], exchanges: Exchanges) -> Scored:
    """All of a case, each an array over its candidates."""
    turns, replies = case.turns, case.replies
    given, alone, tokens = (
        np.array(column) for column in zip(*((g.total, a.total, g.tokens) for g, a in reads), strict=True)
    )
    before, numbers = "".join(turns[:-1]), set(NUMBER.findall("".join(turns)))
    return {
        "likelihood": given / tokens,
        "pmi": (given - alone) / tokens,
        "pmi, summed": given - alone,
        "commonness": alone / tokens,
        "words of the question": np.array([shared(reply, turns[-1]) for reply in replies]),
        "words said before": np.array([shared(reply, before) for reply in replies]),
        "new numbers": np.array([float(bool(set(NUMBER.findall(reply)) - numbers)) for reply in replies]),
        "length": np.log1p([len(reply) for reply in replies]),
        "retrieval": past(exchanges, case),
    }


def shared(reply: str, other: str) -> float:
    """Cosine of the sets of character pairs, 0 to 1."""
    a, b = (pairs(text) for text in (reply, other))
    return len(a & b) / (len(a) * len(b)) ** 0.5 if a and b else 0.0


def pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)} or set(text)


def past(exchanges: Exchanges, case: Case) -> Values:
    """A reply is good if it is like what agents said where something like it was asked.

    Mean likeness to the replies of near questions of other dialogues, by how near; an array over the candidates. No
    candidate is among those replies: of known cases the wrong ones would be, and be like themselves.
    """
    found = exchanges.near(case.turns[-1], case.context)
    near = [(score, one) for score, one in found if score > 0 and one.answered not in case.replies][:NEAR]
    total = sum(score for score, _ in near) or 1.0
    return np.array([sum(score * shared(reply, one.answered) for score, one in near) / total for reply in case.replies])


@dataclass(frozen=True)
class ReplyModel:
    """A conditional logit (McFadden 1974): the chance of a candidate is the softmax of its weighted features."""

    weights: Values

    @classmethod
    def fit(cls, rows: Sequence[Scored], rights: Sequence[int]) -> ReplyModel:
        """Learn from cases whose right reply is known. Features are standardised over each case's candidates."""
        tables = [_table(row) for row in rows]

        def loss(weights: Values) -> tuple[float, Values]:
            total, slope = RIDGE * len(tables) * float(weights @ weights), 2 * RIDGE * len(tables) * weights
            for table, right in zip(tables, rights, strict=True):
                logits = table @ weights
                chances = np.exp(logits - logits.max())
                chances /= chances.sum()
                total -= float(np.log(chances[right]))
                slope = slope + chances @ table - table[right]
            return total, slope

        return cls(minimize(loss, np.zeros(tables[0].shape[1]), jac=True, method="L-BFGS-B").x)

    def scores(self, rows: Sequence[Scored]) -> list[Values]:
        return [_table(row) @ self.weights for row in rows]

    @classmethod
    def crossed(cls, rows: Sequence[Scored], rights: Sequence[int], groups: Sequence[int]) -> list[Values]:
        """Scores of each case by a model of the other folds' cases; a group is in one fold."""
        out: dict[int, Values] = {}
        for fold in range(FOLDS):
            learn = [i for i, group in enumerate(groups) if group % FOLDS != fold]
            held = [i for i, group in enumerate(groups) if group % FOLDS == fold]
            model = cls.fit([rows[i] for i in learn], [rights[i] for i in learn])
            out |= zip(held, model.scores([rows[i] for i in held]), strict=True)
        return [out[i] for i in range(len(rows))]


def _table(row: Scored) -> Values:
    """(candidates, features)."""
    columns = np.stack(list(row.values()), axis=1)
    spread = columns.std(0)
    table: Values = (columns - columns.mean(0)) / np.where(spread > 0, spread, 1)
    return table
