"""Do masks number the objects of an image (cells, lesions), each from 1 on, instead of holding class numbers?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from ucseg.types import Array

MOST = 5000
"""With more values than this a mask is a picture."""
_MANY = 6
"""Numbers that a mask holds at least, in a folder of numbered objects; classes of so many values need names anyway."""
_ALONE = 20
"""As many in a single mask, of which it is not known what others have in common with it."""
_ROOM = 4
_NEARLY_ALL = 0.9
_FEW_SHARED = 0.3


def pieces_of(values: Array) -> dict[int, int] | None:
    """Value -> connected pieces, of the whole numbers of a mask S without 0; None where there are too many values.

    Grey levels spread over the whole image: once their boxes are much larger than it, two pieces are taken for granted.
    """
    found, places = np.unique(values, return_inverse=True)
    if len(found) > MOST:
        return None
    near = np.ones((3,) * values.ndim, bool)
    places = places.reshape(values.shape) + 1
    boxes = scipy.ndimage.find_objects(places)
    pieces, left = {}, _ROOM * values.size
    for place, (value, box) in enumerate(zip(found, boxes, strict=True), start=1):
        if value == 0:
            continue
        part = places[box]
        left -= part.size
        pieces[int(value)] = int(scipy.ndimage.label(part == place, near)[1]) if left > 0 else 2
    return pieces


def are_objects(masks: Sequence[Mapping[int, int]]) -> bool:
    """Whether numbers count objects: many, each in one piece, and few in common between masks.

    Args:
        masks: value -> connected pieces of each mask that is not empty.
    """
    masks = [mask for mask in masks if mask]
    counts = [len(mask) for mask in masks]
    if not masks or max(counts) < (_MANY if len(masks) > 1 else _ALONE):
        return False
    if sum(pieces == 1 for mask in masks for pieces in mask.values()) < _NEARLY_ALL * sum(counts):
        return False
    from_one = sum(set(mask) == set(range(1, len(mask) + 1)) for mask in masks) >= _NEARLY_ALL * len(masks)
    if from_one and (len(masks) == 1 or min(counts) <= 0.75 * max(counts)):
        return True
    holders = Counter(value for mask in masks for value in mask)
    shared = float(np.mean([*holders.values()])) / len(masks)
    return len(masks) > 1 and len(holders) >= _ALONE and shared < _FEW_SHARED
