"""What the finished cells say: a row a variant, its comparison with the reference, the gap that it closes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ucseg.comparison.cell import COLUMNS
from ucseg.comparison.doubts import doubts_of
from ucseg.comparison.grid import ALL, Cell
from ucseg.evaluation.metrics import LIMITS, METRICS
from ucseg.evaluation.statistics import (
    Bounds,
    Interval,
    PairedDifference,
    bootstrap_interval,
    holm,
    paired_difference,
)
from ucseg.inference.class_means import mean_of_class_means
from ucseg.types import Array

MAIN = "dice"
"""The metric that is tested; the others are described."""
LEVEL = 0.05
SMALLEST_GAP = 0.01
"""Shares of a smaller gap between baseline and ceiling mean nothing."""
BETTER, WORSE, WITHIN_NOISE, UNKNOWN = "better", "worse", "within noise", "not known yet"

COSTS = ("steps", "seconds", "work", "parameters")
"""Of a training run; runs of earlier versions lack some."""

KEYS = ["test", "labelled", "weights", "variant"]


@dataclass(frozen=True)
class Figure(Bounds):
    """A metric of a variant: mean, its interval, standard deviation over seeds (NaN for one seed)."""

    spread: float


@dataclass(frozen=True)
class Row:
    """A variant at one labelled amount, with one kind of weights, on one test set.

    Attributes:
        variant: the variant as given; its single networks as "supervised/unet".
        seeds: that are finished.
        subjects, cases: with a defined value.
        metrics: all classes together: the mean over cases and seeds for each class, then the mean of the classes.
        dice_by_class: class -> mean.
        gap_closed: share of the way from the best baseline at this amount to the best ceiling; NaN where undefined.
        doubts: column of the uncertainty -> mean over cases and seeds, and how well the failure score ranks cases, mean
            over seeds; of single networks, and of cells of an earlier version, empty.
        steps, seconds, work, peak_bytes, parameters: of training, mean over seeds; NaN for single networks, which share
            the run of both, and where it is not known. `seconds` passed, `work` is as runs of equal time count it.
    """

    test: str
    labelled: str
    weights: str
    variant: str
    baseline: bool
    seeds: tuple[int, ...]
    subjects: int
    cases: int
    metrics: dict[str, Figure]
    dice_by_class: dict[str, float]
    gap_closed: float
    steps: float
    seconds: float
    work: float
    peak_bytes: float
    parameters: float
    doubts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A variant against the reference on the same subjects and the seeds that both have.

    Attributes:
        difference, low, high: Dice of the variant minus that of the reference, and its interval.
        p, p_holm: Wilcoxon's signed-rank test over subjects; adjusted for all variants of this amount and weights.
        tests: how many comparisons Holm's correction is over.
        spread: the larger of both variants' standard deviations over the seeds that each has; NaN with one seed each.
        unpaired: whether one of the two has finished seeds that the other has not.
    """

    test: str
    labelled: str
    weights: str
    variant: str
    reference: str
    seeds: tuple[int, ...]
    subjects: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    tests: int
    spread: float
    verdict: str
    unpaired: bool

    @property
    def hopeless(self) -> bool:
        """Whether so few subjects cannot reach the level even if every one of them differed the same way."""
        return self.tests * 2.0 ** (1 - self.subjects) >= LEVEL


@dataclass
class Summary:
    """Rows and comparisons in the grid's order; `gaps` says in which (test, labelled, weights) a gap is undefined."""

    rows: list[Row]
    comparisons: list[Comparison]
    gaps: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def comparison_of(self, row: Row) -> Comparison | None:
        """A row against the reference; None for the reference, and where it is not finished."""
        return next((one for one in self.comparisons if _key(one) == _key(row)), None)


def case_table(done: Mapping[Cell, Mapping[str, Any]]) -> pd.DataFrame:
    """Every case, class, variant and seed of the finished cells: KEYS, seed, baseline, and COLUMNS but the network."""
    parts = []
    for cell, result in done.items():
        for test, found in result["tests"].items():
            part = pd.DataFrame(found["rows"], columns=list(COLUMNS))
            part.insert(0, "test", test)
            part.insert(1, "labelled", cell.labelled)
            names = [f"{cell.variant.text}/{network}".rstrip("/") for network in part.pop("network")]
            part.insert(2, "variant", names)
            part.insert(3, "seed", cell.seed)
            part["baseline"] = cell.variant.baseline
            parts.append(part)
    if not parts:
        return pd.DataFrame(columns=[*KEYS, "seed", *COLUMNS[2:], "baseline"])
    table = pd.concat(parts, ignore_index=True)
    return table.astype(dict.fromkeys(METRICS, float))


def summarise(table: pd.DataFrame, done: Mapping[Cell, Mapping[str, Any]], reference: str) -> Summary:
    """Rows, comparisons and gaps of the finished cells."""
    groups = {tuple(map(str, key)): part for key, part in table.groupby(KEYS, sort=False)}
    tables = {key: class_tables(part)[MAIN] for key, part in groups.items()}
    rows = [_row(key, part, done) for key, part in groups.items()]
    places = dict.fromkeys((row.test, row.labelled, row.weights) for row in rows)
    gaps: dict[tuple[str, str, str], str] = {}
    closed: dict[tuple[str, ...], float] = {}
    for place in places:
        closed |= _gaps(place, rows, gaps)
    rows = [replace(row, gap_closed=closed.get(_key(row), math.nan)) for row in rows]
    comparisons = []
    for place in places:
        variants = {key[3]: table for key, table in tables.items() if key[:3] == place}
        if reference in variants:
            comparisons += _comparisons(place, variants, reference)
    return Summary(rows, comparisons, gaps)


def class_tables(part: pd.DataFrame, metrics: Sequence[str] = (MAIN,)) -> dict[str, pd.DataFrame]:
    """Metric -> (subject, case, seed) x classes of one variant; NaN where undefined. At once: the index takes long."""
    wide = part.set_index(["subject", "case", "seed", "class"])[list(metrics)].unstack("class")
    return {metric: pd.DataFrame(wide[metric]) for metric in metrics}


def subject_values(part: pd.DataFrame, metric: str) -> pd.Series:
    """Subject -> mean of its class means over its cases and seeds; NaN where it has none."""
    return class_tables(part, [metric])[metric].groupby("subject").apply(lambda of: mean_of_class_means(of.to_numpy()))


def _row(key: tuple[str, ...], part: pd.DataFrame, done: Mapping[Cell, Mapping[str, Any]]) -> Row:
    test, labelled, weights, variant = key
    metrics, tables = {}, class_tables(part, METRICS)
    for metric in METRICS:
        # Distances in mm and in px have no mean.
        mixed = metric in ("hd95", "assd") and part["unit"].nunique() > 1
        metrics[metric] = Figure(*[math.nan] * 4) if mixed else _figure(tables[metric], LIMITS[metric])
    own = [
        result
        for cell, result in done.items()
        if (cell.variant.text, cell.labelled) == (variant, labelled) and test in result["tests"]
    ]
    training = [result["training"] for result in own]
    by_class = {str(name): mean_of_class_means(tables[MAIN][[name]].to_numpy()) for name in tables[MAIN]}
    return Row(
        test=test,
        labelled=labelled,
        weights=weights,
        variant=variant,
        baseline=bool(part["baseline"].iloc[0]),
        seeds=tuple(sorted(int(seed) for seed in part["seed"].unique())),
        subjects=int(part.loc[part[MAIN].notna(), "subject"].nunique()),
        cases=int(part.loc[part[MAIN].notna(), "case"].nunique()),
        metrics=metrics,
        dice_by_class=by_class,
        gap_closed=math.nan,
        doubts=doubts_of([result["tests"][test] for result in own], weights),
        peak_bytes=_mean([one["gpu_peak_bytes"] or one["peak_bytes"] or math.nan for one in training]),
        **{cost: _mean([one.get(cost) or math.nan for one in training]) for cost in COSTS},
    )


def _figure(table: pd.DataFrame, limits: tuple[float, float]) -> Figure:
    interval = _interval(_Values.of(table), limits)
    return Figure(interval.mean, interval.low, interval.high, _spread(table))


def _spread(table: pd.DataFrame) -> float:
    """Sample standard deviation over seeds of the mean of class means."""
    means = [mean_of_class_means(one.to_numpy()) for _, one in table.groupby("seed")]
    return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def _gaps(
    place: tuple[str, str, str], rows: Sequence[Row], undefined: dict[tuple[str, str, str], str]
) -> dict[tuple[str, ...], float]:
    """Share of the gap that each semi-supervised variant of a place closes; why there is none goes to `undefined`."""
    test, labelled, weights = place
    here = [row for row in rows if (row.test, row.labelled, row.weights) == place]
    others = [row for row in here if not row.baseline]
    # In the baseline's favour: its best network, or their mean, by the very figures that are compared.
    floor = _best([row for row in here if row.baseline])
    tops = [row for row in rows if row.baseline and (row.test, row.labelled, row.weights) == (test, ALL, weights)]
    ceiling = _best(tops)
    if labelled == ALL or not others:
        return {}
    if floor is None or ceiling is None:
        undefined[place] = "its baseline or the ceiling is not finished"
        return {}
    gap, spread = ceiling.mean - floor.mean, np.fmax(ceiling.spread, floor.spread)  # NaN with one seed
    least = float(np.fmax(spread, SMALLEST_GAP))
    if gap <= least:
        said = f"the ceiling ({ceiling.mean:.3f}) is not above the best baseline ({floor.mean:.3f})"
        why = "the spread over seeds" if least > SMALLEST_GAP else f"{SMALLEST_GAP:g}"
        undefined[place] = said + (f" by more than {why}" if gap > 0 else "")
        return {}
    return {_key(row): (row.metrics[MAIN].mean - floor.mean) / gap for row in others}


def _best(rows: Sequence[Row]) -> Figure | None:
    known = [row.metrics[MAIN] for row in rows if not math.isnan(row.metrics[MAIN].mean)]
    return max(known, key=lambda one: one.mean, default=None)


def _comparisons(place: tuple[str, str, str], variants: Mapping[str, pd.DataFrame], reference: str) -> list[Comparison]:
    theirs = variants[reference]
    found = []
    for variant, ours in variants.items():
        if variant == reference:
            continue
        own, others = ({*table.index.unique("seed")} for table in (ours, theirs))
        seeds = sorted(own & others)
        same = ours.index.intersection(theirs.index)  # cases that both were measured on
        classes = ours.columns.union(theirs.columns)
        paired = _paired(*(_Values.of(table.loc[same].reindex(columns=classes)) for table in (ours, theirs)))
        unpaired = len(seeds) < max(len(own), len(others))
        # Of all seeds that each has: how much one of them matters is known as soon as one variant has two.
        spread = float(np.fmax(_spread(ours), _spread(theirs)))
        found.append((variant, tuple(map(int, seeds)), paired, spread, unpaired))
    adjusted = holm([paired.p for _, _, paired, _, _ in found])
    tests = sum(not math.isnan(p) for p in adjusted)
    return [
        Comparison(
            *(*place, variant, reference, seeds),
            *(paired.cases, paired.mean, paired.low, paired.high, paired.p),
            *(p, tests, spread, verdict(paired, p, spread), unpaired),
        )
        for (variant, seeds, paired, spread, unpaired), p in zip(found, adjusted, strict=True)
    ]


def verdict(difference: Bounds, p_holm: float, spread: float) -> str:
    """better, worse or within noise. With one seed the spread is not known (NaN), and counts for nothing.

    The test is over subjects. A rare class can move the mean the other way, so the interval has to agree.
    """
    if math.isnan(difference.mean) or math.isnan(p_holm):
        return UNKNOWN
    open_to_both = difference.low <= 0 <= difference.high
    if p_holm >= LEVEL or open_to_both or (not math.isnan(spread) and abs(difference.mean) <= spread):
        return WITHIN_NOISE
    return BETTER if difference.mean > 0 else WORSE


def _key(one: Row | Comparison) -> tuple[str, ...]:
    return (one.test, one.labelled, one.weights, one.variant)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


@dataclass(frozen=True)
class _Values:
    """A table of `class_tables`, as something that can be looked up."""

    content: bytes
    classes: int
    subjects: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame) -> _Values:
        values = np.ascontiguousarray(table.to_numpy(np.float64))
        return cls(values.tobytes(), values.shape[1], tuple(map(str, table.index.get_level_values("subject"))))

    @property
    def array(self) -> Array:
        return np.frombuffer(self.content).reshape(-1, self.classes)


# The page is written again after every cell: what did not change is not resampled ten thousand times again.
@lru_cache(maxsize=4096)
def _interval(values: _Values, limits: tuple[float, float]) -> Interval:
    return bootstrap_interval(values.array, subjects=values.subjects, limits=limits)


@lru_cache(maxsize=4096)
def _paired(first: _Values, second: _Values) -> PairedDifference:
    return paired_difference(first.array, second.array, subjects=first.subjects, limits=(-1.0, 1.0))
