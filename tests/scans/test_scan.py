"""Where voxels lie, and how they lie in memory."""

from __future__ import annotations

import numpy as np
import pytest

from ucseg.scans.scan import Geometry, native


def test_displacement_is_that_of_the_farthest_corner_in_the_unit_of_the_geometry() -> None:
    one = Geometry(np.diag([2.0, 2.0, 5.0, 1.0]))
    assert one.displacement(one, (4, 4, 4)) == 0
    longer = Geometry(np.diag([2.0, 2.0, 5.5, 1.0]))
    assert one.displacement(longer, (4, 4, 4)) == longer.displacement(one, (4, 4, 4)) == pytest.approx(3 * 0.5)
    moved = Geometry(one.affine + np.outer([3, 4, 0, 0], [0, 0, 0, 1]))
    assert one.displacement(moved, (1, 1, 1)) == pytest.approx(5)
    turned = Geometry(np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]), "px")
    assert turned.displacement(Geometry(np.eye(3), "px"), (4, 5)) == pytest.approx(2**0.5 * 5)


def test_native_keeps_the_numbers() -> None:
    numbers = np.arange(6).reshape(2, 3)
    assert native(numbers.astype(">i4")).dtype == np.int32
    assert np.array_equal(native(numbers.astype(">i4")), numbers)
    truth = native(numbers > 2)
    assert (truth.dtype, truth.sum()) == (np.uint8, 3)
    same = numbers.astype(np.float32)
    assert native(same) is same
