"""Round-trip consistency (Dai et al. 2022, Promptagator): a query must find the product it was written for.

It is found if either retriever has it among its first k: BM25 reads both languages, the encoder knows other words for
the same thing.
"""

from __future__ import annotations

import numpy as np

from synthrec.curation.base import Aids, Refused, Row, split
from synthrec.retrieval.bm25 import BM25


def roundtrip(rows: list[Row], aids: Aids) -> tuple[list[Row], list[Refused]]:
    from synthrec.recommenders.bi_encoder import BiEncoder

    if not rows:
        return [], []
    k = min(aids.config.curate.roundtrip_k, len(aids.products))
    ids = list(aids.products)
    texts = [product["text"] for product in aids.products.values()]
    place = {product_id: i for i, product_id in enumerate(ids)}
    encoder = BiEncoder.load(aids.config.curate.roundtrip_encoder)
    vectors = encoder.encode(texts, tick=aids.meter.advance)
    queries = encoder.encode([row["text"] for row in rows], query=True, tick=aids.meter.advance)
    near = {row["id"]: np.argpartition(-(vectors @ q), k - 1)[:k] for row, q in zip(rows, queries, strict=True)}
    bm25 = BM25.build(texts)

    def why(row: Row) -> tuple[str, str] | None:
        own = place[row["product_id"]]
        if own in near[row["id"]] or own in bm25.top(row["text"], k):
            return None
        return "does not find its product", f"{row['product_id']} is not among the first {k} of BM25 or the encoder"

    return split(rows, why)
