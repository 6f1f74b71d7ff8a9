"""One run of the sequential model through the training loop, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from synthrec import console
from synthrec.evaluation.recommendation import judge
from synthrec.evaluation.splits import Cases, Items
from synthrec.recommenders.items import Features
from synthrec.recommenders.sequential import Sequential, Shape
from synthrec.training import loop
from synthrec.training.behaviour import held, weights
from synthrec.training.checkpoints import Checkpoints

SYNTHETIC = 1.0  # what all synthetic steps count together, at most, over all real ones


@dataclass(frozen=True)
class Recipe:
    """How the model is made and trained."""

    shape: Shape
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.0
    decay: bool = False
    patience: int | None = None


def fit(
    train: Sequence[Items],
    items: int,
    recipe: Recipe,
    seed: int,
    epochs: int,
    keep: Checkpoints | None = None,
    validate: Callable[[Sequential], float] | None = None,
    features: Features | None = None,
    synthetic: Sequence[Items] = (),
) -> Sequential:
    """Train from `keep`'s last checkpoint, or from the start; the model of the best epoch, or of the last."""
    torch.manual_seed(seed)
    model = Sequential(held(train, items), recipe.shape, features, held(synthetic, items))
    kinds = zip((train, synthetic), weights(train, synthetic, SYNTHETIC), strict=True)
    rows = [(one, counts) for some, counts in kinds for one in some if len(one) > 1]
    plan = loop.Plan(
        len(rows), recipe.batch_size, epochs, recipe.warmup, seed, decay=recipe.decay, patience=recipe.patience
    )
    with console.meter("train", plan.steps(1) * epochs, "steps") as meter:

        def report(metrics: dict[str, Any], save: Callable[[Path], None]) -> None:
            if keep is not None:
                keep(metrics, save)

        loop.train(
            lambda batch: model.loss(*zip(*(rows[i] for i in batch), strict=True)),
            model,
            model.parameter_groups(recipe.learning_rate, recipe.weight_decay),
            plan,
            Accelerator(cpu=True),
            report,
            lambda step, loss: meter.advance(step - meter.done, f"loss {loss:.3f}"),
            None if keep is None else keep.last,
            None if validate is None else lambda: validate(model),
        )
    if keep is not None and keep.best is not None:
        model.load_state_dict(loop.read(keep.best)["model"])
    return model


def some(cases: Cases, count: int) -> Cases:
    """A fixed sample: what is validated on after every epoch."""
    picked = np.sort(np.random.default_rng(0).permutation(len(cases))[:count])
    return Cases(cases.users[picked], [cases.histories[i] for i in picked], [cases.targets[i] for i in picked])


def ndcg(model: Sequential, cases: Cases, train: Sequence[Items]) -> float:
    """NDCG@10, ranking all items but those viewed."""
    return float(judge(model, cases, train, True, (10,)).by_case["ndcg@10"].mean())
