"""Batch calibration (Zhou et al. 2024): take the prompt's bias out of label scores, with no gold label.

A few-shot prompt leans to one label whatever the text. The lean shows in the mean log-probability of each label over
the whole batch; taking that mean away balances the labels.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from synthrec.curation.base import Aids, Refused, Row
from synthrec.tasks import TASKS


def batch_calibration(rows: list[Row], aids: Aids) -> tuple[list[Row], list[Refused]]:
    """Rows with scores, labels and probabilities calibrated within their language. Needs no refusal."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["language"]].append(row)
    return [row for group in groups.values() for row in _calibrated(group)], []


def _calibrated(rows: list[Row]) -> list[Row]:
    logs = np.log(np.clip(np.array([row["scores"] for row in rows], np.float64), 1e-12, 1.0))
    logs -= logs.mean(axis=0)
    probs = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    labels = TASKS[rows[0]["task"]].labels
    out = []
    for row, prob in zip(rows, probs.tolist(), strict=True):
        best = max(range(len(prob)), key=prob.__getitem__)
        out.append(row | {"scores": prob, "score": prob[best], "label": labels[best]})
        if not math.isfinite(prob[best]):
            raise ValueError(f"label {row['id']} has no finite score")
    return out
