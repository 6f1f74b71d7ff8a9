"""Duplicates of one product's queries: the same words, in whatever order."""

from __future__ import annotations

from synthrec.curation.base import Aids, Outcome, Row, split
from synthrec.retrieval.tokens import words


def duplicates(rows: list[Row], aids: Aids) -> Outcome:
    """Keep the first (by id, so that any order of files gives the same) of a product's queries with the same words."""
    first: dict[tuple[str, frozenset[str]], Row] = {}

    def why(row: Row) -> tuple[str, str] | None:
        key = (row["product_id"], frozenset(words(row["text"])) or frozenset([row["text"]]))
        kept = first.setdefault(key, row)
        return None if kept is row else ("duplicate", f"says what '{kept['text']}' says, of {row['product_id']} too")

    return split(sorted(rows, key=lambda row: row["id"]), why)
