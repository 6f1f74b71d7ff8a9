"""A static encoder: a vector a token, and a text's is their mean. NumPy and a tokenizer alone, so fast anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse

from synthrec.compression.tokens import ABOUT, Tokens

Vectors = NDArray[np.float32]

KIND = "static"
CHUNK = 4096  # texts tokenised at once: bounds memory


class StaticEncoder:
    """Unit vectors from a table of token vectors, (vocabulary, width). A text without a token has a zero vector."""

    def __init__(self, table: Vectors, tokens: Tokens) -> None:
        self.table, self.tokens = table, tokens

    @property
    def width(self) -> int:
        return int(self.table.shape[1])

    def encode(
        self, texts: Sequence[str], query: bool = False, *, tick: Callable[[int], object] = lambda done: None
    ) -> Vectors:
        """Vectors in the order of `texts`, shape (n, width)."""
        out = np.zeros((len(texts), self.width), np.float32)
        for start in range(0, len(texts), CHUNK):
            read = self.tokens.read(texts[start : start + CHUNK], query, special=False)
            out[start : start + len(read)] = _unit(means(read, len(self.table)) @ self.table)
            tick(len(read))
        return out

    def save(self, folder: Path) -> None:
        """The table in float16 (safetensors), the tokenizer and the lengths as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"table": self.table.astype(np.float16)}, folder / "table.safetensors")
        self.tokens.save(folder)
        (folder / ABOUT).write_text(json.dumps({"kind": KIND, **self.tokens.lengths}))

    @classmethod
    def load(cls, folder: Path) -> StaticEncoder:
        return cls(load_file(folder / "table.safetensors")["table"].astype(np.float32), Tokens.load(folder))


def means(read: list[list[int]], vocabulary: int) -> sparse.csr_array:
    """(texts, vocabulary): each token's share of its text."""
    lengths = np.array([len(ids) for ids in read])
    ends = np.concatenate([[0], lengths.cumsum()])
    ids = np.fromiter((i for ids in read for i in ids), np.int64, ends[-1])
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    return sparse.csr_array((shares, ids, ends), shape=(len(read), vocabulary))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
