"""The LLM's own second look: refuse a query whose product it scores as not fitting."""

from __future__ import annotations

from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.curation.clean import tidy


def scored_relevant(rows: list[Row], aids: Aids) -> Outcome:
    """Queries that were never scored are kept."""
    least = aids.config.curate.min_relevance
    if not least:
        return rows, []
    scored = aids.scored({row["product_id"] for row in rows})

    def why(row: Row) -> tuple[str, str] | None:
        score = scored.get((tidy(row["text"]), row["product_id"]), 1.0)
        return None if score >= least else ("scored irrelevant", f"probability {score:.3f} < {least}")

    return split(rows, why)
