"""Class balance: labels that are rare are learnt badly beside very frequent ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from synthrec import schema
from synthrec.curation.base import Aids, Outcome, Row, split

Question = tuple[str, str]  # facet, language


def shares(parts: Iterable[list[Row]], aids: Aids) -> dict[tuple[Question, str], float]:
    """The share of each label's rows that is kept: none is more than `curate.max_imbalance` times as frequent as the
    rarest."""
    counts: dict[Question, Counter[str]] = {}
    for rows in parts:
        for row in rows:
            if (question := _question(row)) is not None:
                counts.setdefault(question, Counter())[row["label"]] += 1
    most = aids.config.curate.max_imbalance
    return {
        (question, label): min(1.0, most * min(found.values()) / count)
        for question, found in counts.items()
        if len(found) <= schema.FEW_LABELS  # more are texts of the shop's own, of which most are rare
        for label, count in found.items()
    }


def balanced(rows: list[Row], aids: Aids, shares: dict[tuple[Question, str], float]) -> Outcome:
    """Refuse a share of the frequent labels' rows, picked by a hash of their ids."""

    def why(row: Row) -> tuple[str, str] | None:
        question = _question(row)
        share = shares.get((question, row["label"]), 1.0) if question else 1.0
        if int(schema.row_id("balance", row["id"])[:8], 16) / 0xFFFFFFFF <= share:
            return None
        return "too many of this label", f"a share of {share:.3f} of '{row['label']}' is kept"

    return split(rows, why)


def _question(row: Row) -> Question | None:
    """Whatever the order in which its labels were offered."""
    return (row["facet"], row["language"]) if len(row["labels"] or ()) > 1 else None
