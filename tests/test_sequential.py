"""The sequential model: what it may see, how it is packed, what it learns, cold items, and that it is kept whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from synthrec.evaluation.recommendation import judge
from synthrec.evaluation.splits import Cases
from synthrec.recommenders.items import Items, Whitening
from synthrec.recommenders.packing import pack
from synthrec.recommenders.sequential import Sequential, Shape, gbce, softmax

SMALL = Shape(width=16, blocks=2, heads=2, longest=6, dropout=0.0, negatives=0)
histories = st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=9), min_size=1, max_size=6)


def arrays(rows):
    return [np.array(row, np.int64) for row in rows]


def ask(rows):
    return Cases(np.arange(len(rows)), arrays(rows), arrays([[0]] * len(rows)))


def made(shape=SMALL, known=None, features=None, seed=0):
    """A model of 20 items with weights large enough that all of it matters."""
    torch.manual_seed(seed)
    model = Sequential(np.ones(20, bool) if known is None else known, shape, features)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def texts(seed=0, items=20):
    return np.random.default_rng(seed).normal(size=(items, 8)).astype(np.float32)


# Packing.


@given(histories)
@settings(deadline=None)
def test_packed_sequences_are_all_there_and_little_is_padded(rows):
    packed = pack(arrays(rows))
    back = {}
    start = 0
    for number, end in zip(packed.order, packed.ends.tolist(), strict=True):
        back[int(number)] = packed.items[start : end + 1].tolist()
        assert packed.ages[start : end + 1].tolist() == list(range(end - start, -1, -1))
        start = end + 1
    assert [back[i] for i in range(len(rows))] == rows
    assert sum(g.count for g in packed.groups) == len(rows)
    tokens = torch.arange(1.0, len(packed.items) + 1)[:, None]
    for group in packed.groups:
        padded = group.pad(tokens)
        assert padded.shape == (group.count, group.longest, 1)
        assert group.count * group.longest < 2 * (group.stop - group.start)
        assert torch.equal(group.unpad(padded), tokens[group.start : group.stop])


@given(histories, st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_company_changes_no_shoppers_vector(rows, pick):
    model = made()
    together = model.encode(arrays(rows))
    pick %= len(rows)
    np.testing.assert_allclose(together[pick], model.encode(arrays([rows[pick]]))[0], atol=1e-5)


# What it sees.


def test_no_position_sees_what_comes_after_it():
    model = made()
    one, other = (pack(arrays([[1, 2, 3, last]])) for last in (4, 9))
    states = [model.hidden(model.catalogue(packed.items), packed) for packed in (one, other)]
    torch.testing.assert_close(states[0][:3], states[1][:3])
    assert not torch.allclose(states[0][3], states[1][3], atol=0.01)


def test_order_matters_and_what_is_too_long_ago_does_not():
    model = made()
    vectors = model.encode(arrays([[1, 2, 3], [2, 1, 3], [7, 1, 2, 3, 4, 5, 6], [9, 8, 1, 2, 3, 4, 5, 6]]))
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01
    np.testing.assert_allclose(vectors[2], vectors[3], atol=1e-6)


def test_scores_are_the_products_of_the_vectors_and_a_newcomers_are_alike():
    model = made()
    scores = model.scores(ask([[1, 2], [], [3]]))
    np.testing.assert_allclose(scores, model.encode(arrays([[1, 2], [], [3]])) @ model.vectors().T, atol=1e-5)
    assert (scores[1] == 0).all()
    assert scores.dtype == np.float32
    assert model.encode([]).shape == (0, 16)


# The loss.


def by_hand(model, sequences):
    """Mean cross-entropy, one position at a time, each from a history of its own length."""
    out = []
    for one in sequences:
        for end in range(1, len(one)):
            packed = pack([one[:-1]])
            hidden = model.hidden(model.catalogue(packed.items), packed)[end - 1]
            out.append(functional.cross_entropy(hidden @ model.catalogue().T, torch.tensor(one[end])))
    return torch.stack(out).mean()


def test_the_loss_is_of_every_position_over_the_whole_catalogue():
    model = made()
    sequences = arrays([[1, 2, 3, 4], [5, 6], [8], [7, 7, 9]])
    torch.testing.assert_close(model.loss(sequences), by_hand(model, [s for s in sequences if len(s) > 1]))


def test_the_loss_counts_the_last_of_a_long_sequence():
    model = made()
    long = np.arange(12)
    torch.testing.assert_close(model.loss([long]), model.loss([long[-7:]]))


def test_a_large_sample_comes_to_what_the_whole_catalogue_does():
    # With the logQ correction; without it a sample of 2,000 of 20 items would weigh each a hundred times.
    model = made()
    sequences = arrays([[1, 2, 3, 4], [5, 6, 7]])
    sampled = made(Shape(**{**vars(SMALL), "negatives": 20_000}))
    assert sampled.loss(sequences).item() == pytest.approx(model.loss(sequences).item(), abs=0.05)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_its_formula(t):
    dice = np.random.default_rng(3)
    own, others, share = dice.normal(size=4), dice.normal(size=(4, 5)), 0.25
    beta = share * (t * (1 - 1 / share) + 1 / share)
    right, wrong = 1 / (1 + np.exp(-own)), 1 / (1 + np.exp(-others))
    by_hand = -np.mean((np.log(right**beta) + np.log(1 - wrong).sum(1)) / 6)
    found = gbce(torch.from_numpy(own), torch.from_numpy(others), share, t).mean()
    assert float(found) == pytest.approx(by_hand, rel=1e-6)
    hit = torch.from_numpy(np.concatenate([others, np.full((4, 1), -np.inf)], axis=1))
    assert float(gbce(torch.from_numpy(own), hit, share, t).mean()) == pytest.approx(by_hand * 6 / 7, rel=1e-6)


@pytest.mark.parametrize(("negatives", "t"), [(0, None), (8, None), (8, 0.75)])
def test_it_learns_what_follows_what(negatives, t):
    dice = np.random.default_rng(1)
    starts = dice.integers(0, 20, 200)
    sequences = [(start + 3 * np.arange(dice.integers(2, 7))) % 20 for start in starts]
    torch.manual_seed(0)
    model = Sequential(np.ones(20, bool), Shape(width=16, dropout=0.1, longest=6, negatives=negatives, gbce=t))
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01, 0.01))
    for step in range(150 if t is None else 400):  # gBCE pulls less at what is right
        model.train()
        loss = model.loss(sequences[step % 4 * 50 : step % 4 * 50 + 50])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    cases = Cases(
        np.arange(20), arrays([[(i - 3) % 20, i] for i in range(20)]), arrays([[(i + 3) % 20] for i in range(20)])
    )
    assert judge(model, cases, sequences, False, cuts=(1,)).by_case["hr@1"].mean() == 1


# Cold items.

COLD = np.arange(20) < 15


@pytest.mark.parametrize("negatives", [0, 8])
@pytest.mark.parametrize("features", [None, texts()])
def test_training_leaves_cold_items_without_an_embedding_of_their_own(negatives, features):
    shape = Shape(**{**vars(SMALL), "negatives": negatives})
    model = Sequential(COLD, shape, features)
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01, 0.1))
    before = model.catalogue.ids.weight.clone()
    for _ in range(3):
        model.loss(arrays([[1, 2, 3], [4, 5, 6, 14]])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not model.catalogue.ids.weight[15:].any()
    assert (model.catalogue.ids.weight[1:7] != before[1:7]).any(1).all()


def thinking(negatives=0, **shape):
    """Items 15 to 17 stand in synthetic sequences alone; weights as of a model that knows nothing of them."""
    whole = Shape(**{**vars(SMALL), "negatives": negatives, **shape})
    torch.manual_seed(0)
    plain = Sequential(COLD, whole, texts())
    model = Sequential(COLD, whole, texts(), np.arange(20) < 18)
    model.load_state_dict(plain.state_dict())
    return plain, model


@pytest.mark.parametrize("negatives", [0, 20])
def test_what_nobody_took_is_no_negative_of_what_somebody_took(negatives):
    """Twenty sampled are all there are, and stand for themselves: both losses are softmax over the same."""
    plain, model = thinking(negatives)
    rows = arrays([[1, 2, 3], [4, 5, 6, 14]])
    assert model.loss(rows).item() == pytest.approx(plain.loss(rows).item(), rel=1e-5)
    full = thinking()[1]
    led = arrays([[1, 16], [3, 4, 17]])
    assert model.loss(led).item() == pytest.approx(full.loss(led).item(), rel=1e-5)
    hidden = full.encode(arrays([[1]])) @ full.vectors().T
    among = np.delete(hidden[0], [18, 19])
    expected = float(np.log(np.exp(among).sum()) - hidden[0][16])
    assert full.loss(led[:1]).item() == pytest.approx(expected, rel=1e-4)


def test_a_thought_of_item_is_learnt_by_its_features_alone_and_kept_so(tmp_path):
    _, model = thinking(temperature=0.1)
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01, 0.0))
    rows = arrays([[i % 15, (i + 1) % 15] for i in range(15)] + [[3, 16]] * 4)

    def step():
        optimizer.zero_grad()
        model.loss(rows).backward()
        optimizer.step()

    before = model.scores(ask([[3]]))[0]
    for _ in range(60):
        step()
    after = model.scores(ask([[3]]))[0]
    assert not model.catalogue.ids.weight[15:].any()
    assert (after > after[16]).sum() <= 1 < (before > before[16]).sum()
    model.save(tmp_path)
    again = Sequential.load(tmp_path)
    assert again.loss(rows).item() == pytest.approx(model.eval().loss(rows).item(), rel=1e-5)
    assert (again.pool == model.pool).all()


@pytest.mark.parametrize("negatives", [0, 20])
def test_a_sequence_counts_by_its_weight(negatives):
    _, model = thinking(negatives)
    rows = arrays([[1, 2, 3], [7], [4, 5, 6, 16]])
    alone = [model.loss([one]).item() for one in (rows[0], rows[2])]
    assert model.loss(rows, [1.0, 9.0, 0.25]).item() == pytest.approx((2 * alone[0] + 0.75 * alone[1]) / 5, rel=1e-5)
    assert model.loss(rows, [1.0] * 3).item() == pytest.approx(model.loss(rows).item(), rel=1e-6)
    assert model.loss(rows[:1], [0.01]).item() == pytest.approx(alone[0] / 100, rel=1e-5), "alone in its batch, too"


def test_the_softmax_of_a_large_catalogue_is_made_in_parts():
    dice = torch.Generator().manual_seed(0)
    hidden, items = (torch.randn(n, 8, generator=dice, requires_grad=True) for n in (11, 30))
    right = torch.randint(30, (11,), generator=dice)
    found = {}
    for cells in (1 << 20, 100, 7):
        losses = softmax(hidden, items, right, cells)
        found[cells] = losses, *torch.autograd.grad((losses * torch.arange(11)).sum(), (hidden, items))
    for some in found.values():
        for one, whole in zip(some, found[1 << 20], strict=True):
            torch.testing.assert_close(one, whole)


def test_without_features_what_was_thought_of_is_known_as_any_other():
    model = Sequential(COLD, SMALL, None, np.arange(20) < 18)
    assert np.isfinite(model.scores(ask([[16]]))[:, :18]).all()
    assert np.isneginf(model.scores(ask([[16]]))[:, 18:]).all()


def test_without_features_a_cold_item_cannot_be_scored():
    scores = made(known=COLD).scores(ask([[1, 2], [3]]))
    assert np.isneginf(scores[:, 15:]).all()
    assert np.isfinite(scores[:, :15]).all()


def test_a_cold_item_is_scored_by_its_features():
    # The last item has the text of item 4, and nothing of its own; nor has any other without ids.
    features = texts()
    features[19] = features[4]
    scores = made(Shape(**{**vars(SMALL), "ids": False}), COLD, features).scores(ask([[1, 2], [3]]))
    np.testing.assert_allclose(scores[:, 19], scores[:, 4], atol=1e-5)
    assert scores.std() > 0.1


def test_an_item_needs_something_to_be_known_by():
    with pytest.raises(ValueError, match="an embedding of its own, features, or both"):
        Items(COLD, 4, False, None)
    with pytest.raises(ValueError, match="3 rows of features for 20 items"):
        Items(COLD, 4, True, texts(items=3))


def test_several_features_are_columns_side_by_side():
    text, image = texts(1), texts(2)[:, :3]
    model = made(features=np.concatenate([text, image], 1))
    assert model.scores(ask([[1]])).shape == (1, 20)
    assert model.catalogue.features.shape == (20, 11)


# Whitening.


@pytest.mark.parametrize("width", [5, 30])
def test_whitened_features_are_uncorrelated_and_near_what_they_were(width):
    dice = np.random.default_rng(0)
    features = (dice.normal(size=(400, width)) @ dice.normal(size=(width, width)) + 3).astype(np.float32)
    whitening = Whitening(width)
    whitening.fit(features, least=0)
    white = whitening(torch.from_numpy(features)).numpy().astype(np.float64)
    np.testing.assert_allclose(white.T @ white / 400, np.eye(width), atol=2e-3)
    assert (white * (features - features.mean(0))).sum() > 0


def test_directions_in_which_nothing_varies_are_no_signal():
    features = texts(items=50)
    flat = np.concatenate([features, features[:, :1] + 1, np.full((50, 1), 7, np.float32)], 1)
    whitening = Whitening(10)
    whitening.fit(flat)
    white = whitening(torch.from_numpy(flat)).numpy()
    assert np.isfinite(white).all()
    assert np.linalg.matrix_rank(white, tol=1e-2) == 8
    assert np.abs(white).max() < 10


# Kept whole.


@pytest.mark.parametrize("features", [None, texts()])
def test_saved_and_loaded_it_scores_the_same(tmp_path, features):
    model = made(known=COLD, features=features)
    model.save(tmp_path)
    again = Sequential.load(tmp_path)
    cases = ask([[1, 2, 16], [3]])
    np.testing.assert_array_equal(again.scores(cases), model.scores(cases))
    assert again.shape == model.shape
    assert {one.name for one in tmp_path.iterdir()} == {"sequential.json", "sequential.safetensors"}


def test_each_parameter_is_in_one_group_and_embeddings_do_not_decay():
    model = made(features=texts())
    groups = model.parameter_groups(0.1, 0.2)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0]
    kept = {id(p) for p in groups[1]["params"]}
    assert {id(model.catalogue.ids.weight), id(model.ages.weight), id(model.norm.bias)} <= kept
    assert id(model.blocks[0].out.weight) not in kept


@pytest.mark.parametrize("negatives", [0, 8])
def test_scores_are_cosines_over_the_temperature_and_are_kept(tmp_path, negatives):
    shape = Shape(**{**vars(SMALL), "temperature": 0.1, "negatives": negatives})
    model, rows = made(shape), [[1, 2, 3], [4]]
    scores = model.scores(ask(rows))
    assert np.abs(scores).max() <= 10 + 1e-4
    np.testing.assert_allclose(np.linalg.norm(model.vectors(), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.encode(arrays(rows)), axis=1), 10, atol=1e-4)
    assert torch.isfinite(model.loss(arrays(rows)))
    model.save(tmp_path)
    np.testing.assert_array_equal(Sequential.load(tmp_path).scores(ask(rows)), scores)
