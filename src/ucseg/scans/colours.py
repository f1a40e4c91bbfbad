"""How bright the colours of a picture are."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array


def are_colours(image: Array) -> bool:
    """Whether it is known how bright its colours are: of 8 or 16 bits without a sign, or within 0..1."""
    low, high, most = np.array([image.min(initial=0), image.max(initial=0), brightest(image)], np.float32)
    return bool(low >= 0 and high <= most)  # as they are used: rounded


def brightest(image: Array) -> float:
    """The number of full brightness, by the type of the numbers."""
    small = np.issubdtype(image.dtype, np.unsignedinteger) and image.dtype.itemsize <= 2
    return float(np.iinfo(image.dtype).max) if small else 1.0
