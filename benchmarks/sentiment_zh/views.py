"""Two views of a review, a student for each: the LLM's hidden states, and the text's own n-grams.

They err differently, so each can teach the other (Blum and Mitchell 1998, Combining Labeled and Unlabeled Data with
Co-Training), and n-grams are there for texts that the LLM never read. What one teaches goes through curation again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import vstack

from benchmarks.sentiment_zh.labelling import LABELS, calibrated, rows, trusted
from benchmarks.sentiment_zh.reading import Reviews
from benchmarks.sentiment_zh.students import Settings, Soft, fit
from synthrec import console
from synthrec.curation import Row
from synthrec.recommenders.classifier import Classifier
from synthrec.recommenders.features import Features

TASK = {"sentiment": LABELS}
FOLDS, ROUNDS = 4, 2
NEAR = 1.0  # labels kept of each class per label of the rarer: unbalanced, a student would lean more each round
STATE_RATE = 5e-3
NGRAM_RATE = 5e-2  # an n-gram is in few texts: its weight must go far in few steps
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    states: Classifier
    ngrams: Classifier

    @classmethod
    def fit(cls, features: Features, labels: Soft) -> Pair:
        return cls(_student(Features(features.states), labels), _student(Features(ngrams=features.ngrams), labels))

    def scores(self, features: Features) -> Floats:
        """Log-probabilities of both views, added up, (rows, labels): not normalised."""
        return _says(self.states, features) + _says(self.ngrams, features)


def learn(
    reviews: Reviews, features: Features, labels: list[Row], beyond: tuple[Reviews, Features], keep: float
) -> Pair:
    """Students of the labels that curation trusts, then of what they taught each other.

    Args:
        labels: the LLM's, of these reviews; beyond: reviews that it did not read, and their n-grams.
        keep: share of the labels that is trusted each time.
    """
    where = {one: row for row, one in enumerate(reviews.ids)}
    far = {one: row for row, one in enumerate(beyond[0].ids)}
    wide = Features(ngrams=vstack([features.ngrams, beyond[1].ngrams], format="csr"))
    taught = soft(trusted(calibrated(labels, labels), keep, NEAR), where)
    pair = Pair.fit(features, taught)
    for number in range(ROUNDS):
        console.say(f"  round {number + 1} of self-training")
        near = soft(_trusted(reviews, _unseen(features, taught) + _says(pair.ngrams, features), keep), where)
        grams = _student(Features(ngrams=features.ngrams), near)
        more = soft(_trusted(beyond[0], _says(grams, beyond[1]), keep), far)
        grams = _student(wide, np.concatenate([near, more]))
        taught = soft(_trusted(reviews, _unseen(features, near) + _says(grams, features), keep), where)
        pair = Pair(_student(Features(features.states), taught), grams)
    return pair


def soft(labels: list[Row], where: dict[str, int]) -> Soft:
    """The label of each row, as sure as can be; NaN for rows that have none."""
    made = np.full((len(where), len(LABELS)), np.nan, np.float32)
    for row in labels:
        made[where[row["id"]]] = [row["label"] == label for label in LABELS]
    return made


def _trusted(reviews: Reviews, scores: Floats, keep: float) -> list[Row]:
    labels = rows(reviews, scores)
    return trusted(calibrated(labels, labels), keep, NEAR)


def _student(features: Features, labels: Soft) -> Classifier:
    how = Settings(rate=STATE_RATE if features.ngrams is None else NGRAM_RATE, weights={"sentiment": 1.0})
    return fit(features, {"sentiment": labels}, TASK, how)


def _says(student: Classifier, features: Features) -> Floats:
    return np.log(np.clip(student.predict(features)["sentiment"].astype(np.float64), 1e-9, 1))


def _unseen(features: Features, labels: Soft) -> Floats:
    """What students of the states say of rows whose own labels they were not taught."""
    fold = np.arange(len(labels)) % FOLDS
    found = np.zeros(labels.shape)
    for one in range(FOLDS):
        states = Features(features.states)
        taught = _student(states, np.where((fold == one)[:, None], np.nan, labels))
        found[fold == one] = _says(taught, states.take(fold == one))
    return found
