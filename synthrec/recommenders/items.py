"""What an item is to a model of sequences: an embedding of its own, frozen features of its text or image, or both."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Features = NDArray[np.float32]


class Items(nn.Module):
    """Vectors of items, (items, width).

    A cold item, one that no shopper took in what is learnt from, has no embedding of its own: its part is zero and
    stays zero. What is known of it are its features.

    Args:
        known: (items,) whether the item occurs in what is learnt from.
        features: (items, any width) of frozen encoders; several, as of text and image, side by side in the columns.
        ids: whether a known item also has an embedding of its own.
        unit: whether vectors are brought to length 1. What is often taken then wins by direction, not by length.
        guests: whether learning asks for cold items, too; no gradient may reach their embeddings then.
    """

    known: Tensor
    features: Tensor

    def __init__(
        self,
        known: NDArray[np.bool_],
        width: int,
        ids: bool,
        features: Features | None,
        unit: bool = False,
        guests: bool = False,
    ) -> None:
        super().__init__()
        if not ids and features is None:
            raise ValueError("an item needs an embedding of its own, features, or both")
        if features is not None and len(features) != len(known):
            raise ValueError(f"{len(features)} rows of features for {len(known)} items")
        if features is not None and not (finite := np.isfinite(features).all(1)).all():
            raise ValueError(
                f"features of item {finite.argmin()}, and {(~finite).sum() - 1} more, are not finite numbers"
            )
        self.count, self.width, self.unit, self.guests = len(known), width, unit, guests
        self.register_buffer("known", torch.from_numpy(known.copy()))
        self.ids = nn.Embedding(len(known), width) if ids else None
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=0.02)
            with torch.no_grad():
                self.ids.weight[~self.known] = 0
        self.adaptor: Adaptor | None = None
        if features is not None:
            self.adaptor = Adaptor(features.shape[1], width)
            self.adaptor.whitening.fit(features)
            self.set_features(features)

    def set_features(self, features: Features) -> None:
        """Features as their encoder made them; they are kept whitened, apart from the weights that are learnt."""
        assert self.adaptor is not None
        with torch.inference_mode():
            white = self.adaptor.whitening(torch.from_numpy(np.ascontiguousarray(features, np.float32)))
        self.register_buffer("features", white.clone(), persistent=False)

    def forward(self, which: Tensor | None = None) -> Tensor:
        """Vectors of the items numbered `which` (n,), or of all: (n, width)."""
        parts = []
        if self.ids is not None:
            own = self.ids.weight if which is None else self.ids(which)
            if self.guests:
                own = own * (self.known if which is None else self.known[which])[:, None]
            parts.append(own)
        if self.adaptor is not None:
            parts.append(self.adaptor(self.features if which is None else self.features[which]))
        whole = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return functional.normalize(whole, dim=-1) if self.unit else whole

    def knowable(self) -> Tensor:
        """(items,): of which there is anything to go by."""
        return self.known if self.adaptor is None else torch.ones_like(self.known)


class Adaptor(nn.Module):
    """Whitened features -> the width of the model, by a small network."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.whitening = Whitening(features)
        self.layers = nn.Sequential(nn.Linear(features, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, white: Tensor) -> Tensor:
        return self.layers(white)  # type: ignore[no-any-return]


class Whitening(nn.Module):
    """ZCA: features turned into uncorrelated ones of variance 1 that are nearest to what they were (Kessy et al. 2018).

    Vectors of a language model crowd in a few directions; whitened, they tell items apart (Zhang et al. 2024).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    def fit(self, features: Features, least: float = 1e-4) -> None:
        """Learn from (n, width). Directions with less than `least` of the greatest variance are left out as noise."""
        mean = features.mean(0, dtype=np.float64)
        centred = features.astype(np.float64) - mean
        values, vectors = np.linalg.eigh(centred.T @ centred / len(features))
        scale = np.where(values > least * values.max(), 1 / np.sqrt(np.maximum(values, 1e-30)), 0.0)
        self.mean.copy_(torch.from_numpy(mean))
        self.matrix.copy_(torch.from_numpy((vectors * scale) @ vectors.T))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.matrix
