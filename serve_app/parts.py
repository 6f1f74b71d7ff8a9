"""What a bundle may hold beside search, each loaded where its folder is there, None where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthrec.bundle import Bundle
from synthrec.recommenders.brands import Brands, mean
from synthrec.retrieval.index import best

Floats = NDArray[np.float32]
NAMES = ("recommender", "reranker", "classifier", "replies", "brands")


@dataclass(frozen=True)
class Parts:
    """`brands` is always there: without the part it is the mean of each brand's products."""

    recommender: Any
    reranker: Any
    classifier: Any
    replies: Any
    brands: BrandIndex | BrandMeans
    names: list[str]

    @classmethod
    def load(cls, bundle: Bundle) -> Parts:
        """Heavy imports happen only for what is there."""
        folders = {name: bundle.path / name for name in NAMES}
        there = {name for name, folder in folders.items() if folder.is_dir()}
        found: dict[str, Any] = dict.fromkeys(NAMES)
        if "recommender" in there:
            from synthrec.recommenders import ready

            found["recommender"] = ready.load(bundle.manifest["recommender"]["system"], folders["recommender"])
        if "reranker" in there:
            from synthrec.recommenders.cross_encoder import CrossEncoder

            found["reranker"] = CrossEncoder.load(str(folders["reranker"]))
        if "classifier" in there:
            from synthrec.recommenders.classifier import Classifier

            found["classifier"] = Classifier.load(folders["classifier"])
        if "replies" in there:
            from synthrec.recommenders.replies import Replies

            found["replies"] = Replies.load(folders["replies"])
        found["brands"] = BrandIndex(Brands.load(folders["brands"])) if "brands" in there else BrandMeans.of(bundle)
        return cls(**found, names=[name for name in NAMES if name in there])


@dataclass(frozen=True)
class BrandIndex:
    """Brands by what is said of them and what they sell."""

    brands: Brands

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        """Names and scores; the query may be empty where only the vector counts."""
        index = self.brands.index
        return best(index.ids, index.scores(query, vector), k)

    def about(self, name: str) -> str | None:
        index = self.brands.index
        return index.texts[index.ids.index(name)] or None


@dataclass(frozen=True)
class BrandMeans:
    """Brands as the mean of their products' vectors, shape (brands, width)."""

    names: list[str]
    vectors: Floats

    @classmethod
    def of(cls, bundle: Bundle) -> BrandMeans:
        rows: dict[str, list[int]] = {}
        for place, brand in enumerate(bundle.catalogue["brand"].to_pylist()):
            if brand:
                rows.setdefault(brand, []).append(place)
        vectors = [mean(bundle.hybrid.vectors[places]) for places in rows.values()]
        width = bundle.hybrid.vectors.shape[1]
        return cls(list(rows), np.stack(vectors) if vectors else np.zeros((0, width), np.float32))

    def top(self, query: str, vector: Floats, k: int) -> list[tuple[str, float]]:
        return best(self.names, self.vectors @ vector, k)

    def about(self, name: str) -> str | None:
        return None


def labels(classifier: Any, texts: Sequence[str]) -> dict[str, Floats]:
    """Probabilities of each task's labels, (texts, labels)."""
    from synthrec.recommenders.features import Features, ngrams

    return classifier.predict(Features(ngrams=ngrams(texts, buckets=classifier.shape["buckets"])))
