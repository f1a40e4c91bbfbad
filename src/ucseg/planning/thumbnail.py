"""What does a scan look like in small? A grey thumbnail, by which images that show the same are found."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array

_EDGE = {2: 64, 3: 20}
"""Of a thumbnail, by rank."""


def thumbnail_of(image: Array) -> bytes | None:
    """A small grey copy of an image, by which duplicates are found.

    Args:
        image: C x S.

    Returns:
        64 x 64 or 20 x 20 x 20 uint8, from the darkest to the brightest, as bytes; None if the image is too small,
        shows nothing or is not finite.
    """
    from skimage.transform import resize_local_mean

    small = image.mean(axis=0, dtype=np.float32)
    edge = _EDGE[small.ndim]
    if min(small.shape) < 8 or not np.isfinite(small).all():
        return None
    small = resize_local_mean(small, (edge,) * small.ndim)  # type: ignore[no-untyped-call]
    low, high = float(small.min()), float(small.max())
    # An image without structure has almost only rounding errors.
    if high - low <= 1e-5 * (1 + abs(high)):
        return None
    return bytes(np.rint((small - low) / (high - low) * 255).astype(np.uint8).tobytes())


def pixels_of(thumbnail: bytes) -> Array:
    shapes = {edge**rank: (edge,) * rank for rank, edge in _EDGE.items()}
    return np.frombuffer(thumbnail, np.uint8).reshape(shapes[len(thumbnail)])
