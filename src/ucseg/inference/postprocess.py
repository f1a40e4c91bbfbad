"""What is known of the anatomy, applied to a finished label map."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from ucseg.types import Array


def largest_components(label: Array, classes: Iterable[int]) -> Array:
    """Keep the largest connected component of each of the given classes; the rest of them becomes background.

    Args:
        label: S, class indices.
        classes: the classes of which a scan has one component each. Voxels that share a corner are connected.

    Returns:
        A new S array. Of components of equal size the first in memory order stays.
    """
    out = label.copy()
    structure = np.ones((3,) * label.ndim, dtype=bool)
    for index in classes:
        components, count = ndimage.label(label == index, structure)
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            out[(components > 0) & (components != sizes.argmax())] = 0
    return out
