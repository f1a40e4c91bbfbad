"""How far the networks of a method differ on a scan, and Dice of two label maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ucseg.types import Array


def disagreement(masks: Sequence[Array], classes: int, missed: Sequence[int] = ()) -> float:
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
    return 1.0 - float(np.mean([_agreement(first, second, classes, missed) for first, second in pairs]))


def foreground_dice(label: Array, reference: Array, classes: int) -> Array:
    """Dice of the classes 1..C-1 of two maps of class indices; NaN where neither has the class."""
    pairs = np.bincount(label.astype(np.int64).ravel() * classes + reference.ravel(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes).astype(float)
    sizes = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
    overlap = 2 * confusion.diagonal()[1:]
    dice: Array = np.divide(overlap, sizes, out=np.full(classes - 1, np.nan), where=sizes > 0)
    return dice


def _agreement(first: Array, second: Array, classes: int, missed: Sequence[int]) -> float:
    dice = foreground_dice(first, second, classes)
    dice[np.asarray(missed, int) - 1] = 0.0
    return float(np.nanmean(dice)) if not np.isnan(dice).all() else 1.0
