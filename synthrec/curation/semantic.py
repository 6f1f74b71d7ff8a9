"""Semantic duplicates of one product's texts (Abbas et al. 2023, SemDeDup): other words, one meaning to the encoder.

Only within a product: what says the same of two products is two labels.
"""

from __future__ import annotations

from itertools import groupby

from synthrec.curation.base import Aids, Outcome, Row, split

READABLE = 0.5  # a text with more unknown tokens than this share means nothing to the encoder


def semantic_duplicates(rows: list[Row], aids: Aids) -> Outcome:
    """Keep the first (by id) of a product's texts whose vectors are nearer than `curate.semantic_similarity`.

    A text that the encoder cannot read is kept: to an English encoder all Chinese is one text.
    """
    from synthrec.recommenders.bi_encoder import BiEncoder

    least = aids.config.curate.semantic_similarity
    encoder = BiEncoder.load(aids.config.curate.roundtrip_encoder)
    readable = [row for row in rows if encoder.unknown(row["text"]) <= READABLE]
    vectors = encoder.encode([row["text"] for row in readable], query=True)
    place = {row["id"]: i for i, row in enumerate(readable)}
    copies: dict[str, tuple[Row, float]] = {}
    for _, group in groupby(sorted(readable, key=_product_and_id), key=lambda row: str(row["product_id"])):
        kept: list[Row] = []
        for row in group:
            near = [(float(vectors[place[row["id"]]] @ vectors[place[one["id"]]]), one) for one in kept]
            score, nearest = max(near, key=lambda pair: pair[0], default=(-1.0, row))
            if score >= least:
                copies[row["id"]] = (nearest, score)
            else:
                kept.append(row)

    def why(row: Row) -> tuple[str, str] | None:
        if row["id"] not in copies:
            return None
        other, score = copies[row["id"]]
        return "semantic duplicate", f"of {other['id']}, which says '{other['text']}' (cosine {score:.3f})"

    return split(rows, why)


def _product_and_id(row: Row) -> tuple[str, str]:
    return str(row["product_id"]), str(row["id"])
