"""Round-trip consistency (Dai et al. 2022, Promptagator): a query must find the product it was written for.

It is found if either retriever has it among its first k: BM25 reads both languages, the encoder knows other words for
the same thing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.retrieval.bm25 import BM25

AT_ONCE = 256  # queries compared with the whole catalogue


def index(parts: Iterable[list[Row]], aids: Aids) -> str:
    """Encode the catalogue once, for all parts; the name of the file."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    encoder = BiEncoder.load(aids.config.curate.roundtrip_encoder)
    vectors = encoder.encode([product["text"] for product in aids.products.values()])
    data = io.BytesIO()
    np.save(data, vectors)
    aids.work.write_bytes("products.npy", data.getvalue())
    return "products.npy"


def roundtrip(rows: list[Row], aids: Aids, vectors: str) -> Outcome:
    if not rows:
        return [], []
    k = aids.config.curate.roundtrip_k
    place = {product_id: i for i, product_id in enumerate(aids.products)}
    own = np.array([place[row["product_id"]] for row in rows])
    near = _ranks(rows, own, np.load(io.BytesIO(aids.work.read_bytes(vectors))), aids) < k
    bm25 = BM25.build([product["text"] for product in aids.products.values()])
    found = {row["id"]: close or at in bm25.top(row["text"], k) for row, at, close in zip(rows, own, near, strict=True)}

    def why(row: Row) -> tuple[str, str] | None:
        if found[row["id"]]:
            return None
        return "does not find its product", f"{row['product_id']} is not among the first {k} of BM25 or the encoder"

    return split(rows, why)


def _ranks(rows: list[Row], own: NDArray[np.int64], vectors: NDArray[np.float32], aids: Aids) -> NDArray[np.int64]:
    """How many products the encoder finds nearer to each query than its own."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    encoder = BiEncoder.load(aids.config.curate.roundtrip_encoder)
    queries = encoder.encode([row["text"] for row in rows], query=True)
    ranks = []
    for start in range(0, len(rows), AT_ONCE):
        scores = queries[start : start + AT_ONCE] @ vectors.T
        mine = scores[np.arange(len(scores)), own[start : start + AT_ONCE]]
        ranks.append((scores > mine[:, None]).sum(axis=1))
    return np.concatenate(ranks)
