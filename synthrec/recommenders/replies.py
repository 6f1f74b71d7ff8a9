"""Which past reply answers a dialogue: found by what was asked before, by words and by meaning, then reranked.

What a shopper says is compared with what shoppers said, not with what agents answered: a question is like a question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthrec.retrieval.hybrid import Scores
from synthrec.retrieval.index import Encode, Index, best

Rerank = Callable[[Sequence[str], Sequence[str]], Scores]  # a dialogue's turns, replies -> how well each fits


@dataclass(frozen=True)
class Replies:
    index: Index

    @classmethod
    def build(
        cls, ids: list[str], asked: Sequence[str], replies: list[str], encode: Encode | None = None, weight: float = 0.5
    ) -> Replies:
        """
        Args:
            asked: the shopper's turn that each reply answered.
            weight: the encoder's share of the score.
        """
        return cls(Index.build(ids, replies, asked, None if encode is None else encode(asked), weight))

    def top(
        self,
        turns: Sequence[str],
        k: int,
        encode: Encode | None = None,
        rerank: Rerank | None = None,
        depth: int = 50,
    ) -> list[tuple[str, float]]:
        """Ids and scores of the k best replies, no text twice, best first.

        Args:
            turns: the dialogue, oldest first, the last one the shopper's. That one is looked up.
            rerank: orders the `depth` replies that were found, and gives the scores; a `Likelihood`, for one.
        """
        if not turns:
            raise ValueError("a dialogue has at least one turn")
        scores = self.index.scores(turns[-1], None if encode is None else encode([turns[-1]])[0])
        found = self._unlike(np.argsort(-scores, kind="stable"), k if rerank is None else max(k, depth))
        values = scores[found] if rerank is None else rerank(turns, [self.index.texts[i] for i in found])
        return best([self.index.ids[i] for i in found], values, k)

    def _unlike(self, order: NDArray[np.intp], count: int) -> list[int]:
        """The first `count` positions whose replies differ: agents say the same thing to many."""
        found: dict[str, int] = {}
        for position in order:
            found.setdefault(self.index.texts[position], int(position))
            if len(found) == count:
                break
        return list(found.values())

    def save(self, folder: Path) -> None:
        self.index.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Replies:
        return cls(Index.load(folder))
