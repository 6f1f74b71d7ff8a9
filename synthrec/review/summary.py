"""What the reviewers found, by task: counts and agreement, for the data card and the command line."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from synthrec.evaluation.agreement import Agreement, agreement
from synthrec.review.decisions import Decision

# Classes between reviewers, beside the labels; no label of a task begins so.
REJECTED = "\0rejected"
ACCEPTED = "\0accepted"  # of a text that the LLM wrote: what stands as its label is what was asked for, not a class


def summary(decisions: Sequence[Decision]) -> dict[str, Any]:
    """By task: rows, verdicts, kappa of the labels against the person, and kappa between each two reviewers.

    Kappa is against the label that the person was shown: one that was calibrated on these very answers would flatter.
    A task's questions, and its languages, are strata.
    Rows that were rejected have no right label and are in the counts alone. Of several reviewers, the last one's word.
    """
    by_task: dict[str, list[Decision]] = defaultdict(list)
    for one in decisions:
        by_task[one.task].append(one)
    return {task: _task(found) for task, found in sorted(by_task.items())}


def lines(found: dict[str, Any]) -> list[str]:
    """A summary in words, a line a task and a line a pair of reviewers."""
    out = []
    for task, one in found.items():
        out.append(
            f"{task}: {one['rows']} rows reviewed, {one['accepted']} accepted, {one['corrected']} corrected, "
            f"{one['rejected']} rejected, kappa {told(one['kappa'])}"
        )
        out += [f"  {' and '.join(p['who'])}: {p['rows']} rows, kappa {told(p)}" for p in one["reviewers"]]
    return out


def told(one: dict[str, Any] | None) -> str:
    """A kappa with its interval; '-' where it is not defined or makes no sense."""
    if one is None or one["kappa"] is None:
        return "-"
    return f"{one['kappa']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def _task(found: list[Decision]) -> dict[str, Any]:
    last = {one.id: one for one in found}
    verdicts = Counter(one.verdict for one in last.values())
    judged = [one for one in last.values() if one.chosen and one.gold is not None]
    seen, right = [one.seen for one in judged], [str(one.gold) for one in judged]
    return {
        "rows": len(last),
        "accepted": verdicts["accept"],
        "corrected": verdicts["correct"],
        "rejected": verdicts["reject"],
        "kappa": _plain(agreement(seen, right, [_question(one) for one in judged])) if judged else None,
        "reviewers": _pairs(found),
    }


def _pairs(found: list[Decision]) -> list[dict[str, Any]]:
    by: dict[str, dict[str, str]] = defaultdict(dict)
    questions = {one.id: _question(one) for one in found}
    for one in found:
        by[one.reviewer][one.id] = REJECTED if one.gold is None else one.gold if one.chosen else ACCEPTED
    out = []
    for a, b in combinations(sorted(by), 2):
        both = sorted(set(by[a]) & set(by[b]))
        if both:
            first, second = ([by[who][i] for i in both] for who in (a, b))
            out.append({"who": [a, b]} | _plain(agreement(first, second, [questions[i] for i in both])))
    return out


def _question(one: Decision) -> tuple[str, str]:
    return one.facet, one.language


def _plain(one: Agreement) -> dict[str, Any]:
    values = {"share": one.share, "kappa": one.kappa, "low": one.low, "high": one.high}
    return {"rows": one.rows} | {name: None if math.isnan(value) else value for name, value in values.items()}
