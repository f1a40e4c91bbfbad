"""Do probabilities and uncertainties mean what they say?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ucseg.types import Array

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Voxels sorted into bins of equal width by the confidence in their predicted class. Cases add up with `+`.

    Attributes:
        count: voxels in a bin, K int64.
        confidence: sum of max_c p_c in a bin, K float64.
        right: voxels in a bin whose predicted class is the reference's, K int64.
    """

    count: Array
    confidence: Array
    right: Array

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.count + other.count, self.confidence + other.confidence, self.right + other.right)

    @property
    def expected_calibration_error(self) -> float:
        """ECE = sum_k n_k / n |accuracy_k - confidence_k| (Guo et al. 2017, eq. 3). NaN without voxels."""
        total = int(self.count.sum())
        return float(np.abs(self.right - self.confidence).sum() / total) if total else math.nan


def reliability(probabilities: Array, label: Array, bins: int = BINS, where: Array | None = None) -> Reliability:
    """Sort voxels by confidence.

    Args:
        probabilities: C x S, summing to one over C.
        label: S, class indices.
        bins: number of bins of equal width over [0, 1]; a bin includes its upper end.
        where: S bool, the voxels to look at, e.g. the neighbourhood of the structure: in a volume that is nearly all
            background, the error over all voxels is the background's. None: all.
    """
    confidence, right = probabilities.max(axis=0), probabilities.argmax(axis=0) == label
    if where is not None:
        confidence, right = confidence[where], right[where]
    confidence = confidence.ravel().astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins),
        np.bincount(index, confidence, minlength=bins),
        np.bincount(index, right.ravel(), minlength=bins).astype(np.int64),
    )


def expected_calibration_error(
    probabilities: Array, label: Array, bins: int = BINS, where: Array | None = None
) -> float:
    """ECE of one case; see `reliability` for the arguments. For several cases add their reliabilities first."""
    return reliability(probabilities, label, bins, where).expected_calibration_error


def brier_score(probabilities: Array, label: Array, where: Array | None = None) -> float:
    """Mean over voxels of sum_c (p_c - [label = c])^2, in [0, 2] (Brier 1950). NaN without voxels.

    Args:
        probabilities: C x S, summing to one over C.
        label: S, class indices.
        where: S bool, the voxels to look at; None: all.
    """
    score = np.zeros(label.shape)
    for index, probability in enumerate(probabilities):
        score += (probability - (label == index)) ** 2
    chosen = score if where is None else score[where]
    return float(chosen.mean()) if chosen.size else math.nan


def error_detection_auroc(uncertainty: Array, wrong: Array) -> float:
    """Chance that something wrong is more uncertain than something right (ties: one half): area under the ROC curve.

    For voxels (an uncertainty map and where the mask is wrong) as for cases (failure scores and whether each failed).
    NaN when all are right or all are wrong.

    Args:
        uncertainty: any shape, higher is less sure.
        wrong: bool, the same shape.

    Raises:
        ValueError: shapes differ.
    """
    if uncertainty.shape != wrong.shape:
        raise ValueError(f"uncertainty {uncertainty.shape} and errors {wrong.shape} differ in shape")
    bad = wrong.ravel().astype(bool)
    errors = int(bad.sum())
    rights = bad.size - errors
    if errors == 0 or rights == 0:
        return math.nan
    # Mann-Whitney: the rank sum of the errors, less the ranks they have among themselves.
    ranks = stats.rankdata(uncertainty.ravel())
    return float((ranks[bad].sum() - errors * (errors + 1) / 2) / (errors * rights))
