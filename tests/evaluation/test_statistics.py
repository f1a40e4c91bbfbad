"""Intervals and paired comparisons: coverage, whole subjects, undefined values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ucseg.evaluation.statistics import bootstrap_interval, paired_difference
from ucseg.inference.class_means import mean_of_class_means


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap_interval(rng.normal(0.8, 0.1, size=40), seed=trial, n=1000)
        hits += interval.low <= 0.8 <= interval.high
    assert 178 <= hits <= 200  # 95 % of 200, four standard deviations


def test_few_subjects_have_the_interval_of_student() -> None:
    values = np.random.default_rng(7).beta(9, 1.5, size=8)
    interval = bootstrap_interval(values, limits=(0, 1))
    half = 2.365 * values.std(ddof=1) / math.sqrt(8)  # the closed form; 2.365: 97.5 % of t with 7 degrees of freedom
    assert interval.high == pytest.approx(min(1, values.mean() + half), abs=0.03 * half)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03 * half)
    difference = paired_difference(values, values[::-1] / 2)
    half = 2.365 * (values - values[::-1] / 2).std(ddof=1) / math.sqrt(8)
    assert difference.high - difference.low == pytest.approx(2 * half, rel=0.03)


def test_an_interval_of_few_skewed_dice_covers_the_truth() -> None:
    """Percentiles of the bootstrap cover it in 82 % of the trials with five subjects, and in 88 % with ten."""
    for subjects, least in ((5, 0.9), (10, 0.9)):
        rng, hits = np.random.default_rng(0), 0
        for trial in range(400):
            found = bootstrap_interval(rng.beta(9, 1.5, size=subjects), trial, n=300, limits=(0, 1))
            hits += found.low <= 9 / 10.5 <= found.high
        assert hits >= least * 400


def test_no_end_of_an_interval_is_out_of_the_limits() -> None:
    interval = bootstrap_interval([0.99, 0.98, 0.4], limits=(0, 1))
    assert (interval.low, interval.high) == (0, 1)
    assert paired_difference([1.0, 0.9], [0.0, 0.5], limits=(-1, 1)).high == 1


def test_copies_of_a_subject_add_no_certainty() -> None:
    values = np.random.default_rng(1).normal(size=12)
    single = bootstrap_interval(values, seed=2)
    copied = bootstrap_interval(np.repeat(values, 5), seed=2, subjects=[f"s{i // 5:02d}" for i in range(60)])
    ignored = bootstrap_interval(np.repeat(values, 5), seed=2)
    assert (copied.mean, copied.low, copied.high) == pytest.approx((single.mean, single.low, single.high))
    assert ignored.high - ignored.low < 0.6 * (single.high - single.low)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(list(values), seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_undefined_values_are_left_out_and_every_class_counts_the_same() -> None:
    table = np.array([[0.9, math.nan], [0.7, 0.2], [0.8, math.nan], [math.nan, math.nan]])
    interval = bootstrap_interval(table, seed=0)
    assert interval.mean == pytest.approx((0.8 + 0.2) / 2)
    assert interval.cases == 3
    assert interval.low <= interval.mean <= interval.high
    assert bootstrap_interval(table[:, 1]).cases == 1


def test_nothing_to_say_is_not_a_number() -> None:
    nothing = bootstrap_interval([math.nan, math.nan])
    assert nothing.cases == 0
    assert math.isnan(nothing.mean)
    one = bootstrap_interval([0.5, 0.7], subjects=["a", "a"])
    assert one.mean == pytest.approx(0.6)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_many_subjects_do_not_change_the_answer_by_being_drawn_in_parts() -> None:
    # 5,000 subjects are drawn in several parts; the interval must be that of a mean of so many: 2 x 1.96 / sqrt(5000).
    values = np.random.default_rng(5).normal(size=5000)
    interval = bootstrap_interval(values, seed=0, n=2000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(5000), rel=0.1)


def test_a_small_steady_gain_is_seen_through_large_differences_between_cases() -> None:
    rng = np.random.default_rng(6)
    hard = rng.uniform(0.3, 0.9, size=30)
    better, worse = hard + 0.02 + rng.normal(0, 0.01, size=30), hard
    compared = paired_difference(better, worse, seed=0)
    assert 0.01 < compared.low < compared.mean < compared.high < 0.03
    assert compared.p < 1e-4
    back = paired_difference(worse, better, seed=0)
    assert (back.mean, back.p) == pytest.approx((-compared.mean, compared.p))
    chance = paired_difference(hard, rng.permutation(hard), seed=0)
    assert chance.low < 0 < chance.high


def test_pairs_with_an_undefined_side_are_left_out() -> None:
    compared = paired_difference([0.9, math.nan, 0.8, 0.7], [0.8, 0.5, math.nan, 0.5])
    assert compared.cases == 2
    assert compared.mean == pytest.approx(0.15)


def test_tables_are_compared_by_the_mean_of_their_class_means() -> None:
    """A false positive of one side counts, though the other side has no value there: so do the means that are shown."""
    ours = np.array([[0.9, math.nan], [0.7, 0.6], [0.8, 0.4], [0.6, 0.5]])
    theirs = np.array([[0.8, 0.0], [0.7, 0.5], [0.6, 0.4], [0.7, 0.1]])
    compared = paired_difference(ours, theirs, subjects=["a", "b", "c", "c"])
    assert compared.mean == pytest.approx(mean_of_class_means(ours) - mean_of_class_means(theirs))
    assert compared.cases == 3  # subjects
    assert compared.p == 0.25  # three of three are better: 2 / 2^3


def test_equal_methods_and_a_single_subject_prove_nothing() -> None:
    assert paired_difference([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]).p == 1.0
    assert math.isnan(paired_difference([0.9], [0.8]).p)
    four = paired_difference(np.linspace(0.5, 0.9, 4), np.linspace(0.4, 0.7, 4))
    assert four.p == pytest.approx(0.125)  # four subjects, all the same way: 2 / 2^4
    with pytest.raises(ValueError, match="the same cases"):
        paired_difference([0.5, 0.6], [0.5])
