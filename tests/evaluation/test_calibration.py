"""Calibration: what is right must score as right, what is sure and wrong must not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ucseg.evaluation.calibration import (
    brier_score,
    error_detection_auroc,
    expected_calibration_error,
    reliability,
)


def coin(confidence: float, accuracy: float, voxels: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    probabilities = np.stack([np.full(voxels, confidence), np.full(voxels, 1 - confidence)])
    label = (np.arange(voxels) >= accuracy * voxels).astype(np.uint8)
    return probabilities, label


def test_calibrated_and_overconfident_probabilities() -> None:
    assert expected_calibration_error(*coin(0.8, 0.8)) == pytest.approx(0.0, abs=1e-9)
    assert expected_calibration_error(*coin(0.99, 0.8)) == pytest.approx(0.19)
    assert brier_score(*coin(1.0, 1.0)) == 0.0
    assert brier_score(*coin(1.0, 0.0)) == 2.0
    assert brier_score(*coin(0.5, 0.5)) == pytest.approx(0.5)


def test_cases_add_up_before_they_are_judged() -> None:
    # Too sure on one case and too unsure on the other, in the same bin: together they are calibrated.
    one, other = reliability(*coin(0.8, 0.7)), reliability(*coin(0.8, 0.9))
    assert one.expected_calibration_error == pytest.approx(0.1)
    assert (one + other).expected_calibration_error == pytest.approx(0.0, abs=1e-9)
    assert (one + other).count.sum() == 2000


def test_a_region_keeps_the_background_out() -> None:
    probabilities, label = coin(0.99, 0.0, voxels=10)
    around = np.stack([np.ones(990), np.zeros(990)])
    probabilities, label = np.concatenate([probabilities, around], axis=1), np.concatenate([label, np.zeros(990)])
    region = np.arange(1000) < 10
    assert expected_calibration_error(probabilities, label) < 0.02
    assert expected_calibration_error(probabilities, label, where=region) == pytest.approx(0.99)
    assert brier_score(probabilities, label, where=region) == pytest.approx(2 * 0.99**2)
    assert math.isnan(expected_calibration_error(probabilities, label, where=region & ~region))
    assert math.isnan(brier_score(probabilities, label, where=region & ~region))


def test_uncertainty_that_finds_errors_and_one_that_hides_them() -> None:
    wrong = np.array([[True, False], [False, True]])
    assert error_detection_auroc(np.where(wrong, 0.9, 0.1), wrong) == 1.0
    assert error_detection_auroc(np.where(wrong, 0.1, 0.9), wrong) == 0.0
    assert error_detection_auroc(np.full((2, 2), 0.3), wrong) == 0.5
    assert math.isnan(error_detection_auroc(np.full((2, 2), 0.3), np.zeros((2, 2), bool)))
    with pytest.raises(ValueError, match="differ in shape"):
        error_detection_auroc(np.zeros(3), wrong)
