"""Does a number that should say "this may be wrong" rank what is wrong above what is right?

For voxels: AUROC and AUPR of wrong voxels, counted in fine steps so that volumes and sets of cases add up.
For cases: risk over coverage and what is left of it (AURC, excess AURC), rank correlation, AUROC of failures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load where they are first used

from ucseg.types import Array

_DROPPED = 13
"""Bits of a float32 that are not looked at: 10 of its 23 bits of mantissa stay, so values within 0.1 % are a tie."""
_LEAST, _MOST = (int(np.float32(value).view(np.uint32)) >> _DROPPED for value in (2.0**-20, 1.0))
STEPS = _MOST - _LEAST + 1
"""From a millionth, below which all is a tie, to 1."""


@dataclass(frozen=True)
class RankedVoxels:
    """Right and wrong voxels by their uncertainty, in steps of about 0.1 % of it. Cases add up with `+`.

    Attributes:
        right, wrong: how many voxels in each step, STEPS int64, the least uncertain first.
    """

    right: Array
    wrong: Array

    def __add__(self, other: RankedVoxels) -> RankedVoxels:
        return RankedVoxels(self.right + other.right, self.wrong + other.wrong)

    @property
    def auroc(self) -> float:
        """Chance that a wrong voxel is more uncertain than a right one, a tie counts half. NaN if all are alike.

        The area under the receiver operating characteristic, as the statistic of Mann and Whitney (Hanley & McNeil
        1982).
        """
        rights, wrongs = int(self.right.sum()), int(self.wrong.sum())
        if not rights or not wrongs:
            return math.nan
        below = np.cumsum(self.right) - 0.5 * self.right
        return float((self.wrong * below).sum() / (float(rights) * wrongs))

    @property
    def aupr(self) -> float:
        """Average precision of finding wrong voxels: sum_k (R_k - R_k-1) P_k from the most uncertain on.

        P is the share of wrong ones among the voxels so far, R the part of all wrong ones that they are. Davis and
        Goadrich (2006) say why not by trapezoids. By chance it is the share of wrong voxels. NaN if all are alike.
        """
        wrong = np.cumsum(self.wrong[::-1])
        seen = wrong + np.cumsum(self.right[::-1])
        if not wrong[-1] or wrong[-1] == seen[-1]:
            return math.nan
        gained = np.diff(wrong, prepend=0) / wrong[-1]
        return float((gained * wrong / np.maximum(seen, 1)).sum())


def ranked_voxels(uncertainty: Array, wrong: Array, where: Array | None = None) -> RankedVoxels:
    """Count voxels by uncertainty.

    Args:
        uncertainty: S, from 0 to 1.
        wrong: S bool.
        where: S bool, the voxels to look at; None: all.
    """
    if where is not None:
        uncertainty, wrong = uncertainty[where], wrong[where]
    # The bits of floating point numbers that are not negative have their order.
    bits = np.ascontiguousarray(uncertainty, np.float32).reshape(-1).view(np.uint32) >> _DROPPED
    steps = np.clip(bits, _LEAST, _MOST) - _LEAST
    bad = wrong.reshape(-1)
    every, wrongs = (np.bincount(one, minlength=STEPS) for one in (steps, steps[bad]))
    return RankedVoxels(every - wrongs, wrongs)


def risk_by_coverage(score: Array, risk: Array) -> Array:
    """Mean risk of the k cases of the lowest score, for k = 1..n. Among equal scores any order: the expected one.

    Args:
        score: n, higher is less sure.
        risk: n, such as 1 - Dice.
    """
    order = np.argsort(score, kind="stable")
    _, group = np.unique(score, return_inverse=True)
    expected = np.bincount(group, risk) / np.bincount(group)
    curve: Array = np.cumsum(expected[group][order]) / np.arange(1, len(score) + 1)
    return curve


def aurc(score: Array, risk: Array) -> float:
    """Area under risk over coverage: the mean of `risk_by_coverage` (Geifman et al. 2019, eq. 1). NaN of no cases."""
    return float(risk_by_coverage(score, risk).mean()) if len(score) else math.nan


def excess_aurc(score: Array, risk: Array) -> float:
    """AURC less that of the best order there is, by the risk itself (E-AURC, Geifman et al. 2019): 0 is perfect."""
    return aurc(score, risk) - aurc(risk, risk)


def spearman(score: Array, risk: Array) -> float:
    """Rank correlation (Spearman 1904), ties with their mean rank. NaN where one side is constant."""
    if len(score) < 2 or np.ptp(score) == 0 or np.ptp(risk) == 0:
        return math.nan
    return float(scipy.stats.spearmanr(score, risk).statistic)


def failure_auroc(score: Array, failed: Array) -> float:
    """Chance that a failed case has a higher score than one that did not fail, a tie counts half. NaN if none or all.

    Args:
        score: n.
        failed: n bool, such as Dice below a limit.
    """
    bad = int(failed.sum())
    good = len(failed) - bad
    if not bad or not good:
        return math.nan
    ranks = scipy.stats.rankdata(score)
    return float((ranks[failed].sum() - bad * (bad + 1) / 2) / (bad * good))
