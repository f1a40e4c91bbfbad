"""Means with intervals, and comparisons of two methods on the same cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ucseg.inference.class_means import means_of_class_means
from ucseg.randomness import numpy_generator
from ucseg.types import Array

RESAMPLES = 10_000
_NUMBERS_AT_ONCE = 4_000_000
"""Bounds memory for thousands of subjects; fewer resamples at a time have no more than 2^16 subjects."""
_NUMBERS_IN_CACHE = 100_000
ENOUGH_SUBJECTS = 30
"""With fewer, the interval is Student's."""
NO_LIMITS = (-math.inf, math.inf)
Statistic = Callable[[Array, Array], Array]
"""N x K sums and numbers of values -> N."""


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
    """A mean and its interval; NaN where there is nothing to say (no value; an interval of one subject).

    `cases` is how many cases had a defined value.
    """

    cases: int


@dataclass(frozen=True)
class PairedDifference(Interval):
    """How much higher the mean of a is than that of b.

    `p` is the two-sided one of Wilcoxon's signed-rank test over subjects (NaN with fewer than two pairs). `cases` is
    how many subjects it compares.
    """

    p: float


def bootstrap_interval(
    values: Array | Sequence[float],
    seed: int = 0,
    *,
    n: int = RESAMPLES,
    subjects: Sequence[str] | None = None,
    limits: tuple[float, float] = NO_LIMITS,
) -> Interval:
    """Mean and 95 % interval from drawing subjects again and again (Efron & Tibshirani 1993, ch. 12 and 13).

    From 30 subjects on, its ends are percentiles of the drawn means. Of fewer subjects these lie too near together:
    there the ends are mean -+ t(n - 1) s sqrt(n / (n - 1)). s is the standard deviation of the drawn means, n the
    number of subjects. Of one column with one case a subject this is Student's interval.

    Args:
        values: one a case, or cases x K. NaN is undefined and left out. For K columns (classes) the statistic is the
            mean of the column means, so that every class counts the same however often it occurs.
        seed: the same seed gives the same interval.
        n: number of resamples.
        subjects: whose case each one is. Whole subjects are drawn, since scans of one subject are not independent;
            None: every case is a subject.
        limits: what a mean can be at all; the ends stay within.
    """
    sums, counts, cases = _by_subject(_columns(values), subjects)
    return Interval(*_bounds(sums, counts, means_of_class_means, seed, n, limits), cases)


def paired_difference(
    a: Array | Sequence[float],
    b: Array | Sequence[float],
    seed: int = 0,
    *,
    subjects: Sequence[str] | None = None,
    limits: tuple[float, float] = NO_LIMITS,
) -> PairedDifference:
    """Compare two methods on the same cases, in the same order: the mean of a minus that of b.

    Args:
        a, b: as `values` of `bootstrap_interval`. Of single values, pairs with a NaN are left out.
        seed, subjects, limits: as of `bootstrap_interval`. A subject is drawn with both its sides. The test is over the
            subjects that have a mean on both sides; `cases` counts them.

    Raises:
        ValueError: a and b differ in shape.
    """
    first, second = _columns(a), _columns(b)
    if first.shape != second.shape:
        raise ValueError(f"a comparison needs the same cases and classes; got {first.shape} and {second.shape}")
    if np.ndim(a) == 1:
        unpaired = np.isnan(first) | np.isnan(second)
        first, second = (np.where(unpaired, math.nan, one) for one in (first, second))
    classes = first.shape[1]
    sums, counts, _ = _by_subject(np.hstack([first, second]), subjects)

    def difference(sums: Array, counts: Array) -> Array:
        ours, theirs = (
            means_of_class_means(sums[:, part], counts[:, part]) for part in (slice(classes), slice(classes, None))
        )
        return ours - theirs

    of_subjects = difference(sums, counts)
    of_subjects = of_subjects[~np.isnan(of_subjects)]
    bounds = _bounds(sums, counts, difference, seed, RESAMPLES, limits)
    return PairedDifference(*bounds, len(of_subjects), p=_signed_rank(of_subjects))


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
    from scipy import stats

    return float(stats.wilcoxon(difference).pvalue)


def _columns(values: Array | Sequence[float]) -> Array:
    table = np.asarray(values, dtype=np.float64)
    return table[:, None] if table.ndim == 1 else table


def _by_subject(table: Array, subjects: Sequence[str] | None) -> tuple[Array, Array, int]:
    """Cases x K -> subjects x K sums and numbers of defined values, and how many cases have one.

    A subject without a single value cannot change a mean: drawing it would only make some resamples empty.
    """
    defined = ~np.isnan(table)
    counted = defined.any(axis=1)
    names = np.asarray(subjects if subjects is not None else range(len(table)))[counted]
    found, index = np.unique(names, return_inverse=True)
    sums, counts = np.zeros((len(found), table.shape[1])), np.zeros((len(found), table.shape[1]))
    np.add.at(sums, index, np.where(defined, table, 0.0)[counted])
    np.add.at(counts, index, defined[counted])
    return sums, counts, int(counted.sum())


def _drawn(seed: int, total: int, n: int) -> Iterator[Array]:
    """How often each of `total` subjects is drawn in each of `n` resamples: float64, some resamples at a time."""
    step = max(1, _NUMBERS_AT_ONCE // total)
    if n <= step:
        yield _all_drawn(seed, total, n).astype(np.float64)
        return
    generator = numpy_generator(seed, "bootstrap")
    for start in range(0, n, step):
        yield _resamples(generator, total, min(step, n - start)).astype(np.float64)


@lru_cache(maxsize=2)
def _all_drawn(seed: int, total: int, n: int) -> Array:
    """Kept, in little memory: all metrics and classes draw the same subjects, which takes longer than all else."""
    return _resamples(numpy_generator(seed, "bootstrap"), total, n).astype(np.uint16)


def _resamples(generator: np.random.Generator, total: int, n: int) -> Array:
    """n x total, in pieces that stay in a processor's cache; drawing multinomial numbers takes much longer."""
    drawn = np.zeros((n, total), np.int64)
    step = max(1, _NUMBERS_IN_CACHE // total)
    for start in range(0, n, step):
        rows = drawn[start : start + step]
        places = generator.integers(total, size=rows.shape) + total * np.arange(len(rows))[:, None]
        rows[:] = np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape)
    return drawn


def _bounds(
    sums: Array, counts: Array, statistic: Statistic, seed: int, n: int, limits: tuple[float, float]
) -> tuple[float, float, float]:
    """A statistic of all subjects, and the ends of its interval."""
    total = len(sums)
    mean = float(statistic(sums.sum(axis=0)[None], counts.sum(axis=0)[None])[0])
    if total < 2:
        return mean, math.nan, math.nan
    drawn = [statistic(times @ sums, times @ counts) for times in _drawn(seed, total, n)]
    means = np.concatenate(drawn)
    means = means[~np.isnan(means)]
    if len(means) == 0:
        return mean, math.nan, math.nan
    if total < ENOUGH_SUBJECTS:
        from scipy import stats

        half = stats.t.ppf(0.975, total - 1) * means.std() * math.sqrt(total / (total - 1))
        low, high = mean - half, mean + half
    else:
        low, high = np.percentile(means, [2.5, 97.5])
    return mean, float(max(low, limits[0])), float(min(high, limits[1]))
