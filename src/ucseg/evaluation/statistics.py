"""Means with intervals, and comparisons of two methods on the same cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ucseg.randomness import numpy_generator
from ucseg.types import Array

RESAMPLES = 10_000


@dataclass(frozen=True)
class Bounds:
    """A mean between the ends of its interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Such as "0.912 [0.880, 0.934]"; without an interval the mean alone, without a mean "undefined"."""
        if math.isnan(self.mean):
            return "undefined"
        interval = "" if math.isnan(self.low) else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.mean:.{digits}f}{interval}"


@dataclass(frozen=True)
class Interval(Bounds):
    """A mean and its bootstrap interval; NaN where there is nothing to say (no value; an interval of one subject).

    `cases` is how many cases had a defined value.
    """

    cases: int


@dataclass(frozen=True)
class PairedDifference(Interval):
    """How much higher a is than b: mean of a - b over the pairs of which both sides are defined.

    `p` is the two-sided one of Wilcoxon's signed-rank test (NaN with fewer than two pairs).
    """

    p: float


def bootstrap_interval(
    values: Array | Sequence[float], seed: int = 0, *, n: int = RESAMPLES, subjects: Sequence[str] | None = None
) -> Interval:
    """Mean and 95 % percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Args:
        values: one a case, or cases x K. NaN is undefined and left out. For K columns (classes) the statistic is the
            mean of the column means, so that every class counts the same however often it occurs.
        seed: the same seed gives the same interval.
        n: number of resamples.
        subjects: whose case each one is. Whole subjects are drawn, since scans of one subject are not independent;
            None: every case is a subject.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    defined = ~np.isnan(table)
    counted = defined.any(axis=1)
    cases = int(counted.sum())
    if cases == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    # A subject without a single value cannot change a mean; drawing it would only make some resamples empty.
    names = np.asarray(subjects if subjects is not None else range(len(table)))[counted]
    _, index = np.unique(names, return_inverse=True)
    total = int(index.max()) + 1
    sums, counts = np.zeros((total, table.shape[1])), np.zeros((total, table.shape[1]))
    np.add.at(sums, index, np.where(defined, table, 0.0)[counted])
    np.add.at(counts, index, defined[counted])
    mean = float(_mean_of_means(sums.sum(axis=0)[None], counts.sum(axis=0)[None])[0])
    if total < 2:
        return Interval(mean, math.nan, math.nan, cases)
    generator = numpy_generator(seed, "bootstrap")
    means = []
    step = max(1, 4_000_000 // total)  # bounds memory for thousands of subjects
    for start in range(0, n, step):
        times = generator.multinomial(total, np.full(total, 1 / total), size=min(step, n - start)).astype(np.float64)
        means.append(_mean_of_means(times @ sums, times @ counts))
    low, high = np.nanpercentile(np.concatenate(means), [2.5, 97.5])
    return Interval(mean, float(low), float(high), cases)


def paired_difference(a: Array | Sequence[float], b: Array | Sequence[float], seed: int = 0) -> PairedDifference:
    """Compare two methods by one value a subject, in the same order; pairs with a NaN are left out.

    Raises:
        ValueError: a and b differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a comparison needs one value a subject from each; got {first.shape} and {second.shape}")
    difference = first - second
    difference = difference[~np.isnan(difference)]
    return PairedDifference(**vars(bootstrap_interval(difference, seed)), p=_signed_rank(difference))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p of several tests, in their order; a NaN is no test and stays NaN.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than one before it.
    """
    tests = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, (value, place) in enumerate(tests):
        highest = max(highest, min(1.0, value * (len(tests) - rank)))
        adjusted[place] = highest
    return adjusted


def _signed_rank(difference: Array) -> float:
    if len(difference) < 2:
        return math.nan
    if not difference.any():
        return 1.0  # no difference at all: the test is not defined, the answer is plain
    return float(stats.wilcoxon(difference).pvalue)


def _mean_of_means(sums: Array, counts: Array) -> Array:
    """Rows of column sums and counts -> mean over the columns that have any; NaN for a row that has none."""
    there = counts > 0
    column_means = np.divide(sums, counts, out=np.zeros_like(sums), where=there)
    columns = there.sum(axis=1)
    return np.where(columns > 0, column_means.sum(axis=1) / np.maximum(columns, 1), np.nan)
