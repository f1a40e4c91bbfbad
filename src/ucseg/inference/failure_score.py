"""A score for how likely a prediction is to have failed, without knowing the truth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ucseg.types import Array


def failure_score(masks: Sequence[Array], classes: int) -> float:
    """1 - mean pairwise foreground Dice between the networks' own masks.

    Networks that were made to be different agree where the scan is like what they learned, and part where it is not.

    Args:
        masks: the members' label maps, each S.
        classes: number of classes C, background included.

    Returns:
        0 (same masks) to 1 (nothing in common). A pair's Dice is the mean over the foreground classes that at least
        one of the two has; two masks without any foreground agree. NaN with fewer than two members: there is nobody
        to disagree.
    """
    pairs = list(itertools.combinations(masks, 2))
    if not pairs:
        return float("nan")
    return 1.0 - float(np.mean([_foreground_dice(first, second, classes) for first, second in pairs]))


def _foreground_dice(first: Array, second: Array, classes: int) -> float:
    size_first = np.bincount(first.ravel(), minlength=classes)
    size_second = np.bincount(second.ravel(), minlength=classes)
    shared = np.bincount(first[first == second].ravel(), minlength=classes)
    sizes = (size_first + size_second)[1:classes]
    present = sizes > 0
    if not present.any():
        return 1.0
    return float(np.mean(2 * shared[1:classes][present] / sizes[present]))
