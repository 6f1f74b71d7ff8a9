"""Dropout from few draws: what torch's own gives, in the mean and in the gradient, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from synthrec.recommenders.dropout import LIGHT, Dropout, attention, keep, lighten

RATES = st.floats(0.001, 0.95)
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(SHAPES, RATES, st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=60, deadline=None)
def test_a_mask_has_the_shape_asked_and_two_values(shape, p, kind):
    mask = keep(shape, p, kind)
    assert (list(mask.shape), mask.dtype) == (shape, kind)
    assert set(mask.flatten().tolist()) <= {0.0, torch.tensor(1 / (1 - p), dtype=kind).item()}


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_so_many_are_dropped_and_none_hangs_on_its_neighbour(p):
    torch.manual_seed(1)
    kept = (keep((1_000_000,), p, torch.float32) > 0).double()
    assert kept.mean().item() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / 1e6) ** 0.5)
    for apart in (1, 2, 3, 4):
        together = (kept[:-apart] * kept[apart:]).mean().item()
        assert together == pytest.approx((1 - p) ** 2, abs=0.002)


def test_a_layer_is_torchs_in_use_and_scales_while_it_learns():
    layer, some = Dropout(0.25), torch.randn(50, 40, requires_grad=True)
    assert torch.equal(layer.eval()(some), some)
    layer.train()
    torch.manual_seed(3)
    out = layer(some)
    torch.manual_seed(3)
    assert torch.equal(layer(some), out)
    assert not torch.equal(layer(some), out)
    dropped = out == 0
    assert torch.allclose(out[~dropped], some[~dropped] / 0.75)
    out.sum().backward()
    assert torch.equal(some.grad == 0, dropped)


class Place(nn.Module):
    """What attention asks of the module it is in."""

    is_causal = False


def asked(mask, **given):
    dice = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(3, 2, 7, 4, generator=dice, dtype=torch.float64) for _ in range(3))
    return Place(), query, key, value, mask, given


@pytest.mark.parametrize("hidden", [0, 3])
def test_attention_is_sdpas_in_the_mean(hidden):
    mask = None
    if hidden:
        mask = torch.ones(3, 1, 7, 7, dtype=torch.bool)
        mask[..., -hidden:] = False
    *given, more = asked(mask, scaling=0.4)
    exact = sdpa_attention_forward(*given, **more)[0]
    assert torch.equal(attention(*given, **more)[0], exact), "nothing is dropped: nothing differs"
    torch.manual_seed(2)
    drawn = torch.stack([attention(*given, dropout=0.2, **more)[0] for _ in range(4000)])
    error = (drawn.mean(0) - exact) / (drawn.std(0) / 4000**0.5)
    assert error.abs().max() < 5
    # As far about the mean as torch's own: the same is dropped, shares and not scores.
    theirs = torch.stack([sdpa_attention_forward(*given, dropout=0.2, **more)[0] for _ in range(4000)])
    assert (drawn.std(0) / theirs.std(0)).sub(1).abs().max() < 0.1


def test_what_it_was_not_made_for_is_left_to_sdpa():
    for mask, more in ((None, {"is_causal": True}), (torch.zeros(3, 1, 7, 7, dtype=torch.float64), {})):
        *given, _ = asked(mask)
        torch.manual_seed(4)
        mine = attention(*given, dropout=0.5, **more)[0]
        torch.manual_seed(4)
        assert torch.equal(mine, sdpa_attention_forward(*given, dropout=0.5, **more)[0])


def test_a_transformer_gives_the_same_in_use_and_is_saved_as_it_was(tmp_path):
    torch.manual_seed(0)
    tiny = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = BertModel(tiny).eval()
    ids = torch.arange(12).view(2, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    before = model(input_ids=ids, attention_mask=mask).last_hidden_state
    model.save_pretrained(tmp_path / "before")
    lighten(model)
    assert model.config._attn_implementation == LIGHT
    assert {type(one) for one in model.modules() if isinstance(one, nn.Dropout)} == {Dropout}
    assert torch.equal(model(input_ids=ids, attention_mask=mask).last_hidden_state, before)
    model.train()
    torch.manual_seed(1)
    learning = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert not torch.allclose(learning, before)
    model.save_pretrained(tmp_path / "after")
    names = {one.name for one in (tmp_path / "before").iterdir()}
    assert {one.name for one in (tmp_path / "after").iterdir()} == names
    for name in names:
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_means_over_draws_give_the_gradient_of_torchs(one_thread):
    """Of a small network, so that ours is no other objective."""
    torch.manual_seed(0)
    weights = torch.randn(6, 5, requires_grad=True)
    some = torch.randn(40, 6)

    def mean_gradient(layer):
        total = np.zeros((6, 5))
        for _ in range(600):
            (grad,) = torch.autograd.grad((layer(some) @ weights).square().mean(), weights)
            total += grad.numpy()
        return total / 600

    ours, theirs = mean_gradient(Dropout(0.3)), mean_gradient(nn.Dropout(0.3))
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()
