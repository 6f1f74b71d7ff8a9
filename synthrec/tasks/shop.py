"""What a task may look up while it builds requests, beside the record in hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow.dataset as pads

from synthrec import schema
from synthrec.retrieval.bm25 import BM25
from synthrec.storage import Folder


@dataclass(frozen=True)
class Shop:
    """A view of what `prepare` published; everything is read when it is first asked for."""

    prepared: Folder
    encoder: str | None = None  # a second retriever beside BM25

    @cached_property
    def products(self) -> dict[str, dict[str, Any]]:
        rows = (self.prepared / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id").to_pylist()
        return {row["product_id"]: row for row in rows}

    @cached_property
    def _index(self) -> tuple[list[str], BM25]:
        return list(self.products), BM25.build([row["text"] for row in self.products.values()])

    @cached_property
    def _encoded(self) -> tuple[Any, Any]:
        """The encoder, and the vectors of all products."""
        from synthrec.recommenders.bi_encoder import BiEncoder

        model = BiEncoder.load(str(self.encoder))
        return model, model.encode([row["text"] for row in self.products.values()])

    def nearest(self, query: str, count: int) -> list[str]:
        """Ids of the products nearest to a query by BM25, best first."""
        ids, index = self._index
        return [ids[i] for i in index.top(query, count)]

    def pooled(self, query: str, count: int) -> list[str]:
        """Ids of the first `count` by BM25 and by the encoder: those that only one of them has come first."""
        words = self.nearest(query, count)
        if self.encoder is None:
            return words
        model, vectors = self._encoded
        scores = vectors @ model.encode([query], query=True)[0]
        ids = list(self.products)
        meaning = [ids[i] for i in np.argsort(-scores, kind="stable")[:count]]
        alone = [p for pair in zip_longest(words, meaning) for p in pair if p and (p in words) != (p in meaning)]
        return list(dict.fromkeys([*alone, *words, *meaning]))

    @cached_property
    def replies(self) -> dict[str, list[tuple[str, str]]]:
        """language -> (dialogue's id, reply) of all that the shop's agents have said."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row in self._dialogues:
            for line in row["text"].split("\n"):
                role, _, said = line.partition(": ")
                if role == "agent" and said:
                    found.setdefault(row["language"], []).append((row["doc_id"], said))
        return found

    @cached_property
    def _reply_index(self) -> dict[str, BM25]:
        return {language: BM25.build([said for _, said in some]) for language, some in self.replies.items()}

    def past_replies(self, text: str, language: str, but: str, count: int) -> list[str]:
        """Replies from other dialogues than `but` whose words are nearest to a text."""
        some = self.replies.get(language, [])
        if not some:
            return []
        order = self._reply_index[language].top(text, len(some))
        return list(dict.fromkeys(some[i][1] for i in order if some[i][0] != but))[:count]

    @cached_property
    def _dialogues(self) -> list[dict[str, Any]]:
        corpus = self.prepared / "corpus"
        return corpus.read_table(schema.CORPUS, where=pads.field("kind") == "dialogue").sort_by("doc_id").to_pylist()
