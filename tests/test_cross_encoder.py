"""The cross-encoder: what it learns from grades, through the loop that trains all recommenders, and what it saves."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_models import bert

from synthrec import recommenders
from synthrec.errors import UserError
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.recommenders.cross_encoder import CrossEncoder, Objective
from synthrec.recommenders.losses import rank_net
from synthrec.schema import GAINS
from synthrec.training import loop
from synthrec.training.distributed import gather

WORDS = "abcd"
# A product fits a query if it begins with its letter; if that letter is its second, it is a substitute.
PAIRS = [(q, x + y) for q, x, y in product(WORDS, WORDS, WORDS)]
SURE = {"E": [1.0, 0.0, 0.0, 0.0], "S": [0.1, 0.8, 0.1, 0.0], "I": [0.0, 0.0, 0.0, 1.0]}


def grade(query, text):
    return "E" if text[0] == query else "S" if text[1] == query else "I"


def batch_of(pairs):
    """A row a query, with its products."""
    of = {query: [text for q, text in pairs if q == query] for query, _ in pairs}
    grades = [[SURE[grade(query, text)] for text in texts] for query, texts in of.items()]
    return {"query": list(of), "products": list(of.values()), "grades": grades}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("base"), ["abcdef .xyz"])


def trained(base, rank_weight, epochs=100):
    settings = {"learning_rate": 3e-3, "embedding_rate": 3e-3, "rank_weight": rank_weight}
    objective = recommenders.objective("cross_encoder").start(base, settings, gather)
    rows = PAIRS
    plan = loop.Plan(len(rows), batch_size=16, epochs=epochs, warmup=0.1, seed=1)
    losses = []

    def report(metrics, save):
        losses.append(metrics["loss"])

    def loss(numbers):
        return objective(batch_of([rows[i] for i in numbers]))

    loop.train(loss, objective, objective.parameter_groups(), plan, Accelerator(cpu=True), report, lambda *_: None)
    return objective.encoder, losses


@pytest.fixture(scope="module")
def learnt(base):
    return trained(base, rank_weight=0.5)


def test_it_learns_to_rank_by_grade(base, learnt):
    encoder, losses = learnt
    texts = [x + y for x, y in product(WORDS, WORDS)]
    right = {"new": 0, "learnt": 0}
    for name, one in (("new", CrossEncoder.load(str(base))), ("learnt", encoder)):
        for query in WORDS:
            order = [texts[i] for i, _ in one.rerank(query, texts)]
            right[name] += sum(grade(query, text) == "E" for text in order[:4])
    assert losses[-1] < 0.5 * losses[0]
    assert right["learnt"] >= 14 > 8 > right["new"]


def test_its_score_is_the_expected_gain(learnt):
    encoder, _ = learnt
    queries, products = ["a", "b"], ["ab", "cd"]
    with torch.inference_mode():
        chances = encoder(queries, products).softmax(-1).numpy()
    scores = encoder.scores(list(zip(queries, products, strict=True)))
    np.testing.assert_allclose(scores, chances @ np.array(list(GAINS.values())), atol=1e-5)


def test_a_pair_scores_the_same_in_any_company(learnt):
    encoder, _ = learnt
    pairs = [("a", "ab"), ("abc", "fedcba" * 4), ("b", "")]
    alone = [float(encoder.scores([pair])[0]) for pair in pairs]
    np.testing.assert_allclose(encoder.scores(pairs, batch_size=2), alone, atol=1e-5)
    assert len(encoder.scores([])) == 0


def test_soft_labels_are_its_loss(base):
    encoder = CrossEncoder.load(str(base)).eval()
    batch = {"query": ["a", "a"], "product": ["ab", "cd"], "grades": [[0.6, 0.3, 0.1, 0.0], [0.0, 0.0, 0.2, 0.8]]}
    with torch.inference_mode():
        logits = encoder(batch["query"], batch["product"])
        logs = logits.log_softmax(-1).numpy()
        by_hand = -np.mean([(np.array(g) * row).sum() for g, row in zip(batch["grades"], logs, strict=True)])
        assert float(encoder.loss(batch)) == pytest.approx(by_hand, rel=1e-5)
        gains = torch.tensor(batch["grades"]) @ torch.tensor(list(GAINS.values()))
        pairs = rank_net(encoder.expected(logits).logit(), gains, torch.tensor([0, 0]))
        assert float(encoder.loss(batch, 2.0)) == pytest.approx(by_hand + 2 * float(pairs), rel=1e-4)


def test_saved_and_loaded_it_scores_the_same_and_no_pickle_is_left(learnt, tmp_path):
    encoder, _ = learnt
    before, encoder.longest = encoder.longest, 9
    Objective(encoder).save(tmp_path)
    encoder.longest, again = before, CrossEncoder.load(str(tmp_path))
    assert again.longest == 9
    np.testing.assert_allclose(again.scores(PAIRS[:20]), encoder.scores(PAIRS[:20]), atol=1e-6)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "E", "1": "S", "2": "C", "3": "I"}


def test_texts_of_any_length_are_read(learnt):
    encoder, _ = learnt
    assert np.isfinite(encoder.scores([("ab" * 200, "cd" * 200), ("a", "cd" * 200), ("ab" * 200, "")])).all()


def test_it_starts_from_a_bi_encoder_with_its_characters(base, tmp_path):
    bi = BiEncoder.load(str(base))
    assert bi.extend_vocabulary(["水壶"]) == 2
    bi.save(tmp_path)
    cross = CrossEncoder.load(str(tmp_path))
    own, old = (one.get_input_embeddings().weight for one in (cross.backbone, bi.backbone))
    torch.testing.assert_close(own, old)
    assert np.isfinite(cross.scores([("水壶", "水")])).all()


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot load the encoder"):
        CrossEncoder.load(str(tmp_path))
