"""What a compressed encoder costs: the deployed system with it, beside the same with the encoder as it was trained."""

from __future__ import annotations

from dataclasses import dataclass

from synthrec.compression.encoder import Encoder
from synthrec.evaluation import metrics, systems
from synthrec.evaluation.judgments import Query
from synthrec.evaluation.systems import Ranked
from synthrec.retrieval.bm25 import BM25
from synthrec.retrieval.hybrid import Scores


@dataclass(frozen=True)
class Judged:
    """A system with one encoder: the catalogue's vectors, the fusion's weights, its rankings."""

    vectors: Scores
    weights: dict[str, float]
    tune: Ranked
    test: Ranked

    @property
    def ndcg(self) -> dict[str, float]:
        """NDCG@10 of the queries to tune on and to test on; NaN where there are none."""
        return {name: metrics.mean(part.ndcg())[0] for name, part in (("tune", self.tune), ("test", self.test))}


@dataclass(frozen=True)
class Judge:
    """Ranks the catalogue for the judged queries with one encoder or another.

    Attributes:
        texts: of the products, in the order of their positions in `place`.
        weights: of the fusion, by language, as evaluation tuned them for the encoder as it was trained.
    """

    texts: list[str]
    place: dict[str, int]
    index: BM25
    weights: dict[str, float]
    tune: list[Query]
    test: list[Query]

    def judge(self, encoder: Encoder, vectors: Scores | None = None) -> Judged:
        """With the weights as they are where the products' vectors are given, those of the trained encoder; else with
        weights tuned for this encoder, whose cosines may lie elsewhere, if the system is a fusion."""
        given = vectors is not None
        vectors = encoder.encode(self.texts) if vectors is None else vectors
        parts = (self.tune, self.test)
        lexical = [systems.lexical(self.index, part) for part in parts]
        semantic = [
            systems.semantic(vectors, encoder.encode([query.text for query in part], query=True)) for part in parts
        ]
        weights = self.weights
        if not given and self.tune and not set(weights.values()) <= {0.0, 1.0}:
            weights = weights | systems.tune_weights(lexical[0], semantic[0], self.tune, self.place)
        ranked = [
            systems.rank(part, self.place, systems.fused(one, other, weights, part))
            for part, one, other in zip(parts, lexical, semantic, strict=True)
        ]
        return Judged(vectors, weights, *ranked)
