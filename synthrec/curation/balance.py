"""Class balance: labels that are rare are learnt badly beside very frequent ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from synthrec import schema
from synthrec.curation.base import Aids, Outcome, Row, split

Question = tuple[str, str, tuple[str, ...]]  # facet, language, labels


def shares(parts: Iterable[list[Row]], aids: Aids) -> dict[tuple[Question, str], float]:
    """The share of each label's rows that is kept: none is more than `curate.max_imbalance` times as frequent as the
    rarest."""
    counts: Counter[tuple[Question, str]] = Counter()
    for rows in parts:
        counts.update((question, row["label"]) for row in rows if (question := _question(row)))
    rarest: dict[Question, int] = {}
    for (question, _), count in counts.items():
        rarest[question] = min(count, rarest.get(question, count))
    most = aids.config.curate.max_imbalance
    return {key: min(1.0, most * rarest[key[0]] / count) for key, count in counts.items()}


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
    labels = tuple(row["labels"] or ())
    return (row["facet"], row["language"], labels) if 1 < len(labels) <= schema.FEW_LABELS else None
