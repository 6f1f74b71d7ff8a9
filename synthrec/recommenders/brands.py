"""Brands for a search or a shopper: retrieval over what is said of each brand and what it sells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthrec.retrieval.hybrid import Scores
from synthrec.retrieval.index import Encode, Index, best


@dataclass(frozen=True)
class Brands:
    index: Index

    @classmethod
    def build(
        cls, profiles: dict[str, str], titles: dict[str, list[str]], encode: Encode | None = None, weight: float = 0.5
    ) -> Brands:
        """
        Args:
            profiles: a sentence on each brand; a brand without one is known by its products alone.
            titles: of each brand's products.
            encode: any encoder, trained or not. A brand's vector is the mean over its sentence and titles, since all of
                them are longer than an encoder reads.
            weight: the encoder's share of the score.
        """
        names = list(titles)
        parts = [[text for text in (profiles.get(name, ""), *titles[name]) if text] or [name] for name in names]
        vectors = None if encode is None else np.stack([mean(encode(some)) for some in parts])
        texts = [profiles.get(name, "") for name in names]
        searched = [" . ".join([name, *some]) for name, some in zip(names, parts, strict=True)]
        return cls(Index.build(names, texts, searched, vectors, weight))

    def top(self, query: str, k: int, encode: Encode | None = None) -> list[tuple[str, float]]:
        """Names and scores of the k best brands for what is searched."""
        return best(self.index.ids, self.index.scores(query, None if encode is None else encode([query])[0]), k)

    def for_shopper(self, history: Sequence[str], k: int, encode: Encode | None = None) -> list[tuple[str, float]]:
        """Names and scores of the k best brands for who took products with these texts, brands of theirs among them."""
        if not history:
            raise ValueError("a shopper without a history is like no brand")
        vector = None if encode is None else mean(encode(history))
        return best(self.index.ids, self.index.scores(" ".join(history), vector), k)

    def save(self, folder: Path) -> None:
        self.index.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Brands:
        return cls(Index.load(folder))


def mean(vectors: Scores) -> Scores:
    """Unit vector of the mean, shape (width,)."""
    total: Scores = vectors.mean(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)
