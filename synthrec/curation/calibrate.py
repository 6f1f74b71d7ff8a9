"""Take the prompt's bias out of label scores, with no gold label: a prompt leans to one label whatever the text.

- batch (Zhou et al. 2024, Batch Calibration): the lean is the mean log-probability of each label over all texts.
- contextual (Zhao et al. 2021, Calibrate Before Use): the lean is what an empty input scores. It does not depend on how
  the shop's texts are distributed, and serves for a handful of rows: with fewer than FEWEST, batch gives way to it. The
  mean of a single row is that row, and would leave nothing of what it says.

Then, where people have given right labels (`curation/gold.py`), what a fit on them shows to help.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthrec import console
from synthrec.curation.base import Aids, Outcome, Row
from synthrec.curation.clean import tidy
from synthrec.curation.gold import Calibration, Gold, fit

TASKS = ("relevance", "sentiment")
FEWEST = 10  # rows of a question whose mean tells the prompt's lean from what the texts say
Question = tuple[str, str, tuple[str, ...]]  # language, facet, labels
Leans = dict[Question, list[float]]
About = tuple[str, str, str, str]  # task, facet, text, product
# Of copies of a text one counts: they would say the same on both sides of a cross-validation.
Pairs = dict[About, tuple[list[float], int]]  # probabilities, place of the right label


@dataclass(frozen=True)
class Learnt:
    """By question: the mean log-probability of each label (empty: contextual or none), and the fit on gold labels."""

    leans: Leans
    fitted: dict[Question, Calibration]


def learn(parts: Iterable[list[Row]], aids: Aids) -> Learnt:
    """From all rows: the prompt's lean, and from those with a right label what to make of the scores after it."""
    sums: dict[Question, Any] = {}
    counts: Counter[Question] = Counter()
    if aids.config.curate.calibration == "batch":
        for rows in parts:
            for question, group in _by_question(rows).items():
                sums[question] = sums.get(question, 0.0) + _logs(group).sum(axis=0)
                counts[question] += len(group)
    for (language, facet, _), count in counts.items():
        if count < FEWEST:
            console.say(f"    calibration, {language} {facet or ''}: {count} rows are too few for the batch's mean")
    leans = {
        question: (total / counts[question]).tolist() for question, total in sums.items() if counts[question] >= FEWEST
    }
    return Learnt(leans, _fitted(parts, aids, leans))


def _fitted(parts: Iterable[list[Row]], aids: Aids, leans: Leans) -> dict[Question, Calibration]:
    gold = aids.gold()
    right = _right(parts, aids, leans, gold) if gold else {}
    found = {}
    for question, pairs in right.items():
        probs, places = zip(*pairs.values(), strict=True)
        one = fit(np.array(probs), np.array(places))
        console.say(f"    calibration from gold labels, {question[0]} {question[1] or ''}: {one.reason}")
        found[question] = one.calibration
    return found


def _right(parts: Iterable[list[Row]], aids: Aids, leans: Leans, gold: list[Gold]) -> dict[Question, Pairs]:
    """The rows whose right label is known, by question."""
    by_id = {one.id: one.label for one in gold if one.id}
    by_text = {_about(one.task, one.facet, one.text, one.product_id): one.label for one in gold if not one.id}
    right: dict[Question, Pairs] = {}
    tasks, used = set(), set()
    for rows in parts:
        for row in calibrated(rows, aids, Learnt(leans, {}))[0]:
            exactly = _about(row["task"], row["facet"], row["text"], row.get("product_id") or "")
            key = exactly if exactly in by_text else (*exactly[:3], "")
            label = by_id.get(row["id"], by_text.get(key))
            tasks.add(row["task"])
            if label in row["labels"]:
                used.add(key)
                pair = row["scores"], row["labels"].index(label)
                right.setdefault(_question(row), {}).setdefault(exactly, pair)
    if lost := sum(key[0] in tasks and key not in used for key in by_text):
        console.warn(f"{lost} lines of curate.gold say nothing of any label: compare their facet, text and label")
    return right


def _about(task: str, facet: str, text: str, product: str) -> About:
    return task, facet, tidy(text), product


def calibrated(rows: list[Row], aids: Aids, learnt: Learnt) -> Outcome:
    """Rows with labels and probabilities calibrated within their question, as `curate.calibration` says.

    Needs no refusal.
    """
    out: list[Row] = []
    for question, group in _by_question(rows).items():
        fitted = learnt.fitted.get(question, Calibration())
        out += _calibrated(group, aids.config.curate.calibration, learnt.leans.get(question), fitted)
    return out, []


def _question(row: Row) -> Question:
    return row["language"], row["facet"], tuple(row["labels"])


def _by_question(rows: list[Row]) -> dict[Question, list[Row]]:
    groups: dict[Question, list[Row]] = {}
    for row in rows:
        groups.setdefault(_question(row), []).append(row)
    return groups


def _logs(rows: list[Row]) -> NDArray[np.float64]:
    return np.log(np.clip(np.array([row["scores"] for row in rows], np.float64), 1e-12, 1.0))


def _calibrated(rows: list[Row], how: str, lean: list[float] | None, fitted: Calibration) -> list[Row]:
    if how == "none" and fitted.kind == "none":
        return rows
    logs = _logs(rows)
    if lean is not None:
        logs -= np.array(lean)
    elif how != "none":
        logs -= np.array([row["prior"] or [0.0] * len(row["labels"]) for row in rows], np.float64)
    logs -= logs.max(axis=1, keepdims=True)
    probs = fitted(np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True))
    labels = rows[0]["labels"]
    out = []
    for row, prob in zip(rows, probs.tolist(), strict=True):
        best = max(range(len(prob)), key=prob.__getitem__)
        out.append(row | {"scores": prob, "score": prob[best], "label": labels[best]})
        if not math.isfinite(prob[best]):
            raise ValueError(f"label {row['id']} has no finite score")
    return out
