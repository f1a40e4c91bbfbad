"""Slices of a scan as PNG, for a browser: intensities between two percentiles, masks and uncertainty as grey."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ucseg.pictures.planes import Planes
from ucseg.types import Array

LOW, HIGH = 0.5, 99.5
"""Percentiles of the whole scan that are shown black and white. Pictures of 8 bit are shown as they are."""


def window(array: Array) -> tuple[float, float]:
    """The intensities, of C x S, that are shown black and white."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.ravel()
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite[:: max(1, finite.size // 10**6)], (LOW, HIGH)))
    return low, high if high > low else low + 1.0


def image_png(array: Array, planes: Planes, index: int, shown: tuple[float, float]) -> bytes:
    """A slice of C x S: colours of three channels, else the first one in grey.

    Raises:
        IndexError: there is no such slice.
    """
    channels = 3 if len(array) == 3 else 1
    seen = np.stack([planes.slices(array[channel])[index] for channel in range(channels)], axis=-1).astype(np.float32)
    grey = np.nan_to_num((seen - shown[0]) / (shown[1] - shown[0])).clip(0, 1) * 255
    return _png(np.rint(grey).astype(np.uint8))


def map_png(array: Array, planes: Planes, index: int) -> bytes:
    """A slice of S values from 0 to 1, as grey."""
    return _png(np.rint(planes.slices(array)[index].clip(0, 1) * 255).astype(np.uint8))


def _png(array: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(
        np.ascontiguousarray(array.squeeze(-1) if array.shape[-1] == 1 and array.ndim == 3 else array)
    ).save(out, "PNG", compress_level=1)
    return out.getvalue()
