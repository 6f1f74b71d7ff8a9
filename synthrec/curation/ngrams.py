"""A light text classifier that knows no language: logistic regression on hashed character n-grams, TF-IDF weighted.

And its out-of-fold probabilities: no text is judged by a model that has seen it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

SIZES = (1, 4)  # characters of an n-gram
FEATURES = 2**18
# Inverse strength of the L2 penalty. Labels with one in five wrong want a strong one, or the model learns the wrong
# ones by heart and agrees with them; `benchmarks.noise` compares.
C = 1.0
FOLDS = 5
COUNTS = HashingVectorizer(
    analyzer="char", ngram_range=SIZES, n_features=FEATURES, alternate_sign=False, norm=None, dtype=np.float32
)


def counts(texts: list[str]) -> csr_matrix:
    """How often each n-gram stands in each text, shape (n, FEATURES)."""
    return COUNTS.transform(texts) if texts else csr_matrix((0, FEATURES), dtype=np.float32)


@dataclass(frozen=True)
class Classifier:
    """Fitted: weights of the n-grams, and a regression of each class against the rest."""

    weights: TfidfTransformer
    model: Any

    @classmethod
    def fit(cls, counted: csr_matrix, codes: NDArray[np.int64], c: float = C) -> Classifier:
        """From counts and the class of each row, of which there must be two or more."""
        weights = TfidfTransformer(sublinear_tf=True).fit(counted)
        one = LogisticRegression(C=c, solver="liblinear", tol=1e-2, random_state=0)
        return cls(weights, OneVsRestClassifier(one).fit(weights.transform(counted), codes))

    @property
    def classes(self) -> NDArray[np.int64]:
        return self.model.classes_  # type: ignore[no-any-return]

    def __call__(self, counted: csr_matrix) -> NDArray[np.float64]:
        """Probabilities of the `classes`, shape (n, K)."""
        if not counted.shape[0]:
            return np.zeros((0, len(self.classes)))
        return self.model.predict_proba(self.weights.transform(counted))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OutOfFold:
    """One classifier a fold, which has seen the rows of all others."""

    models: list[Classifier]
    classes: int

    @classmethod
    def fit(cls, counted: csr_matrix, codes: NDArray[np.int64], folds: NDArray[np.int64]) -> OutOfFold:
        models = [Classifier.fit(counted[folds != fold], codes[folds != fold]) for fold in range(FOLDS)]
        return cls(models, int(codes.max()) + 1)

    def __call__(self, counted: csr_matrix, folds: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities, shape (n, K), of each row by the model of its own fold."""
        out = np.zeros((counted.shape[0], self.classes))
        for fold, model in enumerate(self.models):
            out[np.ix_(folds == fold, model.classes)] = model(counted[folds == fold])
        return out


def stratified(keys: NDArray[np.uint64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fold for each row, every class spread evenly, in whatever order the rows come.

    Args:
        keys: hashes of the texts. Rows of one text are in one fold: a copy would give away the label.
        codes: class of each row; a text with several goes by the first.
    """
    order = np.lexsort((codes, keys))
    own = order[np.r_[True, keys[order][1:] != keys[order][:-1]]] if len(order) else order
    dealt = np.empty(len(own), np.int64)
    dealt[np.lexsort((keys[own], codes[own]))] = np.arange(len(own)) % FOLDS
    return dealt[np.searchsorted(keys[own], keys)]
