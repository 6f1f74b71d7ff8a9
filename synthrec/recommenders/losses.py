"""Losses for rankers and encoders, and what makes a batch larger or cleaner. None knows a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def margin_mse(wanted: Tensor, other: Tensor, teacher_wanted: Tensor, teacher_other: Tensor) -> Tensor:
    """Distils a cross-encoder: the student learns the teacher's margin, not its scale (Hofstätter et al. 2020).

    Args:
        wanted, other: the student's scores of two products for one query, shape (b,), or (b, 1) and (b, k) where each
            query has several others; the teacher's likewise.
    """
    return nn.functional.mse_loss(wanted - other, teacher_wanted - teacher_other)


def rank_net(scores: Tensor, gains: Tensor, groups: Tensor) -> Tensor:
    """-log sigmoid of the difference, over pairs of one group whose gains differ (Burges et al. 2005).

    Args:
        scores, gains: (b,). groups: (b,) numbers of the queries. A batch without such a pair has a loss of zero.
    """
    better = (gains[:, None] > gains[None, :]) & (groups[:, None] == groups[None, :])
    losses = nn.functional.softplus(scores[None, :] - scores[:, None])
    return (losses * better).sum() / better.sum().clamp(min=1)


def false_negatives(scores: Tensor, own: Tensor, share: float = 0.95) -> Tensor:
    """Which negatives look too good to be one: scored above `share` of the query's own product (Moreira et al. 2024,
    NV-Retriever).

    Args:
        scores: (b, n), of the model or a teacher, without gradients needed. own: (b,) the column of each row's product.

    Returns:
        (b, n), true where a score is to be left out of the softmax; never at `own`.
    """
    wanted = scores.gather(1, own[:, None])
    # A share of a negative score would lie above it: there the margin is as wide, to the other side.
    limit = wanted - (1 - share) * wanted.abs()
    return (scores > limit).scatter(1, own[:, None], False)


def matryoshka(
    loss: Callable[[Tensor, Tensor], Tensor], queries: Tensor, products: Tensor, widths: Sequence[int]
) -> Tensor:
    """Mean of `loss` over vectors cut to each of `widths` and brought to unit length again (Kusupati et al. 2022).

    Vectors may later be cut to any of these.

    Args:
        queries: (b, d). products: (n, d).
    """

    def cut(vectors: Tensor, width: int) -> Tensor:
        return nn.functional.normalize(vectors[:, :width], dim=-1)

    return torch.stack([loss(cut(queries, width), cut(products, width)) for width in widths]).mean()


def recomputed(encode: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """`encode(*given)` whose activations are not kept: going back computes them again, dropout included.

    A large batch encoded part by part so needs the memory of one part, and its gradients are those of one pass: what
    GradCache does (Gao et al. 2021), by autograd's own recomputation, so that the loss of the whole batch is still one
    tensor for DDP to go back from.
    """
    return checkpoint(encode, *given, use_reentrant=False)  # type: ignore[no-any-return]
