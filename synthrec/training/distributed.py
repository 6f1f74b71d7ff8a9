"""What ranks share: tensors gathered with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def gather(mine: Tensor) -> Tensor:
    """The tensors of all ranks, one after another; each rank's must have the same shape.

    With a loss that is a mean over the rank's own rows, and DistributedDataParallel's mean over ranks, the gradient is
    that of the mean over all rows.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return mine
    return _Gather.apply(mine) if mine.requires_grad else _all_gather(mine)  # type: ignore[no-any-return, no-untyped-call]


class _Gather(torch.autograd.Function):
    """all_gather whose backward adds up, over ranks, the gradients that each holds for my part."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        ctx.rows = mine.shape[0]
        return _all_gather(mine)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        distributed.all_reduce(grad)
        start = distributed.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


def _all_gather(mine: Tensor) -> Tensor:
    mine = mine.contiguous()  # and so its likes: what arrives is laid out as it was sent
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine)
    return torch.cat(parts)
