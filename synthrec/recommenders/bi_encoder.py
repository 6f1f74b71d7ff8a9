"""Bi-encoder: queries and products as unit vectors of one transformer; their dot product is the score.

Trained with InfoNCE over in-batch negatives (van den Oord et al. 2018; for retrieval Karpukhin et al. 2020), gathered
across ranks with their gradients, and over hard ones where the pairs bring some. Knows nothing of Ray.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from synthrec import models
from synthrec.errors import UserError
from synthrec.recommenders.base import Batch, Gather
from synthrec.recommenders.dropout import lighten
from synthrec.recommenders.lengths import bucketed, distinct, padded
from synthrec.recommenders.losses import false_negatives, margin_mse, matryoshka, recomputed

# Tokens that go through the layers at once, padding counted: what fits a core's cache; enough to fill a GPU.
CELLS, GPU_CELLS = 512, 16_384
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True)
class Contrast:
    """What the bi-encoder learns from a batch.

    Attributes:
        temperature: of InfoNCE.
        false_negatives: a negative that scores above this share of the query's own product is left out of the softmax;
            None: none is.
        matryoshka: widths, besides the whole one, to which vectors may be cut later.
        distil: weight of the margins that a cross-encoder sees between the product and the pair's hard negatives.
    """

    temperature: float = 0.05
    false_negatives: float | None = None
    matryoshka: tuple[int, ...] = ()
    distil: float = 0.0


class BiEncoder(nn.Module):
    """`chunk_tokens`: while it learns, activations of so many tokens at a time are in memory; 0: all are kept."""

    def __init__(self, backbone: Any, tokenizer: Any, query_tokens: int = 32, product_tokens: int = 96) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.query_tokens, self.product_tokens = query_tokens, product_tokens
        self.chunk_tokens = 0

    @classmethod
    def load(cls, name: str, query_tokens: int = 32, product_tokens: int = 96) -> BiEncoder:
        """From 'embedded', a folder or a hub name. A folder that `save` wrote brings its own lengths; none is more
        than the transformer has positions for."""
        where = models.encoder(name)
        own = Path(where) / "bi_encoder.json"
        lengths = json.loads(own.read_text()) if own.is_file() else {}
        try:
            backbone = AutoModel.from_pretrained(where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(where)
        except (
            OSError,
            ValueError,
        ) as error:  # transformers' words for: no such model, no way to the hub, no model's folder
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load the encoder {name}: {reason}", "give a folder or a hub name") from None
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler.requires_grad_(False)  # vectors are means, its output is unused: DDP must not wait for it
        wanted = {"query_tokens": query_tokens, "product_tokens": product_tokens} | lengths
        most = min(tokenizer.model_max_length, getattr(backbone.config, "max_position_embeddings", 1 << 30))
        return cls(backbone, tokenizer, **{name: min(one, most) for name, one in wanted.items()})

    def save(self, folder: Path) -> None:
        """Weights as safetensors, tokenizer and lengths as JSON: no pickle."""
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        lengths = {"query_tokens": self.query_tokens, "product_tokens": self.product_tokens}
        (folder / "bi_encoder.json").write_text(json.dumps(lengths))

    def extend_vocabulary(self, texts: Sequence[str], least: int = 1) -> int:
        """Add the Han characters of `texts` that the tokenizer reads as unknown; returns how many.

        An English BERT reads most Chinese as [UNK]. Each new character starts near the mean embedding and is learnt.

        Args:
            least: add characters that occur at least so often.
        """
        counts = Counter(c for text in texts for c in HAN.findall(text))
        # Asked and not looked up: tokenizers of bytes read every character, though none stands in their vocabulary.
        unknown = self.tokenizer.unk_token_id
        missing = [c for c, n in sorted(counts.items()) if n >= least and unknown in self._tokens(c)]
        if not missing:
            return 0
        self.tokenizer.add_tokens(missing)
        self.backbone.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        weight = self.backbone.get_input_embeddings().weight
        old = weight.shape[0] - len(missing)
        with torch.no_grad():
            mean, spread = weight[:old].mean(0), weight[:old].std(0)
            noise = torch.randn(len(missing), weight.shape[1], generator=torch.Generator().manual_seed(0))
            weight[old:] = mean + spread * noise
        return len(missing)

    def forward(self, *sides: tuple[Sequence[str], int]) -> Tensor:
        """Unit vectors of all texts, one after another, (texts, width): the mean of the last layer over their tokens.

        What is the same text once more, as hard negatives often are, goes through the layers once.

        Args:
            sides: texts, and how many tokens of each are read, special ones included.
        """
        read, rows_of = distinct([ids for texts, longest in sides for ids in self._read(texts, longest)])
        device = self.backbone.device
        chunked = self.chunk_tokens > 0 and torch.is_grad_enabled()
        most = self.chunk_tokens if chunked else CELLS if device.type == "cpu" else GPU_CELLS
        layers = partial(recomputed, self._pooled) if chunked else self._pooled
        buckets = list(bucketed([len(ids) for ids in read], most))
        batches = [padded([read[i] for i in rows], self.tokenizer.pad_token_id) for rows in buckets]
        # One look-up for all of them: the gradient of each would be as large as the whole table.
        table = self.backbone.get_input_embeddings()
        found = table(torch.from_numpy(np.concatenate([ids.ravel() for ids, _ in batches])).to(device))
        parts = []
        for (_, mask), tokens in zip(batches, found.split([ids.size for ids, _ in batches]), strict=True):
            embedded = tokens.view(*mask.shape, -1)
            parts.append(layers(torch.from_numpy(mask).to(device), embedded))
        order = torch.from_numpy(np.argsort(np.concatenate(buckets))[rows_of]).to(device)
        return nn.functional.embedding(order, torch.cat(parts))  # whose gradient is summed in one order on any device

    def _read(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return found

    def _pooled(self, mask: Tensor, embedded: Tensor) -> Tensor:
        return self.pooled(mask, inputs_embeds=embedded)

    def pooled(self, attention_mask: Tensor, **given: Tensor) -> Tensor:
        """Unit vectors of padded texts, given as `input_ids` or `inputs_embeds`; the mask is (texts, tokens)."""
        hidden = self.backbone(attention_mask=attention_mask, **given).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def encode(
        self,
        texts: Sequence[str],
        query: bool = False,
        batch_size: int = 64,
        tick: Callable[[int], object] = lambda done: None,
    ) -> NDArray[np.float32]:
        """Vectors in the order of `texts`, shape (n, width). Texts of like length go together, to pad less."""
        longest = self.query_tokens if query else self.product_tokens
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), self.width), np.float32)
        self.eval()
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            with torch.inference_mode():
                out[rows] = self(([texts[i] for i in rows], longest)).float().cpu().numpy()
            tick(len(rows))
        return out

    def unknown(self, text: str) -> float:
        """Share of the text's tokens that the tokenizer does not know; 1 where it has none."""
        ids = self._tokens(text)
        return sum(one == self.tokenizer.unk_token_id for one in ids) / len(ids) if ids else 1.0

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    @property
    def width(self) -> int:
        return int(self.backbone.config.hidden_size)

    def loss(self, batch: Batch, gather: Gather, how: Contrast) -> Tensor:
        """InfoNCE of this rank's queries against the products and hard negatives of all ranks.

        Args:
            batch: `query`, `product` (texts) and `group` (ids: pairs of one product are no negatives of each other).
                With hard negatives also `negatives` and `negative_groups`, of each row a list, all of one length; to
                distil, `teacher`: of each row a cross-encoder's scores of its product and of these.
            gather: concatenates a tensor over ranks, in rank order, keeping gradients.
        """
        count = len(batch["query"])
        hard = [text for row in batch.get("negatives", ()) for text in row]
        # One pass for both sides: DistributedDataParallel expects one forward a step.
        both = self((batch["query"], self.query_tokens), ([*batch["product"], *hard], self.product_tokens))
        queries, products = both.split([count, count + len(hard)])
        ids = [*batch["group"], *(group for row in batch.get("negative_groups", ()) for group in row)]
        asked = [_number(one) for one in batch["query"]] + [-1] * len(hard)
        numbers = torch.tensor([[_number(one) for one in ids], asked], device=queries.device).T
        all_products, all_numbers = gather(products), gather(numbers)
        (groups, own), (all_groups, all_asked) = numbers[:count].unbind(1), all_numbers.unbind(1)

        def contrast(some: Tensor, others: Tensor) -> Tensor:
            alike = own, all_asked
            return info_nce(some, others, groups, all_groups, how.temperature, how.false_negatives, alike)

        value = matryoshka(contrast, queries, all_products, (*how.matryoshka, products.shape[1]))
        return value + how.distil * _margins(queries, products, batch["teacher"]) if how.distil else value

    def parameter_groups(self, learning_rate: float, embedding_rate: float) -> list[dict[str, Any]]:
        """Token embeddings get their own rate where characters were added: those start unlearnt."""
        embedding = self.backbone.get_input_embeddings().weight
        rest = [p for p in self.parameters() if p is not embedding and p.requires_grad]
        return [{"params": rest, "lr": learning_rate}, {"params": [embedding], "lr": embedding_rate}]


class Objective(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet where DDP expects them."""

    def __init__(
        self, encoder: BiEncoder, how: Contrast, gather: Gather, rates: tuple[float, float] = (5e-5, 5e-5)
    ) -> None:
        super().__init__()
        lighten(encoder.backbone)
        self.encoder = encoder
        self.how, self.gather, self.rates = how, gather, rates

    @classmethod
    def start(cls, folder: Path, settings: dict[str, Any], gather: Gather) -> Objective:
        """`settings`: those of `Contrast`, chunk_tokens, learning_rate, and embedding_rate for the token embeddings."""
        own = dict(settings)
        rates = (own.pop("learning_rate"), own.pop("embedding_rate"))
        encoder = BiEncoder.load(str(folder))
        encoder.chunk_tokens = own.pop("chunk_tokens")
        how = Contrast(**own)
        if wrong := [width for width in how.matryoshka if width >= encoder.width]:
            raise UserError(
                f"train.matryoshka: vectors of {encoder.width} values cannot be cut to {wrong[0]}",
                "give smaller widths",
            )
        return cls(encoder, how, gather, rates)

    def forward(self, batch: Batch) -> Tensor:
        return self.encoder.loss(batch, self.gather, self.how)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.encoder.parameter_groups(*self.rates)

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)


def info_nce(
    queries: Tensor,
    products: Tensor,
    groups: Tensor,
    all_groups: Tensor,
    temperature: float,
    share: float | None = None,
    asked: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Cross-entropy of each query's own product against all others that are not of its group.

    Args:
        queries: (b, d) of this rank; products: (n, d) of all ranks.
        groups: (b,) and all_groups: (n,) numbers of the products. A query's own product is the first of its group:
            pairs of one product hold its whole text or, with the title for a query, the rest of it; any is right.
        share: negatives above this share of the own product's score are left out, see `losses.false_negatives`.
        asked: (b,) numbers of the queries' texts and (n,) of those that each product is in the batch for: what answers
            the same words is no negative. A hard negative is there for none, -1.
    """
    with torch.autocast(queries.device.type, enabled=False):  # a small temperature enlarges bfloat16's rounding
        logits = queries.float() @ products.float().T / temperature
    same = groups[:, None] == all_groups[None, :]
    own = same.int().argmax(1)
    if asked is not None:
        same = same | (asked[0][:, None] == asked[1][None, :])
    hidden = same & ~nn.functional.one_hot(own, len(all_groups)).bool()
    if share is not None:
        hidden |= false_negatives(logits.detach(), own, share)
    return nn.functional.cross_entropy(logits.masked_fill(hidden, -torch.inf), own)


def _margins(queries: Tensor, products: Tensor, teacher: list[list[float]]) -> Tensor:
    """How far the margins between each query's product and its hard negatives are from the teacher's.

    Args:
        products: (b + b * k, d), each query's own, then the k hard negatives of each.
        teacher: of each query 1 + k scores, those of the same products.
    """
    own, hard = products.split([len(queries), len(products) - len(queries)])
    scores = (queries[:, None] * hard.view(len(queries), -1, hard.shape[1])).sum(2)
    wanted = torch.tensor(teacher, dtype=scores.dtype, device=scores.device)
    return margin_mse((queries * own).sum(1, keepdim=True), scores, wanted[:, :1], wanted[:, 1:])


def _number(text: str) -> int:
    """A 63-bit number of an id or a query, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
