"""Take the prompt's bias out of label scores, with no gold label: a prompt leans to one label whatever the text.

- batch (Zhou et al. 2024, Batch Calibration): the lean is the mean log-probability of each label over all texts.
- contextual (Zhao et al. 2021, Calibrate Before Use): the lean is what an empty input scores. It does not depend on how
  the shop's texts are distributed, and serves for a handful of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from synthrec.curation.base import Aids, Outcome, Row

Question = tuple[str, str, tuple[str, ...]]  # language, facet, labels
Leans = dict[Question, list[float]]


def leans(parts: Iterable[list[Row]], aids: Aids) -> Leans:
    """The mean log-probability of each label, by question; nothing where it is not asked for."""
    if aids.config.curate.calibration != "batch":
        return {}
    sums: dict[Question, NDArray[np.float64]] = {}
    counts: dict[Question, int] = {}
    for rows in parts:
        for question, group in _by_question(rows).items():
            sums[question] = sums.get(question, 0.0) + _logs(group).sum(axis=0)
            counts[question] = counts.get(question, 0) + len(group)
    return {question: (total / counts[question]).tolist() for question, total in sums.items()}


def calibrated(rows: list[Row], aids: Aids, leans: Leans) -> Outcome:
    """Rows with labels and probabilities calibrated within their question, as `curate.calibration` says.

    Needs no refusal.
    """
    how = aids.config.curate.calibration
    if how == "none":
        return rows, []
    groups = _by_question(rows)
    return [row for question, group in groups.items() for row in _calibrated(group, leans.get(question))], []


def _by_question(rows: list[Row]) -> dict[Question, list[Row]]:
    groups: dict[Question, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["language"], row["facet"], tuple(row["labels"])), []).append(row)
    return groups


def _logs(rows: list[Row]) -> NDArray[np.float64]:
    return np.log(np.clip(np.array([row["scores"] for row in rows], np.float64), 1e-12, 1.0))


def _calibrated(rows: list[Row], lean: list[float] | None) -> list[Row]:
    logs = _logs(rows)
    if lean is None:  # contextual
        logs -= np.array([row["prior"] or [0.0] * len(row["labels"]) for row in rows], np.float64)
    else:
        logs -= np.array(lean)
    logs -= logs.max(axis=1, keepdims=True)
    probs = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    labels = rows[0]["labels"]
    out = []
    for row, prob in zip(rows, probs.tolist(), strict=True):
        best = max(range(len(prob)), key=prob.__getitem__)
        out.append(row | {"scores": prob, "score": prob[best], "label": labels[best]})
        if not math.isfinite(prob[best]):
            raise ValueError(f"label {row['id']} has no finite score")
    return out
