"""A trained encoder -> a static one, without any label.

Model2Vec (Tulkens & van Dongen 2024) gives the start: what the encoder makes of each token alone, weighted down where
the token is frequent (SIF, Arora et al. 2017; frequencies by Zipf's law, as vocabularies are sorted by them). Then, as
in their Tokenlearn, the token vectors are fitted so that texts of the shop come out as the encoder has them. A mean is
linear in the token vectors: it is a ridge regression with the start as its prior, solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse

from synthrec.compression.static import StaticEncoder, Vectors, means
from synthrec.compression.tokens import Tokens
from synthrec.recommenders.bi_encoder import BiEncoder

SMOOTH = 1e-3  # of SIF: a token of this frequency counts half
WIDTH = 256
RIDGE = 0.01  # how firmly the start is held, against a text's worth of evidence


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
    return StaticEncoder(fit(start, means(read, len(start)), wanted @ axes, ridge), tokens)


def fit(start: Vectors, shares: sparse.csr_array, wanted: Vectors, ridge: float, steps: int = 100) -> Vectors:
    """The table that minimises |shares @ table - wanted|² + ridge |table - start|².

    Args:
        start: (vocabulary, width); shares: (texts, vocabulary), the share of each token; wanted: (texts, width).
        steps: of conjugate gradients, at most; all columns go together.
    """
    change = np.zeros_like(start)
    left = shares.T @ (wanted - shares @ start)
    direction, size = left.copy(), (left**2).sum(0)
    enough = 1e-8 * size
    for _ in range(steps):
        if (size <= enough).all():
            break
        image = shares.T @ (shares @ direction) + ridge * direction
        far = size / np.maximum((direction * image).sum(0), 1e-30)
        change += far * direction
        left -= far * image
        size, before = (left**2).sum(0), size
        direction = left + size / np.maximum(before, 1e-30) * direction
    return start + change


def _alone(teacher: BiEncoder, batch_size: int = 256) -> Vectors:
    """What the teacher makes of each token alone, between its marks; (vocabulary, teacher's width)."""
    vocabulary, marks = len(teacher.tokenizer), teacher.tokenizer("").input_ids
    before, after = marks[: len(marks) // 2], marks[len(marks) // 2 :]
    teacher.eval()
    parts = []
    for first in range(0, vocabulary, batch_size):
        rows = [[*before, i, *after] for i in range(first, min(first + batch_size, vocabulary))]
        ids = torch.tensor(rows, device=teacher.backbone.device)
        with torch.inference_mode():
            parts.append(teacher.pooled(torch.ones_like(ids), input_ids=ids).cpu().numpy())
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
