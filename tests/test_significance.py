"""Intervals and p values: what they promise, tried on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthrec.evaluation.significance import bootstrap_mean, compare, holm, paired_bootstrap, verdict


def test_the_interval_covers_the_true_mean_about_95_times_in_100():
    dice = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        found = bootstrap_mean(dice.beta(2, 3, size=80), samples=400, seed=seed)
        covered += found.low <= 2 / 5 <= found.high
    assert 0.9 <= covered / 300 <= 0.99


def test_the_interval_is_as_wide_as_the_normal_one_on_many_values():
    values = np.random.default_rng(1).normal(3, 2, 2000)
    found = bootstrap_mean(values, samples=4000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=half / 10)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 10)


def test_queries_without_a_value_change_nothing():
    values = np.random.default_rng(2).random(50)
    gaps = np.insert(values, [0, 10, 50], np.nan)
    assert bootstrap_mean(gaps, seed=4) == bootstrap_mean(values, seed=4)


def test_pairs_with_a_missing_side_are_dropped_together():
    dice = np.random.default_rng(3)
    a, b = dice.random((2, 40))
    some_a, some_b = a.copy(), b.copy()
    some_a[3], some_b[17], some_a[20], some_b[20] = [np.nan] * 4
    kept = np.delete(np.arange(40), [3, 17, 20])
    assert paired_bootstrap(some_a, some_b, seed=5) == paired_bootstrap(a[kept], b[kept], seed=5)


def test_nothing_to_average_claims_nothing():
    nothing = np.array([np.nan, np.nan])
    assert math.isnan(bootstrap_mean(nothing).mean)
    assert math.isnan(paired_bootstrap(nothing, nothing).mean)
    assert paired_bootstrap(nothing, nothing).p == 1


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    values = np.random.default_rng(6).random(60)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_one_system_against_itself_has_the_largest_p():
    values = np.random.default_rng(7).random(100)
    found = paired_bootstrap(values, values)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_system_that_is_clearly_better_is_seen_to_be():
    dice = np.random.default_rng(8)
    worse = dice.random(150)
    better = worse + dice.normal(0.1, 0.2, 150)
    found, mirrored = paired_bootstrap(better, worse), paired_bootstrap(worse, better)
    assert 0 < found.low < found.mean < found.high
    assert 0 < found.p < 0.01
    assert mirrored.high < 0
    assert mirrored.p == pytest.approx(found.p)


def test_equal_systems_are_seldom_claimed_to_differ():
    dice = np.random.default_rng(9)
    claims, trials = 0, 300
    for seed in range(trials):
        a, b = dice.random((2, 80))
        claims += paired_bootstrap(a, b, samples=400, seed=seed).p <= 0.05
    assert 0.01 <= claims / trials <= 0.1


def test_pairing_finds_a_small_gain_under_large_differences_between_queries():
    dice = np.random.default_rng(10)
    hardness = dice.normal(0, 5, 60)
    gain = dice.normal(0.1, 0.05, 60)
    assert paired_bootstrap(hardness + gain, hardness).low > 0
    assert bootstrap_mean(hardness + gain).low < 0


@pytest.mark.parametrize(
    ("given_p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm's steps: 4x, 3x, 2x, 1x, never falling
        ([0.02], [0.02]),
        ([0.5, 0.6, 0.7], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([], []),
    ],
)
def test_holm_as_worked_by_hand(given_p, adjusted):
    assert holm(given_p) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p):
    found = holm(p)
    assert all(a <= b + 1e-12 for a, b in zip(p, found, strict=True))
    assert all(b <= min(1, len(p) * a) + 1e-12 for a, b in zip(p, found, strict=True))
    assert [found[i] for i in sorted(range(len(p)), key=p.__getitem__)] == sorted(found)


def test_pairs_are_compared_each_with_its_baseline_and_corrected_together():
    dice = np.random.default_rng(0)
    base = dice.random(60)
    values = {"base": base, "better": base + 0.2 + 0.1 * dice.random(60), "same": base + 0.2 * dice.normal(size=60)}
    found = compare(values, [("better", "base"), ("same", "base")], samples=500, seed=1)
    assert [(one["system"], one["baseline"]) for one in found] == [("better", "base"), ("same", "base")]
    for one in found:
        alone = paired_bootstrap(values[one["system"]], base, 500, 1)
        assert (one["mean"], one["low"], one["high"], one["p"]) == (alone.mean, alone.low, alone.high, alone.p)
    assert [one["p_holm"] for one in found] == holm([one["p"] for one in found])
    assert found[0]["p_holm"] == 2 * found[0]["p"]


def test_a_verdict_holds_for_all_comparisons_together():
    """Five systems with nothing to tell them apart, each a little lucky: alone one would be called better."""
    dice = np.random.default_rng(5)
    nothing = np.zeros(60)
    values = {f"s{n}": dice.normal(0, 1, 60) for n in range(4)} | {"zero": nothing, "lucky": dice.normal(0.28, 1, 60)}
    tests = compare(values, [(name, "zero") for name in values if name != "zero"], seed=3)
    lucky = next(one for one in tests if one["system"] == "lucky")
    assert lucky["low"] > 0 and lucky["p_holm"] > 0.05
    assert verdict(lucky) == "no difference shown"
    assert verdict({"p_holm": 0.01, "mean": -0.1}) == "worse"
    assert verdict({"p_holm": 0.01, "mean": 0.1}) == "better"
