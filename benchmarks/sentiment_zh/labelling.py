"""From what the LLM scored to labels worth learning: the project's own curation steps, in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.sentiment_zh.reading import Reviews
from synthrec.config import Config
from synthrec.curation import STEPS, Aids, Row
from synthrec.storage import Folder
from synthrec.tasks.base import chosen

LABELS = ["positive", "negative"]
Floats = NDArray[np.floating]


def information(logits: Floats) -> float:
    """Mutual information of texts and answers without the prompt's lean, in nats: much of it has a prompt that tells
    texts apart, and is sure.

    It picks a prompt without any label (Sorensen et al. 2022, An Information-theoretic Approach to Prompt Engineering
    Without Ground Truth Labels).
    """
    odds = logits[:, 0] - logits[:, 1]
    good = 1 / (1 + np.exp(odds.mean() - odds))
    probs = np.stack([good, 1 - good], axis=1)
    return float(_entropy(probs.mean(0)) - _entropy(probs).mean())


def rows(reviews: Reviews, logits: Floats) -> list[Row]:
    """LABEL rows of reviews whose words scored so, positive first."""
    shared = {"task": "sentiment", "facet": "", "language": "zh", "labels": LABELS, "prior": None}
    made = []
    for one, text, pair in zip(reviews.ids, reviews.texts, logits.tolist(), strict=True):
        answer = chosen({"logprobs": pair, "labels": LABELS, "prior": None})
        made.append({"id": one, "text": text, "sources": [f"review:{one}"], **shared, **answer})
    return made


def calibrated(labels: list[Row], of: list[Row]) -> list[Row]:
    """Labels without the prompt's lean, which the rows `of` show (batch calibration)."""
    aids = _aids(0.0, 1.0)
    step = STEPS["calibrate"]
    return step.apply(labels, aids, step.learn and step.learn([of], aids))[0]


def trusted(labels: list[Row], share: float, imbalance: float) -> list[Row]:
    """The most certain share of the labels, and none of them much more frequent than the other."""
    margins = [2 * row["score"] - 1 for row in labels]
    aids = _aids(float(np.quantile(margins, 1 - share)), imbalance)
    kept = STEPS["margin"].apply(labels, aids)[0]
    step = STEPS["balance"]
    return step.apply(kept, aids, step.learn and step.learn([kept], aids))[0]


def scores(labels: Sequence[Row]) -> Floats:
    """Probabilities, (rows, 2), positive first."""
    return np.array([row["scores"] for row in labels])


def _aids(margin: float, imbalance: float) -> Aids:
    curate = {"min_margin": margin, "max_imbalance": imbalance, "calibration": "batch"}
    config = Config.model_validate(
        {"name": "sentiment", "run_dir": "unused", "sources": {"products": {"path": "unused"}}, "curate": curate}
    )
    nowhere = Folder.open("unused")
    return Aids(config, dict, lambda products: {}, nowhere, nowhere)


def _entropy(probs: Floats) -> Floats:
    return np.asarray(-(probs * np.log(np.clip(probs, 1e-12, 1))).sum(axis=-1))
