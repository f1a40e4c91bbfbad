"""Do probabilities mean what they say?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ucseg.types import Array

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Voxels in bins of equal width by the confidence in their most probable class. Cases add up with `+`.

    Attributes:
        count: voxels in a bin, K int64.
        confidence: sum of max_c p_c in a bin, K float64.
        right: voxels in a bin whose most probable class is the reference's, K int64.
        squares: sum over all voxels of sum_c (p_c - [label = c])^2.
    """

    count: Array
    confidence: Array
    right: Array
    squares: float

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.count + other.count,
            self.confidence + other.confidence,
            self.right + other.right,
            self.squares + other.squares,
        )

    @property
    def ece(self) -> float:
        """Expected calibration error, sum_k n_k / n |accuracy_k - confidence_k| (Guo et al. 2017, eq. 3).

        NaN without voxels.
        """
        total = int(self.count.sum())
        return float(np.abs(self.right - self.confidence).sum() / total) if total else math.nan

    @property
    def brier(self) -> float:
        """Mean over voxels of sum_c (p_c - [label = c])^2, in [0, 2] (Brier 1950). NaN without voxels."""
        total = int(self.count.sum())
        return self.squares / total if total else math.nan


class Confidence:
    """The confidence in each voxel's most probable class, from probabilities that come class by class.

    So only two maps of a volume are in memory at once.

    Args:
        probabilities: class index and its S probabilities, for every class; over the classes they sum to one.
        label: S, class indices of the reference.
    """

    def __init__(self, probabilities: Iterable[tuple[int, Array]], label: Array) -> None:
        self.highest = np.full(label.shape, -1.0, np.float32)
        self.right = np.zeros(label.shape, bool)
        self.squares = np.zeros(label.shape, np.float32)
        seen = np.zeros(label.shape, bool)  # whether the label is among the classes
        for index, probability in probabilities:
            own = label == index
            higher = probability > self.highest
            self.right = np.where(higher, own, self.right)
            np.maximum(self.highest, probability, out=self.highest)
            self.squares += (probability - own) ** 2
            seen |= own
        self.squares[~seen] += 1  # a class that has no probability

    def reliability(self, where: Array | None = None, bins: int = BINS) -> Reliability:
        """Voxels sorted by confidence.

        Args:
            where: S bool, the voxels to look at; None: all.
            bins: number of bins of equal width over [0, 1]; a bin includes its upper end.
        """
        chosen = (slice(None),) if where is None else where
        highest, right = self.highest[chosen].ravel().astype(np.float64), self.right[chosen].ravel()
        index = np.clip(np.ceil(highest * bins).astype(np.int64) - 1, 0, bins - 1)
        return Reliability(
            np.bincount(index, minlength=bins),
            np.bincount(index, highest, minlength=bins),
            np.bincount(index[right], minlength=bins),
            float(self.squares[chosen].sum(dtype=np.float64)),
        )
