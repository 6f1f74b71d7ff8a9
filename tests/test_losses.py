"""Losses against their formulas, and that a batch in chunks learns what the whole batch learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from synthrec.recommenders.bi_encoder import info_nce
from synthrec.recommenders.losses import false_negatives, margin_mse, matryoshka, rank_net, recomputed


@pytest.fixture
def dice():
    return np.random.default_rng(7)


def tensor(dice, *shape):
    return torch.tensor(dice.normal(size=shape), dtype=torch.float32)


def test_margin_mse_is_of_the_margins_alone(dice):
    w, o, tw, to = (tensor(dice, 9) for _ in range(4))
    by_hand = np.mean(((w - o).numpy() - (tw - to).numpy()) ** 2)
    assert float(margin_mse(w, o, tw, to)) == pytest.approx(by_hand, rel=1e-5)
    assert float(margin_mse(w + 3, o + 3, tw - 5, to - 5)) == pytest.approx(by_hand, rel=1e-4)


def test_rank_net_counts_the_pairs_of_one_query_that_differ(dice):
    scores = tensor(dice, 6)
    gains = torch.tensor([1.0, 0.0, 0.1, 1.0, 1.0, 0.0])
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    pairs = [(0, 1), (0, 2), (2, 1)]  # of group 1 both are equal, group 2 is alone
    by_hand = np.mean([np.log1p(np.exp(float(scores[b] - scores[a]))) for a, b in pairs])
    assert float(rank_net(scores, gains, groups)) == pytest.approx(by_hand, rel=1e-5)
    assert float(rank_net(scores, torch.ones(6), groups)) == 0.0


@pytest.mark.parametrize(("wanted", "limit"), [(0.8, 0.76), (-0.8, -0.84)])
def test_false_negatives_are_those_near_to_the_wanted_score(wanted, limit):
    scores = torch.tensor([[limit - 0.01, wanted, limit + 0.01, 0.99]])
    assert false_negatives(scores, torch.tensor([1])).tolist() == [[False, False, True, True]]


def contrast(queries, products):
    groups = torch.arange(len(queries))
    return info_nce(queries, products, groups, groups, 0.05)


def test_matryoshka_is_the_mean_over_the_cut_vectors(dice):
    queries, products = tensor(dice, 5, 8), tensor(dice, 5, 8)
    by_hand = []
    for width in (2, 8):
        q, p = (v[:, :width].numpy() for v in (queries, products))
        q, p = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, p))
        logits = q @ p.T / 0.05
        by_hand.append(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
    assert float(matryoshka(contrast, queries, products, (2, 8))) == pytest.approx(np.mean(by_hand), rel=1e-4)


def in_chunks(encoder, texts):
    """Four texts at a time, whose activations are computed again on the way back."""
    parts = [torch.tensor([[ord(c) % 64 for c in text] for text in texts[i : i + 4]]) for i in range(0, len(texts), 4)]
    return torch.cat([recomputed(encoder.vectors, part) for part in parts])


class Encoder(nn.Module):
    """Small, with dropout: chunks must drop again what they dropped. It counts how many texts it reads at a time."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(64, 16)
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 8))
        self.most = 0

    def forward(self, texts):
        return self.vectors(torch.tensor([[ord(c) % 64 for c in text] for text in texts]))

    def vectors(self, numbers):
        self.most = max(self.most, len(numbers))
        return nn.functional.normalize(self.layers(self.embedding(numbers).mean(1)), dim=-1)


def gradients(encoder, encode):
    torch.manual_seed(3)
    queries, products = encode([f"q{i:02}" for i in range(11)]), encode([f"p{i:02}" for i in range(11)])
    loss = contrast(queries, products)
    encoder.zero_grad()
    loss.backward()
    return float(loss), torch.cat([p.grad.flatten() for p in encoder.parameters()])


def test_chunks_learn_what_the_whole_batch_learns():
    encoder = Encoder().eval()
    loss, whole = gradients(encoder, encoder)
    encoder.most = 0
    chunked_loss, chunked = gradients(encoder, lambda texts: in_chunks(encoder, texts))
    assert encoder.most == 4
    assert chunked_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-6)
    assert whole.abs().max() > 1e-3


def test_chunks_go_back_through_the_dropout_that_they_came_by():
    """The reference draws dropout for the same chunks in the same order, and keeps everything in memory."""
    encoder = Encoder().train()

    def kept(texts):
        return torch.cat([encoder(texts[i : i + 4]) for i in range(0, len(texts), 4)])

    loss, whole = gradients(encoder, kept)
    chunked_loss, chunked = gradients(encoder, lambda texts: in_chunks(encoder, texts))
    assert chunked_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-6)
    assert gradients(encoder.eval(), kept)[0] != pytest.approx(loss, rel=1e-3), "dropout does something here"
