"""A score for how likely a prediction is to have failed, without knowing the truth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ucseg.types import Array


def failure_score(masks: Sequence[Array], classes: int, missed: Sequence[int] = ()) -> float:
    """1 - mean pairwise foreground Dice between the networks' own masks.

    Networks that were made to be different agree where the scan is like what they learned, and differ where it is not.
    On a scan unlike all they know they may agree that there is nothing. Agreement alone would call that the best.

    Args:
        masks: the members' label maps, each S.
        classes: number of classes C, background included.
        missed: classes that the prediction lacks and should have. Their Dice is 0, as with any mask that has them.

    Returns:
        0 (same masks) to 1 (nothing in common). A pair's Dice is the mean over the foreground classes that at least
        one of the two has, and those missed. Two masks without any foreground agree where none is missed. NaN with
        fewer than two members, where none can disagree.
    """
    pairs = list(itertools.combinations(masks, 2))
    if not pairs:
        return float("nan")
    return 1.0 - float(np.mean([_foreground_dice(first, second, classes, missed) for first, second in pairs]))


def _foreground_dice(first: Array, second: Array, classes: int, missed: Sequence[int]) -> float:
    size_first = np.bincount(first.ravel(), minlength=classes)
    size_second = np.bincount(second.ravel(), minlength=classes)
    shared = np.bincount(first[first == second].ravel(), minlength=classes)
    shared[list(missed)] = 0
    sizes = size_first + size_second
    counted = [value for value in range(1, classes) if sizes[value] > 0 or value in missed]
    if not counted:
        return 1.0
    return float(np.mean(2 * shared[counted] / np.maximum(sizes[counted], 1)))
