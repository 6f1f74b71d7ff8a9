"""What comes next: a causal transformer over the items that a shopper took (SASRec, Kang & McAuley 2018).

It learns at every position of a sequence, by softmax over the catalogue or over a sample of it with the logQ correction
(Bengio & Senécal 2008; for SASRec Klenitskiy & Vasilev 2023). Items may have frozen features of their text and images;
then cold ones are scored too. Knows nothing of Ray.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from synthrec.recommenders.base import Batch, Cases, Gather
from synthrec.recommenders.items import Features, Items
from synthrec.recommenders.losses import recomputed
from synthrec.recommenders.packing import Group, Packed, pack

History = NDArray[np.int64]
FOREIGN = -1e9  # the logit of what is no negative here
CELLS = 1 << 25  # logits that are in memory at once: 128 MB, a batch of 128 long histories over 5,000 products


@dataclass(frozen=True)
class Shape:
    """`negatives`: items sampled, for a batch, beside the targets; 0 for softmax over all known items.

    `logq`: whether samples stand for the whole catalogue, as softmax over it would have it, or for themselves alone.
    `temperature`: scores are cosines over it (NISER, Gupta et al. 2019), or dot products where it is None.
    `gbce`: with samples, binary cross-entropy instead, calibrated by this t; None: softmax.
    """

    width: int = 64
    blocks: int = 1
    heads: int = 1
    longest: int = 50
    dropout: float = 0.2
    ids: bool = True
    negatives: int = 256
    logq: bool = True
    temperature: float | None = None
    gbce: float | None = None


class Sequential(nn.Module):
    """A Scorer. Items are numbers from 0; there is no number for padding.

    Args:
        known: (items,) whether shoppers took the item in what is learnt from; only such are learnt and sampled.
        features: (items, any width), see `Items`; without them a cold item cannot be scored.
        thought: (items,) whether synthetic sequences hold it. Of these, what no shopper took is learnt by its features
            alone, and is a negative only where such an item is right: that shoppers did not take what was not on sale
            says nothing against it, and as everybody's negative it would never be recommended.
    """

    cold: Tensor  # (items,): thought of, and taken by nobody
    pool: Tensor  # numbers of the known items, then of the cold ones

    def __init__(
        self,
        known: NDArray[np.bool_],
        shape: Shape,
        features: Features | None = None,
        thought: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.items = len(known)
        cold = np.zeros(len(known), bool) if thought is None else thought & ~known
        if features is None:  # then an embedding of its own is all that an item is
            known, cold = known | cold, np.zeros(len(known), bool)
        self.warm = int(known.sum())
        unit, guests = shape.temperature is not None, bool(cold.any())
        self.catalogue = Items(known, shape.width, shape.ids, features, unit, guests)
        self.register_buffer("cold", torch.from_numpy(cold), persistent=False)
        pool = np.concatenate([np.flatnonzero(known), np.flatnonzero(cold)])
        self.register_buffer("pool", torch.from_numpy(pool), persistent=False)
        self.ages = nn.Embedding(shape.longest, shape.width)
        nn.init.normal_(self.ages.weight, std=0.02)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.width)

    def hidden(self, vectors: Tensor, packed: Packed) -> Tensor:
        """Items' vectors, (tokens, width), one for each packed item -> what each position expects next, same shape.

        Its dot product with an item's vector is the item's score.
        """
        x = self.dropout(vectors + self.ages(packed.ages))
        for block in self.blocks:
            x = block(x, packed.groups)
        x = self.norm(x)
        temperature = self.shape.temperature
        return x if temperature is None else functional.normalize(x, dim=-1) / temperature

    def loss(self, sequences: Sequence[History], weights: Sequence[float] | None = None) -> Tensor:
        """Mean cross-entropy of each item that follows another, over the last `longest` of each sequence.

        A sequence of fewer than two items has none. There must be one that has.

        Args:
            weights: how much each sequence's steps count; None: 1. A mean of 1 over all that is learnt from keeps the
                loss what it is without. It is not made 1 in each batch: one of little weight is to teach little.
        """
        whole = [one[-self.shape.longest - 1 :] for one in sequences if len(one) > 1]
        packed = pack([one[:-1] for one in whole], self.device)
        targets = torch.from_numpy(np.concatenate([whole[i][1:] for i in packed.order])).to(self.device)
        losses = (self._sampled if self.shape.negatives else self._softmax)(packed, targets)
        if weights is None:
            return losses.mean()
        own = [weight for weight, one in zip(weights, sequences, strict=True) if len(one) > 1]
        counts = torch.tensor([own[i] for i in packed.order for _ in whole[i][1:]], device=self.device)
        return (losses * counts).mean()

    def _softmax(self, packed: Packed, targets: Tensor) -> Tensor:
        hidden, among = self.hidden(self.catalogue(packed.items), packed), self.catalogue(self.pool)
        right = self._place(self.pool)[targets]
        if self.warm == len(self.pool):
            return softmax(hidden, among, right)
        cold = self.cold[targets]
        losses = hidden.new_zeros(len(targets), dtype=torch.float32)
        for part, negatives in ((~cold, among[: self.warm]), (cold, among)):
            losses[part] = softmax(hidden[part], negatives, right[part])
        return losses

    def _sampled(self, packed: Packed, targets: Tensor) -> Tensor:
        drawn = torch.randperm(len(self.pool), device=self.device)[: self.shape.negatives]
        sampled = self.pool[drawn]
        # One look-up for all three: its gradient is as large as the whole table, however few rows are looked up.
        vectors = self.catalogue(torch.cat([packed.items, targets, sampled]))
        given, right, wrong = vectors.split([len(targets), len(targets), len(sampled)])
        hidden = self.hidden(given, packed)
        logits = _product(hidden, wrong)
        if self.shape.logq and self.shape.gbce is None:  # sampling is uniform: each stands for so many items
            logits = logits + math.log(len(self.pool) / len(sampled))
        column = self._place(sampled)[targets]
        hit = (column >= 0).nonzero()[:, 0]
        logits[hit, column[hit]] = -torch.inf  # what is right is no negative
        foreign = (drawn >= self.warm) & ~self.cold[targets][:, None]
        logits = logits.masked_fill(foreign, FOREIGN)
        own = (hidden.float() * right.float()).sum(1)
        if self.shape.gbce is not None:
            return gbce(own, logits, len(sampled) / max(1, len(self.pool) - 1), self.shape.gbce)
        return torch.logaddexp(own, logits.logsumexp(1)) - own

    def _place(self, among: Tensor) -> Tensor:
        """(items,): where each item is among some, -1 where it is not."""
        place = torch.full((self.items,), -1, device=self.device)
        place[among] = torch.arange(len(among), device=self.device)
        return place

    @property
    def device(self) -> torch.device:
        return self.ages.weight.device

    forward = loss  # what DistributedDataParallel calls

    def encode(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Shoppers' vectors, (n, width), whose dot product with `vectors` is the score; zero for an empty history."""
        self.eval()
        out = np.zeros((len(histories), self.shape.width), np.float32)
        there = [i for i, one in enumerate(histories) if len(one)]
        if there:
            packed = pack([histories[i][-self.shape.longest :] for i in there], self.device)
            with torch.inference_mode():
                hidden = self.hidden(self.catalogue(packed.items), packed)[packed.ends]
            out[np.array(there)[packed.order]] = hidden.float().cpu().numpy()
        return out

    def vectors(self) -> NDArray[np.float32]:
        """Items' vectors, (items, width)."""
        self.eval()
        with torch.inference_mode():
            return self.catalogue().float().cpu().numpy()  # type: ignore[no-any-return]

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        """(cases, items), -inf for an item of which nothing is known.

        A newcomer's scores are all alike: let popularity rank for those without a history.
        """
        scores = self.encode(cases.histories) @ self.vectors().T
        scores[:, ~self.catalogue.knowable().cpu().numpy()] = -np.inf
        return scores

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """For AdamW. Embeddings, biases and norms do not decay; a second moment that forgets faster, as SASRec's."""
        embeddings = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        flat = [p for p in self.parameters() if p.ndim == 1 or id(p) in embeddings]
        rest = [p for p in self.parameters() if p.ndim > 1 and id(p) not in embeddings]
        common = {"lr": learning_rate, "betas": (0.9, 0.98)}
        return [common | {"params": rest, "weight_decay": weight_decay}, common | {"params": flat, "weight_decay": 0.0}]

    def save(self, folder: Path) -> None:
        """Weights, and features as they are used, as safetensors; the shape as JSON."""
        features = self.catalogue.features if self.catalogue.adaptor is not None else None
        tensors = self.state_dict() | {"cold": self.cold} | ({} if features is None else {"features": features})
        save_file({name: one.contiguous() for name, one in tensors.items()}, folder / "sequential.safetensors")
        (folder / "sequential.json").write_text(json.dumps(asdict(self.shape)))

    @classmethod
    def load(cls, folder: Path) -> Sequential:
        shape = Shape(**json.loads((folder / "sequential.json").read_text()))
        tensors = load_file(folder / "sequential.safetensors")
        features = tensors.pop("features", None)
        known = tensors["catalogue.known"].numpy()
        cold = tensors.pop("cold", torch.zeros(len(known), dtype=torch.bool))  # files from before there were have none
        model = cls(known, shape, None if features is None else features.numpy(), cold.numpy())
        model.load_state_dict(tensors)
        if features is not None:
            model.catalogue.features = features  # whitened already
        return model


def softmax(hidden: Tensor, items: Tensor, right: Tensor, cells: int = CELLS) -> Tensor:
    """Cross-entropy over all items, (tokens,): logits of at most `cells` are in memory, and made again on the way back.

    Args:
        hidden: (tokens, width). items: (items, width). right: (tokens,) the place of what is right among the items.
    """

    def entropy(some: Tensor, items: Tensor, right: Tensor) -> Tensor:
        return functional.cross_entropy(_product(some, items), right, reduction="none")

    if hidden.shape[0] * items.shape[0] <= cells:
        return entropy(hidden, items, right)
    rows = max(1, cells // items.shape[0])
    parts = zip(hidden.split(rows), right.split(rows), strict=True)
    return torch.cat([recomputed(entropy, some, items, own) for some, own in parts])


def gbce(own: Tensor, others: Tensor, share: float, t: float) -> Tensor:
    """Generalised binary cross-entropy (Petrov & Macdonald 2023, gSASRec): a sample of negatives makes a model too sure
    of what is right, which a power of its probability takes back.

    Args:
        own: (n,) scores of what is right. others: (n, k) of the sampled; -inf where one is no negative.
        share: of all negatives, that k is.
        t: 0 is plain binary cross-entropy, 1 calibrates as if all negatives were seen.
    """
    share = min(share, 1.0)
    power = share * (t * (1 - 1 / share) + 1 / share)
    losses = power * functional.softplus(-own) + functional.softplus(others).sum(1)
    return losses / (others.shape[1] + 1)


def _product(hidden: Tensor, items: Tensor) -> Tensor:
    """Logits, (tokens, items). In float32: in bfloat16 scores that are near each other come out alike."""
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden.float() @ items.float().T


class Block(nn.Module):
    """Causal self-attention, then a small network, each on normed input and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, groups: list[Group]) -> Tensor:
        """(tokens, width) -> the same shape."""
        mixed = self.queries_keys_values(self.norm_attention(x))
        x = x + self.dropout(self.out(torch.cat([self._attend(mixed, group) for group in groups])))
        return x + self.dropout(self.network(self.norm_network(x)))  # type: ignore[no-any-return]

    def _attend(self, mixed: Tensor, group: Group) -> Tensor:
        """No mask is needed for padding: it lies behind the end, where a causal view does not reach."""
        padded = group.pad(mixed).view(group.count, group.longest, 3 * self.heads, -1).transpose(1, 2)
        queries, keys, values = padded.chunk(3, 1)
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return group.unpad(seen.transpose(1, 2).flatten(2))


class Objective(nn.Module):
    """What training asks for, see base.py. A row: `items`, a sequence of at least two, and its `weight`, if any."""

    def __init__(self, model: Sequential, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.model = model
        self.rates = (learning_rate, weight_decay)

    @classmethod
    def start(cls, folder: Path, settings: dict[str, Any], gather: Gather) -> Objective:
        """`settings`: learning_rate and weight_decay. Each rank learns its own sequences: nothing is gathered."""
        return cls(Sequential.load(folder), settings["learning_rate"], settings["weight_decay"])

    def forward(self, batch: Batch) -> Tensor:
        return self.model.loss([np.array(one) for one in batch["items"]], batch.get("weight"))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.model.parameter_groups(*self.rates)

    def save(self, folder: Path) -> None:
        self.model.save(folder)

    @property
    def scorer(self) -> Sequential:
        return self.model


load = Sequential.load
