"""Which system is deployed: the best, but the encoder as it comes only where it is clearly ahead."""

from __future__ import annotations

import numpy as np
import pytest

from synthrec.evaluation import systems

NAMES = ("BM25", "zero-shot encoder", "BM25 + zero-shot", "fine-tuned encoder", "BM25 + fine-tuned")
QUERIES = 40


def found(*means, noise=0.0):
    """Values of each system around its mean; the same noise for all but the third."""
    dice = np.random.default_rng(0)
    shared, own = dice.normal(0, 0.2, QUERIES), dice.normal(0, noise, QUERIES)
    own -= own.mean()
    rows = [mean + shared - shared.mean() for mean in means]
    rows[2] = rows[2] + own
    return dict(zip(NAMES, rows, strict=True))


@pytest.mark.parametrize(
    ("means", "noise", "chosen"),
    [
        ((0.5, 0.3, 0.6, 0.4, 0.7), 0, ("BM25 + fine-tuned", "fine-tuned")),
        ((0.5, 0.3, 0.6, 0.8, 0.7), 0, ("fine-tuned encoder", "fine-tuned")),
        ((0.5, 0.3, 0.72, 0.4, 0.70), 0.05, ("BM25 + zero-shot", "zero-shot")),
        ((0.5, 0.3, 0.72, 0.4, 0.70), 0.5, ("BM25 + fine-tuned", "fine-tuned")),  # ahead, and within the error
        ((0.5, 0.9, 0.6, 0.4, 0.7), 0, ("zero-shot encoder", "zero-shot")),
        ((0.7, 0.3, 0.6, 0.4, 0.6), 0, ("BM25", "fine-tuned")),
        ((0.7, 0.3, 0.7, 0.2, 0.7), 0, ("BM25", "zero-shot")),  # of equals the simplest, and the better encoder
    ],
)
def test_the_best_is_chosen_and_what_was_trained_where_none_is_clearly_better(means, noise, chosen):
    assert systems.choose(found(*means, noise=noise)) == chosen


def test_few_queries_do_not_speak_against_what_was_trained():
    few = {name: values[:4] for name, values in found(0.5, 0.3, 0.9, 0.4, 0.7).items()}
    assert systems.choose(few) == ("BM25 + fine-tuned", "fine-tuned")


def test_queries_with_nothing_to_find_tell_nothing():
    values = {name: np.append(one, np.nan) for name, one in found(0.5, 0.9, 0.6, 0.4, 0.7).items()}
    assert systems.choose(values) == ("zero-shot encoder", "zero-shot")


def test_without_queries_both_are_taken():
    none = {name: np.zeros(0) for name in NAMES}
    assert systems.choose(none) == ("BM25 + fine-tuned", "fine-tuned")
