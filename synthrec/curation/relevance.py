"""The LLM's own second look: refuse a query whose product it scores as not fitting."""

from __future__ import annotations

from synthrec.curation.base import Aids, Refused, Row, split


def scored_relevant(rows: list[Row], aids: Aids) -> tuple[list[Row], list[Refused]]:
    """Queries that were never scored are kept."""
    least = aids.config.curate.min_relevance

    def why(row: Row) -> tuple[str, str] | None:
        score = aids.relevance.get((row["text"], row["product_id"]), 1.0)
        return None if score >= least else ("scored irrelevant", f"probability {score:.3f} < {least}")

    return split(rows, why)
