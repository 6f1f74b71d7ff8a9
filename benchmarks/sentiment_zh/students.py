"""Students: the project's classifier, trained by its loop on labels that others gave, and what it gives others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from synthrec import console
from synthrec.recommenders.classifier import Classifier
from synthrec.recommenders.features import Features
from synthrec.training import loop

Soft = NDArray[np.float32]  # (rows, labels) probabilities; a row of NaN is not labelled


@dataclass(frozen=True)
class Settings:
    """How a student is trained; none of it was chosen by a gold label."""

    width: int = 0
    weights: Mapping[str, float] | None = None  # None: learnt, which one task alone cannot be
    batch_size: int = 64
    epochs: int = 10
    rate: float = 5e-3
    dropout: float = 0.3
    seed: int = 13


def fit(
    features: Features, targets: Mapping[str, Soft], tasks: Mapping[str, Sequence[str]], how: Settings = Settings()
) -> Classifier:
    """A classifier of these tasks, trained on those of the rows that have a label of any."""
    labelled = np.flatnonzero(np.any([~np.isnan(soft[:, 0]) for soft in targets.values()], axis=0))
    features = features.take(labelled)
    targets = {name: soft[labelled] for name, soft in targets.items()}
    torch.manual_seed(how.seed)
    states = 0 if features.states is None else features.states.shape[1]
    buckets = 0 if features.ngrams is None else features.ngrams.shape[1]
    model = Classifier(tasks, states, buckets, how.width, how.dropout, how.weights)
    if features.states is not None:
        model.standardise(features.states)
    plan = loop.Plan(len(features), min(how.batch_size, len(features)), how.epochs, warmup=0.1, seed=how.seed)

    def loss(rows: list[int]) -> torch.Tensor:
        return model.loss(features.batch(rows) | {name: soft[rows] for name, soft in targets.items()})

    groups: list[dict[str, Any]] = [{"params": list(model.parameters()), "lr": how.rate}]
    losses: list[float] = []
    accelerator = Accelerator(cpu=True)
    loop.train(loss, model, groups, plan, accelerator, lambda m, _: losses.append(m["loss"]), lambda *_: None)
    console.say(f"    a student of {len(features)} rows: loss {losses[0]:.3f} to {losses[-1]:.3f}")
    return model
