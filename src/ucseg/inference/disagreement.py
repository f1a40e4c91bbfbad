"""How far the networks of a method differ on a scan, and Dice of two label maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ucseg.machine.room import pieces
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
    return disagreement_of([confusion(*pair, classes) for pair in itertools.combinations(masks, 2)], missed)


def disagreement_of(confusions: Sequence[Array], missed: Sequence[int] = ()) -> float:
    """`disagreement` from the `confusion` of each pair of masks."""
    return 1.0 - float(np.mean([_agreement(pair, missed) for pair in confusions])) if confusions else float("nan")


def confusion(label: Array, reference: Array, classes: int) -> Array:
    """Voxels of each class of one map (rows) that have each class of the other (columns): C x C int64."""
    counts = np.zeros(classes**2, np.int64)
    for rows in pieces(label.shape):
        both = label[rows].astype(np.int64).ravel() * classes + reference[rows].ravel()
        counts += np.bincount(both, minlength=classes**2)
    return counts.reshape(classes, classes)


def foreground_dice(label: Array, reference: Array, classes: int) -> Array:
    """Dice of the classes 1..C-1 of two maps of class indices; NaN where neither has the class."""
    return _dice(confusion(label, reference, classes))


def _dice(counts: Array) -> Array:
    sizes = (counts.sum(axis=0) + counts.sum(axis=1)).astype(float)[1:]
    overlap = 2.0 * counts.diagonal()[1:]
    dice: Array = np.divide(overlap, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return dice


def _agreement(counts: Array, missed: Sequence[int]) -> float:
    dice = _dice(counts)
    dice[np.asarray(missed, int) - 1] = 0.0
    return float(np.nanmean(dice)) if not np.isnan(dice).all() else 1.0
