"""A small grey copy of a scan, by which images that show the same are found."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array

_EDGE = {2: 64, 3: 20}
"""Of the small image that is kept, by rank."""


def small_copy(image: Array) -> Array | None:
    """A small grey copy, from which duplicates are told.

    Args:
        image: C x S.

    Returns:
        64 x 64 or 20 x 20 x 20 uint8, from the darkest to the brightest; None for images that are too small, show
        nothing or are not finite.
    """
    small = image.mean(axis=0, dtype=np.float32)
    edge = _EDGE[small.ndim]
    if min(small.shape) < 8 or not np.isfinite(small).all():
        return None
    for axis in range(small.ndim):
        small = _averaged(small, axis, edge)
    low, high = float(small.min()), float(small.max())
    # Next to nothing but rounding remains of an image without structure.
    if high - low <= 1e-5 * (1 + abs(high)):
        return None
    return np.asarray(np.rint((small - low) / (high - low) * 255), np.uint8)


def copy_from(content: bytes) -> Array:
    """The inverse of a small copy's `tobytes`."""
    shapes = {edge**rank: (edge,) * rank for rank, edge in _EDGE.items()}
    return np.frombuffer(content, np.uint8).reshape(shapes[len(content)])


def _averaged(array: Array, axis: int, count: int) -> Array:
    """Means over `count` equal pieces of an axis; voxels that lie in two pieces count for both."""
    length = array.shape[axis]
    sums = np.concatenate([np.zeros_like(array.take([0], axis)), np.cumsum(array, axis, dtype=np.float64)], axis)
    at = np.arange(count + 1) * length / count
    whole = np.minimum(at.astype(int), length - 1)
    part = (at - whole).reshape([-1 if other == axis else 1 for other in range(array.ndim)])
    until = sums.take(whole, axis) * (1 - part) + sums.take(whole + 1, axis) * part
    return np.asarray(np.diff(until, axis=axis) * (count / length), np.float32)
