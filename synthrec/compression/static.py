"""A static encoder: a vector a token, and a text's is their mean. NumPy and a tokenizer alone, so it is fast anywhere.

Distilled from a trained encoder without any label. Model2Vec (Tulkens & van Dongen 2024) gives the start: what the
encoder makes of each token alone, weighted down where the token is frequent (SIF, Arora et al. 2017; frequencies by
Zipf's law, as vocabularies are sorted by them). Then, as in their Tokenlearn, the token vectors are fitted so that
texts of the shop come out as the encoder has them. A mean is linear in the token vectors, so this is a ridge regression
with the start as its prior, solved by conjugate gradients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse

from synthrec.compression.tokens import ABOUT, Tokens
from synthrec.recommenders.bi_encoder import BiEncoder

Vectors = NDArray[np.float32]

KIND = "static"
CHUNK = 4096  # texts tokenised at once: bounds memory
SMOOTH = 1e-3  # of SIF: a token of this frequency counts half
WIDTH = 256
RIDGE = 0.01  # how firmly the start is held, against a text's worth of evidence


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
            out[start : start + len(read)] = _unit(_means(read, len(self.table)) @ self.table)
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


def distil(
    teacher: BiEncoder, queries: Sequence[str], products: Sequence[str], width: int = WIDTH, ridge: float = RIDGE
) -> StaticEncoder:
    """A static encoder that imitates `teacher` on a shop's texts.

    Args:
        queries: texts that the teacher encodes as queries; products: as products. No judged query belongs here.
        width: of the new vectors; no more than the teacher's.
        ridge: how firmly token vectors are held to what the teacher makes of the token alone.
    """
    tokens = Tokens.of(teacher)
    alone = _alone(teacher)
    wanted = np.concatenate([teacher.encode(queries, query=True), teacher.encode(products)])
    axes = _axes(np.concatenate([wanted, alone[:: max(1, len(alone) // max(1, len(wanted)))]]), width)
    read = tokens.read(queries, True, special=False) + tokens.read(products, False, special=False)
    start = (alone @ axes) * _sif(len(alone))[:, None]
    return StaticEncoder(fit(start, _means(read, len(start)), wanted @ axes, ridge), tokens)


def fit(start: Vectors, means: sparse.csr_array, wanted: Vectors, ridge: float, steps: int = 100) -> Vectors:
    """The table that minimises |means @ table - wanted|² + ridge |table - start|².

    Args:
        start: (vocabulary, width); means: (texts, vocabulary), the share of each token; wanted: (texts, width).
        steps: of conjugate gradients, at most; all columns go together.
    """
    change = np.zeros_like(start)
    left = means.T @ (wanted - means @ start)
    direction, size = left.copy(), (left**2).sum(0)
    enough = 1e-8 * size
    for _ in range(steps):
        if (size <= enough).all():
            break
        image = means.T @ (means @ direction) + ridge * direction
        far = size / np.maximum((direction * image).sum(0), 1e-30)
        change += far * direction
        left -= far * image
        size, before = (left**2).sum(0), size
        direction = left + size / np.maximum(before, 1e-30) * direction
    return start + change


def _alone(teacher: BiEncoder, batch_size: int = 256) -> Vectors:
    """What the teacher makes of each token alone, between its marks; (vocabulary, teacher's width)."""
    vocabulary = len(teacher.tokenizer)
    teacher.eval()
    parts = []
    for first in range(0, vocabulary, batch_size):
        rows = [teacher.tokenizer.build_inputs_with_special_tokens([i])
                for i in range(first, min(first + batch_size, vocabulary))]  # fmt: skip
        ids = torch.tensor(rows, device=teacher.backbone.device)
        with torch.inference_mode():
            parts.append(teacher.pooled({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).cpu().numpy())
    return np.concatenate(parts).astype(np.float32)


def _sif(vocabulary: int) -> Vectors:
    """Weights by smooth inverse frequency; the i-th token's frequency by Zipf's law."""
    share = 1 / np.arange(2, vocabulary + 2)
    share /= share.sum()
    return (SMOOTH / (SMOOTH + share)).astype(np.float32)


def _axes(vectors: Vectors, width: int) -> Vectors:
    """The directions that hold most of the vectors' length, (teacher's width, width). Not centred: cosines stay."""
    _, _, axes = np.linalg.svd(vectors.T @ vectors)
    return np.ascontiguousarray(axes[:width].T, np.float32)


def _means(read: list[list[int]], vocabulary: int) -> sparse.csr_array:
    """(texts, vocabulary): each token's share of its text."""
    lengths = np.array([len(ids) for ids in read])
    ends = np.concatenate([[0], lengths.cumsum()])
    ids = np.fromiter((i for ids in read for i in ids), np.int64, ends[-1])
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    return sparse.csr_array((shares, ids, ends), shape=(len(read), vocabulary))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
