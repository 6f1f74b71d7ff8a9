"""BM25 over a catalogue, in both languages (Robertson & Zaragoza 2009; computed by bm25s)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray

from synthrec.errors import UserError
from synthrec.retrieval.tokens import words

LENGTH = "length.json"


class BM25:
    """An immutable index; documents are known by their position.

    Attributes:
        index: bm25s's own: what each term adds to each document's score, by term.
        mean_length: terms a document, which a document that comes later is weighed by.
    """

    def __init__(self, index: bm25s.BM25, mean_length: float) -> None:
        self.index, self.mean_length = index, mean_length
        self.size = int(index.scores["num_docs"])

    @classmethod
    def build(cls, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> BM25:
        return cls.from_words([words(text) for text in texts], k1, b)

    @classmethod
    def from_words(cls, documents: list[list[str]], k1: float = 1.2, b: float = 0.75) -> BM25:
        """Index documents that are terms already, as tuning does, which would else split them again for each try."""
        if not any(documents):
            raise UserError("no product's text holds a word to search by", "check the titles in sources.products")
        index = bm25s.BM25(k1=k1, b=b)
        index.index(documents, show_progress=False)
        return cls(index, sum(map(len, documents)) / len(documents))

    def scores(self, query: str) -> NDArray[np.float32]:
        """One score a document, shape (size,); all zero when no term of the query is known."""
        known = [w for w in words(query) if w in self.index.vocab_dict]
        if not known:
            return np.zeros(self.size, np.float32)
        return np.asarray(self.index.get_scores(known), np.float32)

    def top(self, query: str, count: int) -> list[int]:
        """Positions of the best documents that share a term with the query, best first, ties by position."""
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")[:count]
        return [int(i) for i in order if scores[i] > 0]

    def save(self, folder: Path) -> None:
        self.index.save(str(folder), show_progress=False)
        (folder / LENGTH).write_text(json.dumps(self.mean_length), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> BM25:
        mean_length = float(json.loads((folder / LENGTH).read_text(encoding="utf-8")))
        return cls(bm25s.BM25.load(str(folder), load_corpus=False), mean_length)
