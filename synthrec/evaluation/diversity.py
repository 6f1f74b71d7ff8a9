"""How varied texts are. Compare sets of the same size and lengths only: each measure moves with both (`matched`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthrec import schema
from synthrec.retrieval.tokens import words


def distinct(texts: Sequence[str], n: int) -> float:
    """Share of different word n-grams among all (Li et al. 2016, distinct-n). NaN where there is none."""
    grams = [tuple(found[i : i + n]) for found in map(words, texts) for i in range(len(found) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def self_bleu(texts: Sequence[str], most: int = 200) -> float:
    """Mean BLEU of each text against all others (Zhu et al. 2018, Texygen), 0 to 1; lower is more varied.

    Args:
        most: texts looked at, picked by a hash: the cost grows with their square.
    """
    from sacrebleu.metrics.bleu import BLEU

    some = [" ".join(words(text)) for text in _some(texts, most)]
    some = [text for text in some if text]
    if len(some) < 2:
        return float("nan")
    bleu = BLEU(tokenize="none", effective_order=True)  # queries are short: orders they have not do not count
    marks = [bleu.sentence_score(one, some[:i] + some[i + 1 :]).score / 100 for i, one in enumerate(some)]
    return float(np.mean(marks))


def vendi(vectors: NDArray[np.float32]) -> float:
    """The effective number of different texts (Friedman & Dieng 2023): exp of the entropy of the kernel's eigenvalues.

    Args:
        vectors: unit vectors, shape (n, width). Their cosines are the kernel.

    Returns:
        Between 1 (all the same) and the lesser of n and width.
    """
    if not len(vectors):
        return float("nan")
    # X Xᵀ/n and Xᵀ X/n share their eigenvalues; the second is small whatever n is.
    values = np.linalg.eigvalsh(vectors.T.astype(np.float64) @ vectors / len(vectors))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def matched(ours: Sequence[str], theirs: Sequence[str], most: int = 500) -> tuple[list[str], list[str]]:
    """As many texts of each, with the same lengths in words, picked by a hash; so that measures of them compare."""
    by_length: list[dict[int, list[str]]] = [{}, {}]
    for side, texts in zip(by_length, (ours, theirs), strict=True):
        for text in _some(list(dict.fromkeys(texts)), len(texts)):
            side.setdefault(min(len(words(text)), 12), []).append(text)
    pairs: list[tuple[str, str]] = []
    for length, some in by_length[0].items():
        pairs += zip(some, by_length[1].get(length, []), strict=False)
    kept = sorted(pairs, key=lambda pair: schema.row_id(*pair))[:most]
    return [one for one, _ in kept], [other for _, other in kept]


def _some(texts: Sequence[str], most: int) -> list[str]:
    return sorted(texts, key=lambda text: schema.row_id("some", text))[:most]
