"""What a scan is like, against slow and literal ways to find it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ucseg.planning.facts import classes_in, quantiles


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_quantiles_are_those_of_numpy_to_the_last_bit(dtype: str, count: int) -> None:
    at = (np.arange(200) + 0.5) / 200
    values = (np.random.default_rng(count).normal(size=count) * 40 + 100).astype(dtype)
    np.testing.assert_array_equal(quantiles(values, at), np.quantile(values, at))


def test_slices_of_a_class_are_counted_as_one_by_one() -> None:
    label = (ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(9, 8, 7)), 1) > 0.3).astype(np.uint8)
    label[:, 3] = 0  # a slice without it, in between
    for axis in range(3):
        planes = [plane for plane in np.moveaxis(label, axis, 0) if plane.any()]
        single = sum(ndimage.label(plane, np.ones((3, 3)))[1] == 1 for plane in planes)
        found = classes_in(label, (0, 1, 2), (False,) * 3, axis)[1]
        assert (found.slices, found.single_slices) == (len(planes), single)
        assert 0 < single < len(planes)
