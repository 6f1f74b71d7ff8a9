"""Dropout that is cheap on a CPU, where drawing its masks one value at a time takes a tenth of a training step.

One 64-bit draw decides about four values, each by 16 of its bits, so a probability is off by less than 1e-5. On a GPU
torch's own is used. Masks come from torch's generator: the same seed draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

LIGHT = "light_dropout"  # the attention's name in transformers
VALUES = 4  # of a draw
LEVELS = 1 << 16
LOWEST = -(1 << 63)


def lighten(backbone: Any) -> None:
    """Have a transformer that is to be trained drop out by this module. Weights, and what it gives in use, stay."""
    for part in list(backbone.modules()):
        for name, child in part.named_children():
            if type(child) is nn.Dropout:
                setattr(part, name, Dropout(child.p).train(child.training))
    if getattr(getattr(backbone, "config", None), "_attn_implementation", None) == "sdpa":
        backbone.set_attn_implementation(LIGHT)


class Dropout(nn.Dropout):
    """As torch's."""

    def forward(self, some: Tensor) -> Tensor:
        if not self.training or self.p == 0 or some.device.type != "cpu":
            return super().forward(some)
        return some * keep(some.shape, self.p, some.dtype)


def keep(shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor:
    """What to multiply by: 0 with probability p, else 1 / (1 - p)."""
    count = math.prod(shape)
    draws = torch.empty(-(-count // VALUES), dtype=torch.int64).random_(LOWEST, None)
    values = draws.view(torch.int16)[:count].view(*shape)
    kept = torch.ge(values, round(p * LEVELS) - LEVELS // 2, out=torch.empty(*shape, dtype=dtype))
    return kept.mul_(1 / (1 - p))


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    """As transformers' `sdpa`, which on a CPU multiplies matrices one after another too where it drops out.

    Args:
        query, key, value: (b, heads, tokens, width).
        attention_mask: broadcast to (b, heads, tokens, tokens), True where a token is read; None: all are.
    """
    p, scale = given.get("dropout", 0.0), given.get("scaling")
    if not p or query.device.type != "cpu" or not _plain(module, query, key, attention_mask, given):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    shares = scores.softmax(-1)
    read = (shares * keep(shares.shape, p, shares.dtype)) @ value
    return read.transpose(1, 2).contiguous(), None


def _plain(module: Any, query: Tensor, key: Tensor, mask: Tensor | None, given: dict[str, Any]) -> bool:
    """Whether each token may read all that the mask shows, by as many keys as queries."""
    causal = given.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    masked = not causal if mask is None else mask.dtype == torch.bool
    return masked and query.shape[1] == key.shape[1] and given.get("position_bias") is None


AttentionInterface.register(LIGHT, attention)
AttentionMaskInterface.register(LIGHT, sdpa_mask)
