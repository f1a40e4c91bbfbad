"""Calibration: what it fits, on cases whose truth is known; and that it changes no mask."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from threshold_run import make_run, plan_2d

from refusals import refused
from ucseg.inference.calibration import (
    FILE,
    Calibration,
    CaseRecord,
    Keeper,
    PredictedDice,
    calibrate,
    kept_for,
    record_of,
)
from ucseg.inference.case_scores import boundary_uncertainty, expected_loss, mean_entropy
from ucseg.inference.predictor import Predictor
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array


def record(score: float, dice: float, generator: np.random.Generator, sharpness: float = 1.0) -> CaseRecord:
    """Two classes, true with the probability p, which is told as p^sharpness over the sum."""
    true = generator.uniform(0.02, 0.98, 4000).astype(np.float32)
    label = (generator.uniform(size=4000) < true).astype(np.uint8)
    told = np.stack([1 - true, true]) ** sharpness
    told /= told.sum(axis=0)
    wrong = (told.argmax(axis=0) != label).astype(bool)
    return CaseRecord(told, 1 - told.max(axis=0), label, wrong, score, dice)


def test_temperature_and_chance_of_error_undo_what_made_them_wrong() -> None:
    generator = np.random.default_rng(1)
    found = calibrate([record(0.1, 0.9, generator, sharpness=2.5) for _ in range(5)], "w", mirror=True)
    assert found is not None
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    probabilities = np.array([[[0.2, 0.9]], [[0.8, 0.1]]], np.float32)
    powers = probabilities ** (1 / found.temperature)
    np.testing.assert_allclose(found.soften(probabilities.copy()), powers / powers.sum(axis=0), rtol=1e-5)
    one = record(0, 0, generator, sharpness=2.5)
    assert found.chance_of_error(one.uncertainty).mean() == pytest.approx(one.wrong.mean(), abs=0.02)
    doubts = np.array([1e-9, 0.01, 0.2, 0.5, 1.0], np.float32)
    assert (np.diff(found.chance_of_error(doubts)) > 0).all(), "the order stays"


def test_uncertainty_that_ranks_nothing_is_left_alone() -> None:
    one = record(0.1, 0.9, np.random.default_rng(2))
    backwards = CaseRecord(one.probabilities, 1 - one.uncertainty, one.label, one.wrong, 0.1, 0.9)
    found = calibrate([backwards], "w", mirror=False)
    assert found is not None and found.uncertainty is None and found.dice is None
    np.testing.assert_array_equal(found.chance_of_error(one.uncertainty), one.uncertainty)


def of_scores(scores: Array, dice: Array) -> PredictedDice | None:
    empty = np.zeros((2, 1), np.float32), np.zeros(1, np.float32), np.zeros(1, np.uint8), np.zeros(1, bool)
    records = [CaseRecord(*empty, float(s), float(d)) for s, d in zip(scores, dice, strict=True)]
    found = calibrate(records, "w", mirror=False)
    return None if found is None else found.dice


def test_predicted_dice_and_its_interval_hold_on_new_cases() -> None:
    generator = np.random.default_rng(3)

    def draw(n: int) -> tuple[Array, Array]:
        score = generator.uniform(0.05, 0.6, n)
        return score, np.clip(1.1 - 1.5 * score + generator.normal(0, 0.2 * score), 0, 1)

    within = []
    for _ in range(40):
        line = of_scores(*draw(40))
        assert line is not None and line.width is not None
        for score, dice in zip(*draw(50), strict=True):
            middle, low, high = line.of(score)
            assert 0 <= low <= middle <= high <= 1
            within.append(low <= dice <= high)
    assert 0.88 < np.mean(within) < 0.97, "at least 90 % is promised on average; 20 cases give up to 1 / 21 more"


def test_few_cases_give_no_interval_and_fewer_no_line() -> None:
    line = of_scores(np.linspace(0.1, 0.5, 8), 1 - np.linspace(0.1, 0.5, 8))
    assert line is not None and line.width is None
    assert line.of(0.2)[0] == pytest.approx(0.8)
    assert math.isnan(line.of(0.2)[1]) and math.isnan(line.of(math.nan)[0])
    assert of_scores(np.array([0.1, 0.3, math.nan]), np.ones(3)) is None


def test_the_predicted_dice_is_whole_without_doubt_or_the_mean_where_the_score_says_nothing() -> None:
    scores, dice = np.array([0.1, 0.3, 0.5]), np.array([0.95, 0.84, 0.76])
    line = of_scores(scores, dice)
    assert line is not None and line.of(0.0)[0] == 1
    assert np.mean([line.of(score)[0] for score in scores]) == pytest.approx(dice.mean())
    backwards = of_scores(np.linspace(0.1, 0.5, 8), np.linspace(0.1, 0.5, 8))
    assert backwards is not None and backwards.slope == 0 and backwards.of(0.1)[0] == pytest.approx(0.3)
    for found in (0.5, 1.0):
        sure = of_scores(np.zeros(3), np.full(3, found))
        assert sure is not None and sure.of(0.0)[0] == found and sure.of(0.001)[0] == pytest.approx(found, abs=0.01)


def test_what_is_kept_of_a_case_lies_near_its_structure() -> None:
    true, predicted = np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.uint8)
    true[10:20, 10:20], predicted[10:20, 12:22] = 1, 1
    probabilities = np.stack([1 - predicted, predicted]).astype(np.float32)
    few = record_of(probabilities, np.ones(true.shape), (predicted, true), 0.1, 0.8, cases=1)
    assert few.wrong.sum() == 40, "two columns on each side"
    assert 12 * 10 < few.label.size < 22 * 22
    assert record_of(probabilities, np.ones(true.shape), (predicted, true), 0.1, 0.8, cases=40_000).label.size <= 50


def test_scores_by_hand() -> None:
    probabilities = np.array([[[0.9, 0.4, 0.2, 0.8]], [[0.1, 0.6, 0.8, 0.2]]], np.float32)
    label = probabilities.argmax(axis=0)
    assert expected_loss(probabilities, label) == pytest.approx(1 - 2 * 1.4 / (2 + 1.7), rel=1e-5)
    assert expected_loss(probabilities, label, missed=[1]) == 1
    assert expected_loss(probabilities, label * 0) == pytest.approx(0.8), "the chance of the likeliest voxel"
    expected = -(probabilities * np.log(probabilities)).sum(axis=0).mean() / math.log(2)
    assert mean_entropy(probabilities) == pytest.approx(expected, rel=1e-5)
    doubt = np.array([[0.1, 0.2, 0.4, 0.9]])
    assert boundary_uncertainty(doubt, np.array([[0, 0, 1, 1]])) == pytest.approx(0.3)
    assert boundary_uncertainty(doubt, label * 0) == 0.9


def test_it_is_kept_for_exactly_these_weights_and_changes_no_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", plan_2d(augmentation={"flip": 0.5}), monkeypatch)
    image = np.random.default_rng(5).uniform(0, 1, (1, 40, 30)).astype(np.float32)
    scan = Scan(image, Geometry(np.eye(3), "px"), Path("scan.png"))
    before = Predictor.from_run(run, device="cpu")
    plain = before.predict_scan(scan, probabilities=True)
    line = PredictedDice(intercept=0.0, slope=1.0, width=0.5)
    Keeper(run, writes=False)(Calibration(weights=before.weights, mirror=True, cases=9, temperature=2))
    assert not (run / FILE).exists()
    keeper = Keeper(run, writes=True)
    for weights in ("others", before.weights):
        keeper(Calibration(weights=weights, mirror=True, cases=9, temperature=2, uncertainty=(-1.0, 0.5), dice=line))
    known = Predictor.from_run(run, device="cpu")
    found = known.predict_scan(scan, probabilities=True)
    np.testing.assert_array_equal(found.mask, plain.mask)
    assert found.probabilities is not None and plain.probabilities is not None
    np.testing.assert_array_equal(found.probabilities.argmax(axis=0), plain.probabilities.argmax(axis=0))
    assert (found.uncertainty < plain.uncertainty).all()
    assert found.scores == plain.scores, "scores are of the network's own probabilities"
    assert found.predicted_dice[0] == pytest.approx(1) and math.isnan(plain.predicted_dice[0])
    assert Predictor.from_run(run, device="cpu", mirror=False).calibration is None
    assert kept_for(run, "unknown", mirror=True) is None
    (run / FILE).write_text('{"calibrations": [{"weights": "w", "mirror": true, "cases": 3, "temperature": -1}]}')
    with refused("setting-value", naming=["temperature"]):
        Predictor.from_run(run, device="cpu")
