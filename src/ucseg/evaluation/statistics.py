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
class Interval:
    """A mean and its bootstrap interval; NaN where there is nothing to say (no value; an interval of one subject).

    Attributes:
        mean, low, high: in the unit of the values.
        cases: how many cases had a defined value.
    """

    mean: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class PairedDifference:
    """How much higher a is than b on the same cases.

    Attributes:
        mean, low, high: mean of a - b over cases and its bootstrap interval.
        p: two-sided p of Wilcoxon's signed-rank test over subjects (NaN with fewer than two).
        cases: pairs that were compared.
        left_out: pairs that were not, because one of them is undefined.
    """

    mean: float
    low: float
    high: float
    p: float
    cases: int
    left_out: int


def bootstrap_interval(
    values: Array | Sequence[float],
    seed: int = 0,
    *,
    n: int = RESAMPLES,
    subjects: Sequence[str] | None = None,
    level: float = 0.95,
) -> Interval:
    """Mean and percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Args:
        values: one a case, or cases x K. NaN is undefined and left out. For K columns (classes) the statistic is the
            mean of the column means, so that every class counts the same however often it occurs.
        seed: the same seed gives the same interval.
        n: number of resamples.
        subjects: whose case each one is. Whole subjects are drawn, since scans of one subject are not independent;
            None: every case is a subject.
        level: coverage of the interval.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    defined = ~np.isnan(table)
    cases = int(defined.any(axis=1).sum())
    if cases == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    counted = defined.any(axis=1)
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
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(mean, float(low), float(high), cases)


def paired_difference(
    a: Array | Sequence[float],
    b: Array | Sequence[float],
    seed: int = 0,
    *,
    n: int = RESAMPLES,
    subjects: Sequence[str] | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """Compare two methods case by case: mean of a - b, bootstrap interval, Wilcoxon's signed-rank test.

    Args:
        a, b: one value a case, in the same order. Pairs with a NaN are left out and counted.
        seed, n, subjects, level: as in `bootstrap_interval`; the test is made on the subjects' mean differences.

    Raises:
        ValueError: a and b differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a paired comparison needs one value a case from each; got {first.shape} and {second.shape}")
    difference = first - second
    defined = ~np.isnan(difference)
    names = np.asarray(subjects if subjects is not None else range(len(difference)))[defined]
    difference = difference[defined]
    interval = bootstrap_interval(difference, seed, n=n, subjects=list(names), level=level)
    return PairedDifference(
        interval.mean,
        interval.low,
        interval.high,
        _signed_rank(difference, names),
        len(difference),
        int((~defined).sum()),
    )


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


def _signed_rank(difference: Array, names: Array) -> float:
    if len(difference) == 0:
        return math.nan
    _, index = np.unique(names, return_inverse=True)
    by_subject = np.bincount(index, difference) / np.bincount(index)
    if len(by_subject) < 2:
        return math.nan
    if not by_subject.any():
        return 1.0  # no difference at all: the test is not defined, the answer is plain
    return float(stats.wilcoxon(by_subject).pvalue)


def _mean_of_means(sums: Array, counts: Array) -> Array:
    """Rows of column sums and counts -> mean over the columns that have any; NaN for a row that has none."""
    there = counts > 0
    column_means = np.divide(sums, counts, out=np.zeros_like(sums), where=there)
    columns = there.sum(axis=1)
    return np.where(columns > 0, column_means.sum(axis=1) / np.maximum(columns, 1), np.nan)
