"""Cross-encoder: query and product read together, for one score. Slower than vectors, it reranks and teaches.

It learns grades (E, S, C, I), soft where the LLM was not sure, and ranks by the gain that they lead to expect. A
bi-encoder learns its margins by `losses.margin_mse`. Knows nothing of Ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from synthrec import models
from synthrec.errors import UserError
from synthrec.recommenders.base import Batch, Gather
from synthrec.recommenders.dropout import lighten
from synthrec.recommenders.losses import rank_net
from synthrec.schema import GAINS, GRADES

SETTINGS = "cross_encoder.json"


class CrossEncoder(nn.Module):
    """A transformer with a head of one logit a grade."""

    def __init__(
        self, backbone: Any, tokenizer: Any, longest: int = 128, gains: Sequence[float] = tuple(GAINS.values())
    ) -> None:
        super().__init__()
        self.backbone, self.tokenizer = backbone, tokenizer
        self.longest = min(longest, tokenizer.model_max_length)
        self.gains: Tensor
        self.register_buffer("gains", torch.tensor(gains), persistent=False)

    @classmethod
    def load(cls, name: str, longest: int = 128) -> CrossEncoder:
        """From 'embedded', a folder (a bi-encoder's too) or a hub name. The head is new where `save` wrote none."""
        where = models.encoder(name)
        own = Path(where) / SETTINGS
        settings = json.loads(own.read_text()) if own.is_file() else {"longest": longest}
        try:
            backbone = AutoModelForSequenceClassification.from_pretrained(
                where, dtype=torch.float32, num_labels=len(GRADES), id2label=dict(enumerate(GRADES))
            )
            tokenizer = AutoTokenizer.from_pretrained(where)
        except (OSError, ValueError) as error:  # transformers' words for: no such model, or no model's folder
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load the encoder {name}: {reason}", "give a folder or a hub name") from None
        return cls(backbone, tokenizer, **settings)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, tokenizer and settings as JSON: no pickle."""
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / SETTINGS).write_text(json.dumps({"longest": self.longest, "gains": self.gains.tolist()}))

    def forward(self, queries: list[str], products: list[str]) -> Tensor:
        """Logits of the grades of each pair, shape (b, grades). Of a pair that is too long, the longer text is cut."""
        batch = self.tokenizer(
            queries, products, padding=True, truncation="longest_first", max_length=self.longest, return_tensors="pt"
        )
        logits: Tensor = self.backbone(**batch.to(self.backbone.device)).logits
        return logits.float()

    def expected(self, logits: Tensor) -> Tensor:
        """The gain that the grades' probabilities lead to expect, shape (b,), 0 to 1."""
        return logits.softmax(-1) @ self.gains

    def loss(self, batch: Batch, rank_weight: float = 0.0) -> Tensor:
        """Cross-entropy against the grades' probabilities.

        Args:
            batch: `query`, `product` (texts) and `grades` (probabilities of E, S, C, I; a certain grade is a one).
            rank_weight: how much RanKNet over the pairs of one query adds; it needs queries' rows in one batch.
        """
        logits = self(batch["query"], batch["product"])
        wanted = torch.tensor(batch["grades"], dtype=torch.float32, device=logits.device)
        value = nn.functional.cross_entropy(logits, wanted)
        if not rank_weight:
            return value
        numbers = {query: number for number, query in enumerate(dict.fromkeys(batch["query"]))}
        groups = torch.tensor([numbers[query] for query in batch["query"]], device=logits.device)
        # Of the log-odds: the expected gain itself hardly moves where it is near 0 or 1.
        score = self.expected(logits).logit(1e-6)
        return value + rank_weight * rank_net(score, wanted @ self.gains, groups)

    def scores(
        self,
        pairs: Sequence[tuple[str, str]],
        batch_size: int = 64,
        tick: Callable[[int], object] = lambda done: None,
    ) -> NDArray[np.float32]:
        """Expected gain of each (query, product), shape (n,). Pairs of like length go together, to pad less."""
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        out = np.zeros(len(pairs), np.float32)
        self.eval()
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            with torch.inference_mode():
                logits = self([pairs[i][0] for i in rows], [pairs[i][1] for i in rows])
                out[rows] = self.expected(logits).cpu().numpy()
            tick(len(rows))
        return out

    def rerank(self, query: str, products: Sequence[str]) -> list[tuple[int, float]]:
        """Positions and scores of the products, best first, ties by position."""
        scores = self.scores([(query, product) for product in products])
        return [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable")]


class Objective(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss. A row holds a `query`, its `products` (texts) and
    their `grades`, so that products of one query meet in a batch."""

    def __init__(
        self, encoder: CrossEncoder, rates: tuple[float, float] = (5e-5, 5e-5), rank_weight: float = 0.0
    ) -> None:
        super().__init__()
        lighten(encoder.backbone)
        self.encoder = encoder
        self.rates, self.rank_weight = rates, rank_weight

    @classmethod
    def start(cls, folder: Path, settings: dict[str, Any], gather: Gather) -> Objective:
        """`settings`: learning_rate, embedding_rate for the token embeddings, rank_weight. Nothing is gathered: pairs
        are judged alone."""
        rates = (settings["learning_rate"], settings["embedding_rate"])
        return cls(CrossEncoder.load(str(folder)), rates, settings["rank_weight"])

    def forward(self, batch: Batch) -> Tensor:
        queries = [query for query, some in zip(batch["query"], batch["products"], strict=True) for _ in some]
        flat = {name: [one for some in batch[name] for one in some] for name in ("products", "grades")}
        pairs = {"query": queries, "product": flat["products"], "grades": flat["grades"]}
        return self.encoder.loss(pairs, self.rank_weight)

    def parameter_groups(self) -> list[dict[str, Any]]:
        embedding = self.encoder.backbone.get_input_embeddings().weight
        rest = [p for p in self.parameters() if p is not embedding and p.requires_grad]
        return [{"params": rest, "lr": self.rates[0]}, {"params": [embedding], "lr": self.rates[1]}]

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)
