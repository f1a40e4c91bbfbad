"""Images that are there twice: equal to the last voxel, or nearly (saved again, resized, the next video frame)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ucseg.types import Array

NEARLY_THE_SAME = 0.995
"""Correlation of two thumbnails. On the public sets tried, copies reach 0.9999 and neighbours (the two sides of one
person, one lesion type, one exam) up to 0.99, a few pairs of frames more; three near-duplicate pairs of ISIC, which
differ in crop, stay below it."""

_THUMBNAIL_EDGE = {2: 24, 3: 12}
_ROWS_AT_ONCE = 1024


def digest(array: Array) -> str:
    """Equal for arrays of the same shape, type and values."""
    found = hashlib.blake2b(f"{array.shape}{array.dtype.str}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def packed(vector: Array | None) -> bytes | None:
    """A thumbnail in a byte a voxel, to be kept on disk."""
    return None if vector is None else np.rint(vector / np.abs(vector).max() * 127).astype(np.int8).tobytes()


def unpacked(kept: bytes | None) -> Array | None:
    """The thumbnail that was packed, to within rounding."""
    if kept is None:
        return None
    vector = np.frombuffer(kept, np.int8).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


def thumbnail(image: Array) -> Array | None:
    """A small grey version of an image, as a vector of mean 0 and length 1, so that a dot product is a correlation.

    Args:
        image: C x S, finite.

    Returns:
        24 * 24 or 12 * 12 * 12 float32; None for images that are smaller or show nothing.
    """
    small = image.mean(axis=0, dtype=np.float32)
    edge = _THUMBNAIL_EDGE[small.ndim]
    if min(small.shape) < edge:
        return None
    for axis, length in enumerate(small.shape):
        starts = np.arange(edge) * length // edge
        sizes = np.diff(np.append(starts, length)).astype(np.float32)
        shape = [-1 if other == axis else 1 for other in range(small.ndim)]
        small = np.add.reduceat(small, starts, axis=axis) / sizes.reshape(shape)
    vector = small.ravel() - small.mean()
    norm = float(np.linalg.norm(vector))
    # Next to nothing but rounding remains of an image without structure.
    return (vector / norm).astype(np.float32) if norm > 1e-6 * (1 + float(np.abs(small).max())) else None


def nearly_equal_pairs(thumbnails: Sequence[Array | None]) -> list[tuple[int, int, float]]:
    """(i, j, correlation) with i < j of all pairs above NEARLY_THE_SAME; a few rows at a time, for large sets."""
    pairs = []
    for length in {len(vector) for vector in thumbnails if vector is not None}:  # slices and volumes are not alike
        index = [i for i, vector in enumerate(thumbnails) if vector is not None and len(vector) == length]
        pairs += _pairs_among(np.stack([vector for i in index if (vector := thumbnails[i]) is not None]), index)
    return pairs


def _pairs_among(vectors: Array, index: Sequence[int]) -> list[tuple[int, int, float]]:
    pairs = []
    for start in range(0, len(index), _ROWS_AT_ONCE):
        likeness = vectors[start : start + _ROWS_AT_ONCE] @ vectors.T
        for row, column in zip(*np.nonzero(likeness > NEARLY_THE_SAME), strict=True):
            if start + row < column:
                pairs.append((index[start + row], index[column], float(likeness[row, column])))
    return pairs
