"""Documents known by an id, found by words and by meaning: what past replies and brands are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthrec.errors import UserError
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Hybrid, Scores
from synthrec.sources.cleaning import clean

Encode = Callable[[Sequence[str]], Scores]  # texts -> unit vectors, shape (n, width)

ROWS, VECTORS, LEXICAL = "index.json", "vectors.npy", "bm25"


@dataclass(frozen=True)
class Index:
    """Immutable. `ids[i]` names document i of `hybrid`; `texts[i]` is what is shown, or reranked, for it."""

    ids: list[str]
    texts: list[str]
    hybrid: Hybrid

    @classmethod
    def build(
        cls, ids: list[str], texts: list[str], searched: Sequence[str], vectors: Scores | None, weight: float
    ) -> Index:
        """
        Args:
            searched: what BM25 reads of each document.
            vectors: unit vectors of them; None: BM25 alone.
            weight: the vectors' share of a score, in every language.
        """
        if not len(ids) == len(texts) == len(searched):
            raise ValueError(f"{len(ids)} ids, {len(texts)} texts, {len(searched)} to be searched")
        share = 0.0 if vectors is None else weight
        wide = np.zeros((len(ids), 0), np.float32) if vectors is None else vectors
        return cls(ids, texts, Hybrid(BM25.build([clean(one) for one in searched]), wide, {"en": share, "zh": share}))

    def scores(self, query: str, vector: Scores | None) -> Scores:
        """One score a document; without a vector BM25's own."""
        return self.hybrid.bm25.scores(clean(query)) if vector is None else self.hybrid.scores(query, vector)

    def save(self, folder: Path) -> None:
        """JSON, npy and the lexical index: no pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = {"ids": self.ids, "texts": self.texts, "weights": self.hybrid.weights}
        (folder / ROWS).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        np.save(folder / VECTORS, self.hybrid.vectors, allow_pickle=False)
        self.hybrid.bm25.save(folder / LEXICAL)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """What `save` wrote."""
        if not (folder / ROWS).is_file():
            raise UserError(f"no index in {folder}", "give the folder that `save` wrote")
        rows = json.loads((folder / ROWS).read_text(encoding="utf-8"))
        vectors = np.load(folder / VECTORS, allow_pickle=False)
        return cls(rows["ids"], rows["texts"], Hybrid(BM25.load(folder / LEXICAL), vectors, rows["weights"]))


def best(ids: Sequence[str], scores: Scores, k: int) -> list[tuple[str, float]]:
    """The k best with their scores, best first, ties by position."""
    return [(ids[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]
