from __future__ import annotations

import math

import numpy as np
import pytest

from ucseg.inference.disagreement import disagreement


def test_agreement_disagreement_and_the_middle() -> None:
    a = np.array([0, 1, 1, 0, 2, 2], np.uint8)
    b = np.array([0, 1, 0, 0, 2, 2], np.uint8)
    c = np.array([1, 0, 0, 1, 0, 0], np.uint8)
    assert disagreement([a, a], 3) == 0
    assert disagreement([a, c], 3) == 1
    # Class 1: 2 * 1 / (2 + 1); class 2: 1.
    assert disagreement([a, b], 3) == pytest.approx(1 - (2 / 3 + 1) / 2)
    # Three members: the mean over the pairs ab, ac, bc.
    assert disagreement([a, b, c], 3) == pytest.approx((1 / 6 + 1 + 1) / 3)


def test_absent_classes_do_not_count_as_agreement() -> None:
    a = np.array([0, 1, 1, 0], np.uint8)
    b = np.array([0, 0, 0, 1], np.uint8)
    assert disagreement([a, b], 5) == 1


def test_a_class_that_one_member_misses_counts() -> None:
    a = np.array([1, 1, 2, 2], np.uint8)
    b = np.array([1, 1, 0, 0], np.uint8)
    assert disagreement([a, b], 3) == pytest.approx(0.5)


def test_empty_masks_agree_and_one_member_says_nothing() -> None:
    empty = np.zeros((4, 4), np.uint8)
    assert disagreement([empty, empty], 2) == 0
    assert disagreement([empty, np.ones_like(empty)], 2) == 1
    assert math.isnan(disagreement([empty], 2))


def test_agreement_on_nothing_is_the_worst_where_there_should_be_something() -> None:
    empty = np.zeros((4, 4), np.uint8)
    first = np.zeros((4, 4), np.uint8)
    first[:2] = 1
    assert disagreement([empty, empty], 2, missed=[1]) == 1
    assert disagreement([first, first], 3, missed=[2]) == pytest.approx(0.5), "one of two classes is there"
    assert disagreement([first, first], 2, missed=[1]) == 1, "the prediction lacks what its members have"
