"""Take the prompt's bias out of label scores, with no gold label: a prompt leans to one label whatever the text.

- batch (Zhou et al. 2024, Batch Calibration): the lean is the mean log-probability of each label over all texts.
- contextual (Zhao et al. 2021, Calibrate Before Use): the lean is what an empty input scores. It does not depend on how
  the shop's texts are distributed, and serves for a handful of rows.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from synthrec.curation.base import Aids, Refused, Row


def calibrated(rows: list[Row], aids: Aids) -> tuple[list[Row], list[Refused]]:
    """Rows with labels and probabilities calibrated within their question, as `curate.calibration` says.

    Needs no refusal.
    """
    how = aids.config.curate.calibration
    if how == "none":
        return rows, []
    groups: dict[tuple[str, str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["language"], row["facet"], tuple(row["labels"])].append(row)
    return [row for group in groups.values() for row in _calibrated(group, how)], []


def _calibrated(rows: list[Row], how: str) -> list[Row]:
    logs = np.log(np.clip(np.array([row["scores"] for row in rows], np.float64), 1e-12, 1.0))
    if how == "batch":
        logs -= logs.mean(axis=0)
    else:
        logs -= np.array([row["prior"] or [0.0] * len(row["labels"]) for row in rows], np.float64)
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
