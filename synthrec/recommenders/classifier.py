"""Multi-task classifier: a head for each task (sentiment, intent, relevance, ...) over features that all of them share.

The features are frozen (`features.py`). With a width, a trainable trunk stands between them and the heads, and each
task learns from the labels of the others (Caruana 1997, Multitask Learning); without one the heads are linear. Labels
are soft: a probability for each class, so that a weak label teaches no more than it knows. Knows nothing of Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synthrec.recommenders.base import Gather
from synthrec.recommenders.features import Features, ngrams

WEIGHTS, SHAPE = "classifier.safetensors", "classifier.json"


class Classifier(nn.Module):
    """Args:
    tasks: name -> labels.
    states: width of the dense features, standardised here; 0: none.
    buckets: of the hashed n-grams; 0: none.
    width: of the trunk; 0: no trunk.
    dropout: of the features' and the trunk's values.
    weights: of the tasks' losses. None: learnt, as the inverse of each task's noise (Kendall et al. 2018, Multi-Task
        Learning Using Uncertainty to Weigh Losses).
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        tasks: Mapping[str, Sequence[str]],
        states: int = 0,
        buckets: int = 0,
        width: int = 0,
        dropout: float = 0.0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not states and not buckets:
            raise ValueError("a classifier needs features: states, n-grams or both")
        self.tasks = {name: list(labels) for name, labels in tasks.items()}
        self.shape = {"states": states, "buckets": buckets, "width": width, "dropout": dropout}
        self.weights = None if weights is None else {name: float(weights[name]) for name in self.tasks}
        classes = sum(map(len, self.tasks.values()))
        out = width or classes
        self.register_buffer("mean", torch.zeros(states))
        self.register_buffer("scale", torch.ones(states))
        self.dense = nn.Linear(states, out) if states else None
        self.ngrams = nn.EmbeddingBag(buckets, out, mode="sum") if buckets else None
        if self.ngrams is not None:
            nn.init.zeros_(self.ngrams.weight)  # an n-gram that was never seen says nothing
        self.head = nn.Linear(width, classes) if width else None
        self.dropout = nn.Dropout(dropout)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks))) if weights is None else None

    def standardise(self, states: NDArray[np.float32]) -> None:
        """Take the states' mean and deviation, column by column, from the rows to be trained on, labelled or not."""
        deviation = states.std(0)
        self.mean.copy_(torch.from_numpy(states.mean(0)))
        self.scale.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1)))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Logits of each task, (rows, labels).

        Args:
            batch: `states`, (rows, width); `ngrams`, of each row the numbers of its buckets. Other keys are not read.
        """
        parts = []
        device = self.mean.device
        if self.dense is not None:
            states = (torch.as_tensor(batch["states"], dtype=torch.float32, device=device) - self.mean) / self.scale
            # Without a trunk as many inputs as there are would swamp a step's first gradients: bring them to length 1.
            parts.append(self.dense(self.dropout(states) / len(self.mean) ** 0.5))
        if self.ngrams is not None:
            parts.append(self._bags(batch["ngrams"], device))
        hidden = torch.stack(parts).sum(0)
        if self.head is not None:
            hidden = self.head(self.dropout(nn.functional.gelu(hidden)))
        return dict(zip(self.tasks, hidden.split([len(labels) for labels in self.tasks.values()], dim=1), strict=True))

    def _bags(self, rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
        """Each row's sum over its n-grams, divided by the root of their number; an empty row gives zeros."""
        assert self.ngrams is not None
        sizes = torch.tensor([len(row) for row in rows], device=device)
        flat = torch.from_numpy(np.concatenate([np.asarray(row, np.int64) for row in rows])).to(device)
        share = self.dropout(torch.ones(len(flat), device=device))
        weights = share / sizes.clamp(min=1).sqrt().repeat_interleave(sizes)
        return self.ngrams(flat, sizes.cumsum(0) - sizes, per_sample_weights=weights)

    def losses(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of each task over its labelled rows, 0 where it has none, and which tasks have some.

        Args:
            batch: features, and by task each row's probabilities of the labels; None, or NaN, where it has no label.
        """
        found, some = [], []
        for name, logits in self(batch).items():
            wanted = _targets(batch.get(name), logits)
            known = ~wanted.isnan().any(1)
            cross = -(wanted.nan_to_num() * logits.log_softmax(1)).sum(1)
            found.append((cross * known).sum() / known.sum().clamp(min=1))
            some.append(known.any())
        return torch.stack(found), torch.stack(some)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The tasks' losses, weighted and added up."""
        losses, known = self.losses(batch)
        if self.log_variance is None:
            assert self.weights is not None
            return (losses * torch.tensor(list(self.weights.values()), device=losses.device)).sum()
        return (losses * (-self.log_variance).exp() + self.log_variance / 2 * known).sum()

    def predict(self, features: Features, batch_size: int = 512) -> dict[str, NDArray[np.float32]]:
        """Probabilities of each task's labels, (rows, labels)."""
        self.eval()
        found: dict[str, list[Any]] = {name: [] for name in self.tasks}
        with torch.inference_mode():
            for start in range(0, len(features), batch_size):
                for name, logits in self(features.batch(range(start, min(start + batch_size, len(features))))).items():
                    found[name].append(logits.softmax(1).cpu().numpy())
        return {
            name: np.concatenate(parts) if parts else np.zeros((0, len(self.tasks[name])), np.float32)
            for name, parts in found.items()
        }

    def of_texts(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """`predict` for texts, where hashed n-grams are all that the classifier reads."""
        return self.predict(Features(ngrams=ngrams(texts, buckets=int(self.shape["buckets"]))))

    def save(self, folder: Path) -> None:
        save_file({name: one.contiguous() for name, one in self.state_dict().items()}, folder / WEIGHTS)
        (folder / SHAPE).write_text(json.dumps({"tasks": self.tasks, "weights": self.weights} | self.shape))

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        made = cls(**json.loads((folder / SHAPE).read_text()))
        made.load_state_dict(load_file(folder / WEIGHTS))
        return made


class Objective(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss."""

    def __init__(self, classifier: Classifier, learning_rate: float) -> None:
        super().__init__()
        self.classifier, self.rate = classifier, learning_rate

    @classmethod
    def start(cls, folder: Path, settings: dict[str, Any], gather: Gather) -> Objective:
        """`settings`: learning_rate. The ranks have nothing to gather."""
        return cls(Classifier.load(folder), settings["learning_rate"])

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        return self.classifier.loss(batch)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.classifier.parameters()), "lr": self.rate}]

    def save(self, folder: Path) -> None:
        self.classifier.save(folder)


def _targets(rows: Any, logits: Tensor) -> Tensor:
    """Soft labels as a tensor of the logits' shape; NaN where a row has none."""
    nothing = [float("nan")] * logits.shape[1]
    if rows is None:
        rows = [nothing] * len(logits)
    elif not isinstance(rows, Tensor | np.ndarray):
        rows = [nothing if row is None else row for row in rows]
    return torch.as_tensor(rows, dtype=torch.float32, device=logits.device)
