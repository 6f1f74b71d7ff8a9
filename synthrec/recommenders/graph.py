"""LightGCN: shoppers and items as vectors, smoothed over the graph of who took what (He et al. 2020).

The score is the dot product. Learnt by Bayesian personalised ranking (Rendle et al. 2009): what a shopper took before
what they did not. It knows only what is in the graph: an item that nobody took has no score. Knows nothing of Ray.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import embedding, softplus

from synthrec.recommenders.base import Batch, Cases, Gather, Items

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

SPREAD = 0.1  # standard deviation of the vectors at the start


class LightGCN(nn.Module):
    """Vectors of `users` and then `items`, numbered from 0, one row each in `base`; all else follows from the graph.

    Args:
        pairs: (n, 2): user and item of each interaction, each pair once.
        layers: steps of propagation, at least one; the final vectors are the mean over all, the base among them.
        l2: weight of the squared length of the base vectors, as in the paper.
        draws: items drawn for each pair, of which the one that scores highest is the negative: dynamic negative
            sampling (Zhang et al. 2013). With one it is the paper's uniform sampling.
    """

    # Buffers.
    pairs: Tensor
    keys: Tensor
    degrees: Tensor
    sold: Tensor
    starts: Tensor
    columns: Tensor
    weights: Tensor

    def __init__(
        self, pairs: Items, users: int, items: int, width: int = 64, layers: int = 3, l2: float = 1e-4, draws: int = 1
    ) -> None:
        super().__init__()
        self.users, self.items, self.layers, self.l2, self.draws = users, items, layers, l2, draws
        self.base = nn.Parameter(torch.randn(users + items, width) * SPREAD)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        degrees = np.bincount(np.concatenate([pairs[:, 0], pairs[:, 1] + users]), minlength=users + items)
        graph = {"pairs": pairs, "keys": pairs[:, 0] * items + pairs[:, 1], "degrees": degrees}
        graph["sold"] = np.flatnonzero(degrees[users:])
        for name, values in (graph | _adjacency(pairs, degrees, users)).items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    @classmethod
    def of(cls, train: Sequence[Items], items: int, **settings: Any) -> LightGCN:
        """From each shopper's items, by the shopper's number; an item taken twice counts once."""
        rows = np.repeat(np.arange(len(train)), [len(one) for one in train])
        pairs = np.stack([rows, np.concatenate([*train, np.zeros(0, np.int64)])], 1)
        return cls(np.unique(pairs, axis=0), len(train), items, **settings)

    @torch.no_grad()
    def start_from(self, vectors: NDArray[np.float32]) -> None:
        """Start the items where their texts lie, and each shopper amid what they took; the graph does the rest.

        Args:
            vectors: (items, any width) of the items' texts. Their principal components become the first columns of the
                base, in the spread of a random start; columns that are more than they have stay random.
        """
        centred = torch.from_numpy(vectors).to(self.base).sub_(torch.from_numpy(vectors).to(self.base).mean(0))
        left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
        many = min(self.base.shape[1], int((sizes > sizes[0] * 1e-6).sum()))
        placed = left[:, :many] * sizes[:many]
        self.base[self.users :, :many] = placed * (SPREAD / placed.std())
        user, item = self.pairs.T
        sums = torch.zeros_like(self.base[: self.users]).index_add_(0, user, self.base[self.users + item])
        known = self.degrees[: self.users] > 0
        self.base[: self.users][known] = (sums / self.degrees[: self.users, None].clamp(min=1))[known]

    @classmethod
    def load(cls, folder: Path) -> LightGCN:
        """What `save` wrote, graph and all."""
        tensors = load_file(folder / "lightgcn.safetensors")
        model = cls(tensors["pairs"].numpy(), **json.loads((folder / "lightgcn.json").read_text()))
        with torch.no_grad():
            model.base.copy_(tensors["base"])
        return model

    def save(self, folder: Path) -> None:
        """Base vectors and graph as safetensors, settings as JSON: no pickle."""
        save_file({"base": self.base.detach(), "pairs": self.pairs}, folder / "lightgcn.safetensors")
        names = ("users", "items", "layers", "l2", "draws")
        settings = {name: getattr(self, name) for name in names} | {"width": self.base.shape[1]}
        (folder / "lightgcn.json").write_text(json.dumps(settings))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """No weight decay: the loss has its own, of the vectors in the batch only."""
        return [{"params": [self.base], "lr": learning_rate, "weight_decay": 0.0}]

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Final vectors of users (users, width) and items (items, width)."""
        with torch.autocast(self.base.device.type, enabled=False):  # sparse products are in float32
            final = _Propagate.apply(self.base, self._graph(), self.layers)  # type: ignore[no-untyped-call]
        return final[: self.users], final[self.users :]

    def loss(self, batch: Batch) -> Tensor:
        """BPR of interactions, each against one item that its shopper did not take.

        The whole graph is propagated once a batch, so large batches are cheap. Where a shopper took all that was drawn,
        there is no loss.

        Args:
            batch: `user` and `item`, numbers.
        """
        user, item = (torch.as_tensor(batch[name], device=self.base.device) for name in ("user", "item"))
        users, items = self.vectors()
        own = embedding(user, users)
        other, valid = self._negatives(user, own.detach(), items.detach())
        wanted = (own * embedding(item, items)).sum(1)
        margin = wanted - (own * embedding(other, items)).sum(1)
        base = embedding(torch.cat([user, item + self.users, other + self.users]), self.base)
        return (softplus(-margin) * valid).mean() + self.l2 / 2 * base.square().sum() / len(user)

    def _negatives(self, user: Tensor, own: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) an item for each shopper, the highest-scored of its draws, and (b,) whether it is a negative at all."""
        drawn = self.sold[torch.randint(len(self.sold), (len(user), self.draws), device=user.device)]
        keys = user[:, None] * self.items + drawn
        near = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        taken = self.keys[near] == keys
        if self.draws == 1:
            return drawn[:, 0], ~taken[:, 0]
        scores = torch.bmm(embedding(drawn, items), own[:, :, None])[:, :, 0].masked_fill(taken, -torch.inf)
        best = scores.argmax(1, keepdim=True)
        return drawn.gather(1, best)[:, 0], ~taken.gather(1, best)[:, 0]

    @property
    def unscorable(self) -> Items:
        """Numbers of the items that nobody took: they get no score, whatever their text."""
        return np.flatnonzero(self.degrees[self.users :].cpu().numpy() == 0)

    @torch.inference_mode()
    def scores(self, cases: Cases) -> NDArray[np.float32]:
        """(cases, items), -inf for `unscorable` items.

        A shopper of the graph is scored by their own vector: what they took since the training does not count. Any
        other (a number not in the graph, or without an interaction in it) gets the vector of a node that joins the
        graph at the items of their history, without a base of its own; where none of these is in the graph, every score
        is -inf.
        """
        users, items = self.vectors()
        shares = self._shares()
        own = torch.stack(
            [
                users[user] if 0 <= user < self.users and self.degrees[user] else self._joined(history, shares)
                for user, history in zip(cases.users, cases.histories, strict=True)
            ]
        )
        scores = own @ items.T
        scores[:, self.degrees[self.users :] == 0] = -torch.inf
        return scores.masked_fill_(own.isnan().any(1, keepdim=True), -torch.inf).cpu().numpy()

    @torch.inference_mode()
    def serving(self) -> dict[str, Tensor]:
        """To know each shopper by their history, as those who are not in the graph are in `scores`: `items` and
        `shares`, (items, width), and `scorable`, (items,). Nobody can read from it who took what."""
        return {
            "items": self.vectors()[1].contiguous(),
            "shares": self._shares().nan_to_num(posinf=0.0, neginf=0.0),
            "scorable": self.degrees[self.users :] > 0,
        }

    def _shares(self) -> Tensor:
        """(items, width): what an item gives to a shopper joined to it: all its layers but the last, over √degree.

        A node's layer is the sum of its neighbours' layers before, each over √(degree of both); the mean of these over
        all layers is the shopper's vector.
        """
        before = propagate(self.base, self._graph(), self.layers - 1)[self.users :]  # their mean
        return before * (self.layers / (self.layers + 1) / self.degrees[self.users :].sqrt())[:, None]

    def _joined(self, history: Items, shares: Tensor) -> Tensor:
        """(width,), NaN where nothing is known of the shopper."""
        taken = torch.from_numpy(np.unique(history)).to(shares.device)
        taken = taken[self.degrees[self.users + taken] > 0]
        return shares[taken].sum(0) / torch.tensor(len(taken)).sqrt()

    def _graph(self) -> Tensor:
        shape = (len(self.base), len(self.base))
        return torch.sparse_csr_tensor(self.starts, self.columns, self.weights, shape, check_invariants=False)


class Objective(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet where DDP expects them."""

    def __init__(self, model: LightGCN, learning_rate: float) -> None:
        super().__init__()
        self.model, self.learning_rate = model, learning_rate

    @classmethod
    def start(cls, folder: Path, settings: dict[str, Any], gather: Gather) -> Objective:
        """`settings`: learning_rate. Nothing is gathered: each rank draws its own negatives."""
        return cls(LightGCN.load(folder), settings["learning_rate"])

    def forward(self, batch: Batch) -> Tensor:
        return self.model.loss(batch)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.model.parameter_groups(self.learning_rate)

    def save(self, folder: Path) -> None:
        self.model.save(folder)

    @property
    def scorer(self) -> LightGCN:
        return self.model


class _Propagate(torch.autograd.Function):
    """The mean of x, Ax, … over the layers. A is symmetric, so a gradient goes back by the same sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: Tensor, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return propagate(x, graph, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return propagate(gradients[0], ctx.graph, ctx.layers), None, None


def propagate(x: Tensor, graph: Tensor, layers: int) -> Tensor:
    """(nodes, width): the mean of Aⁿx over n from 0 to `layers`, as x + A(x + A(x + …))."""
    total = x
    for _ in range(layers):
        total = torch.addmm(x, graph, total)
    return total / (layers + 1)


def _adjacency(pairs: Items, degrees: Items, users: int) -> dict[str, NDArray[Any]]:
    """D^-½ A D^-½ of users and items as compressed rows; 32-bit indices, which MKL multiplies without a copy."""
    rows = np.concatenate([pairs[:, 0], pairs[:, 1] + users])
    columns = np.concatenate([pairs[:, 1] + users, pairs[:, 0]])
    order = np.lexsort((columns, rows))
    weights = 1 / np.sqrt(degrees[rows] * degrees[columns])
    return {
        "starts": np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32),
        "columns": columns[order].astype(np.int32),
        "weights": weights[order].astype(np.float32),
    }


load = LightGCN.load
