"""Students: the project's classifier, trained by its loop on labels that others gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from synthrec import console
from synthrec.recommenders.classifier import Classifier
from synthrec.recommenders.features import Features
from synthrec.training import loop

BATCH, EPOCHS, RATE, DROPOUT = 32, 12, 5e-3, 0.3
Soft = NDArray[np.float32]  # (rows, labels) probabilities; a row of NaN is not labelled


def fit(
    features: Features,
    targets: Mapping[str, Soft],
    tasks: Mapping[str, Sequence[str]],
    width: int = 0,
    weights: Mapping[str, float] | None = None,
    seed: int = 13,
) -> Classifier:
    """A classifier of these tasks, trained on these rows."""
    torch.manual_seed(seed)
    states = 0 if features.states is None else features.states.shape[1]
    buckets = 0 if features.ngrams is None else features.ngrams.shape[1]
    model = Classifier(tasks, states, buckets, width, DROPOUT, weights)
    if features.states is not None:
        model.standardise(features.states)
    plan = loop.Plan(rows=len(features), batch_size=min(BATCH, len(features)), epochs=EPOCHS, warmup=0.1, seed=seed)

    def loss(rows: list[int]) -> torch.Tensor:
        return model.loss(features.batch(rows) | {name: soft[rows] for name, soft in targets.items()})

    groups: list[dict[str, Any]] = [{"params": list(model.parameters()), "lr": RATE}]
    last: list[float] = []
    accelerator = Accelerator(cpu=True)
    loop.train(loss, model, groups, plan, accelerator, lambda m, _: last.append(m["loss"]), lambda step, value: None)
    console.say(f"    student of {len(features)} rows: loss {last[0]:.3f} to {last[-1]:.3f}")
    return model
