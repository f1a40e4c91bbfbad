"""Ranking and calibration against slow, literal versions of their definitions, and against scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage, stats

from ucseg.evaluation.ranking import (
    aurc,
    excess_aurc,
    failure_auroc,
    ranked_voxels,
    risk_by_coverage,
    spearman,
)
from ucseg.evaluation.reliability import Confidence
from ucseg.inference.calibration import near_structure
from ucseg.types import Array


def pairs_auroc(score: Array, bad: Array) -> float:
    """Every bad one with every good one."""
    wins = [(b > g) + 0.5 * (b == g) for b, g in itertools.product(score[bad], score[~bad])]
    return float(np.mean(wins))


def stepwise_precision(score: Array, bad: Array) -> float:
    """Average precision: over the distinct scores from the highest on, gained recall times precision."""
    total, before = 0.0, 0.0
    for limit in sorted(set(score.tolist()), reverse=True):
        found = score >= limit
        recall = (bad & found).sum() / bad.sum()
        total += (recall - before) * (bad & found).sum() / found.sum()
        before = recall
    return total


@pytest.fixture
def scored() -> tuple[Array, Array]:
    """Scores with many ties, whose steps the counting keeps apart."""
    generator = np.random.default_rng(3)
    return generator.integers(0, 40, 300).astype(np.float32) / 40, generator.uniform(size=300) < 0.2


def test_voxels_are_ranked_as_every_pair_of_them_says(scored: tuple[Array, Array]) -> None:
    score, bad = scored
    counted = ranked_voxels(score.reshape(10, 30), bad.reshape(10, 30))
    assert counted.auroc == pytest.approx(pairs_auroc(score, bad))
    assert counted.auroc == pytest.approx(
        stats.mannwhitneyu(score[bad], score[~bad]).statistic / bad.sum() / (~bad).sum()
    )
    assert counted.aupr == pytest.approx(stepwise_precision(score, bad))
    assert failure_auroc(score, bad) == pytest.approx(pairs_auroc(score, bad))


def test_counting_in_steps_is_close_to_exact_ranks() -> None:
    generator = np.random.default_rng(4)
    bad = generator.uniform(size=2000) < 0.3
    score = np.float32(1e-4) ** generator.uniform(0, 1, 2000).astype(np.float32) * np.where(bad, 1.0, 0.4).astype("f4")
    counted = ranked_voxels(score, bad)
    assert counted.auroc == pytest.approx(pairs_auroc(score, bad), abs=1e-3)
    assert counted.aupr == pytest.approx(stepwise_precision(score, bad), abs=2e-3)


def test_cases_add_up_to_their_voxels_together(scored: tuple[Array, Array]) -> None:
    score, bad = scored
    halves = ranked_voxels(score[:100], bad[:100]) + ranked_voxels(score[100:], bad[100:])
    assert halves.auroc == pytest.approx(pairs_auroc(score, bad))
    there = np.arange(300) % 3 == 0
    assert ranked_voxels(score, bad, there).auroc == pytest.approx(pairs_auroc(score[there], bad[there]))


def test_nothing_to_rank_has_no_figure() -> None:
    flat = ranked_voxels(np.ones(5, np.float32), np.zeros(5, bool))
    assert math.isnan(flat.auroc)
    assert math.isnan(flat.aupr)
    assert math.isnan(failure_auroc(np.arange(3.0), np.ones(3, bool)))
    assert math.isnan(aurc(np.zeros(0), np.zeros(0)))


def test_risk_over_coverage_by_hand() -> None:
    score, risk = np.array([0.1, 0.9, 0.4]), np.array([0.2, 0.8, 0.5])
    np.testing.assert_allclose(risk_by_coverage(score, risk), [0.2, 0.35, 0.5])
    assert aurc(score, risk) == pytest.approx(0.35)
    assert excess_aurc(score, risk) == pytest.approx(0)
    assert excess_aurc(-score, risk) == pytest.approx((0.8 + 0.65 + 0.5) / 3 - 0.35)


def test_equal_scores_count_as_the_mean_over_all_their_orders() -> None:
    score, risk = np.array([0.5, 0.2, 0.5, 0.5, 0.9]), np.array([0.3, 0.1, 0.9, 0.0, 0.4])
    curves = []
    for middle in itertools.permutations([0, 2, 3]):
        ordered = risk[[1, *middle, 4]]
        curves.append(np.cumsum(ordered) / np.arange(1, 6))
    np.testing.assert_allclose(risk_by_coverage(score, risk), np.mean(curves, axis=0))


def test_rank_correlation_is_that_of_scipy() -> None:
    score, risk = np.array([1.0, 2.0, 2.0, 5.0, 4.0]), np.array([0.1, 0.5, 0.2, 0.9, 0.9])
    ranks = [stats.rankdata(one) for one in (score, risk)]
    assert spearman(score, risk) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))


def literal_ece(probabilities: Array, label: Array, bins: int) -> float:
    confidence, right = probabilities.max(axis=0).ravel(), (probabilities.argmax(axis=0) == label).ravel()
    error = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def test_calibration_class_by_class_is_that_of_all_at_once() -> None:
    generator = np.random.default_rng(7)
    probabilities = generator.dirichlet([0.5, 1, 2], (6, 7)).transpose(2, 0, 1).astype(np.float32)
    label = generator.integers(0, 3, (6, 7))
    where = generator.uniform(size=(6, 7)) < 0.5
    found = Confidence(enumerate(probabilities), label)
    assert found.reliability().ece == pytest.approx(literal_ece(probabilities, label, 15), rel=1e-5)
    squares = ((probabilities - (np.arange(3)[:, None, None] == label)) ** 2).sum(axis=0)
    assert found.reliability().brier == pytest.approx(squares.mean(), rel=1e-5)
    near = found.reliability(where)
    assert near.ece == pytest.approx(literal_ece(probabilities[:, where], label[where], 15), rel=1e-5)
    assert near.brier == pytest.approx(squares[where].mean(), rel=1e-5)
    rest = near + found.reliability(~where)
    assert rest.ece == pytest.approx(found.reliability().ece)
    assert rest.brier == pytest.approx(squares.mean(), rel=1e-5)


def test_a_class_of_the_reference_alone_is_a_miss_of_all_probability() -> None:
    found = Confidence(enumerate(np.array([[1.0], [0.0]], np.float32)), np.array([5]))
    assert found.reliability().brier == pytest.approx(1 + 1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_near_is_the_structure_and_its_margin(spacing: tuple[float, ...]) -> None:
    predicted, true = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    predicted[9:12, 20:24], true[3, 4] = 2, 1
    expected = ndimage.distance_transform_edt((predicted == 0) & (true == 0), sampling=spacing) <= 3
    np.testing.assert_array_equal(near_structure(predicted, true, spacing, 3), expected)
    assert not near_structure(true * 0, true * 0, spacing, 3).any()
