"""What an evaluation found: every case, the means over them, and the two files that keep both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.evaluation.metrics import BOTH_EMPTY, DISTANCES, FALSE_POSITIVE, LIMITS, METRICS, MISSED, OK, ClassMetrics
from ucseg.evaluation.statistics import ENOUGH_SUBJECTS, RESAMPLES, Interval, bootstrap_interval
from ucseg.evaluation.uncertainty import MeasuredUncertainty
from ucseg.evaluation.uncertainty_maps import VoxelUncertainty, WrittenMaps
from ucseg.inference.class_means import mean_of_class_means
from ucseg.machine.writing import csv_text, write_json, write_text
from ucseg.types import Array

DEFINITIONS = {
    "dice": "2 |P and R| / (|P| + |R|)",
    "jaccard": "|P and R| / |P or R|",
    "hd95": "larger of the two directed distances that 95 % of the surface (by area) does not exceed",
    "assd": "mean distance over both surfaces together, by area",
    "surface_dice": "share of both surfaces together, by area, within the tolerance of the other",
    "surface": "between voxels, as marching cubes draws it; elements weighted by area (length in 2D)",
    "both empty": "undefined: left out of the means and counted",
    "one empty": "dice, jaccard and surface_dice 0; hd95 and assd the diagonal of the image (worst_distance)",
    "mean": "over cases for each class; 'all' is the mean of the classes' means",
    "interval": f"95 %, from {RESAMPLES} resamples of whole subjects: percentiles; with fewer than {ENOUGH_SUBJECTS} "
    "subjects mean -+ t(n - 1) x their standard deviation x sqrt(n / (n - 1)), within the metric's limits",
}


@dataclass(frozen=True)
class CaseResult:
    """One case, with a row for each foreground class.

    `unit` is that of its distances, "mm" or "px"; a missed or false class gets `worst_distance`, the image's diagonal.
    `by_number`: classes are matched by their numbers alone, since names are missing or differ. `only_by`: how the grids
    of prediction and reference agree, where it is not by their geometries as they are read; "" where it is.
    `prediction` is the name of its mask without the ending. `uncertainty` is measured on request, where there is a map.
    `partly`: the reference is not annotated everywhere. `stretched`: how it is stretched to the prediction; "": not.
    """

    case: str
    subject: str
    unit: str
    worst_distance: float
    rows: list[ClassMetrics]
    by_number: bool = False
    only_by: str = ""
    prediction: str = ""
    uncertainty: VoxelUncertainty | None = None
    partly: bool = False
    stretched: str = ""


@dataclass(frozen=True)
class ClassSummary:
    """A class over all cases (or all classes together, label None): metric -> mean and interval.

    `evaluated`, `missed` and so on are numbers of cases (of cases and classes, for all together).
    """

    label: int | None
    name: str
    metrics: dict[str, Interval]
    evaluated: int
    missed: int
    false_positives: int
    both_empty: int


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        cases: those that were compared.
        failed: case -> why it could not be compared.
        missing: cases with a reference and no prediction.
        unmatched: prediction file -> why it was not used.
        unreferenced: cases of the dataset's split without any mask.
        provenance: version, command and where things came from.
        notes: what to look at, of the subjects that were found.
        uncertainty: what the uncertainty is worth, if it was asked for.
    """

    cases: list[CaseResult]
    tolerance: float
    seed: int
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unmatched: dict[str, str] = field(default_factory=dict)
    unreferenced: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    uncertainty: MeasuredUncertainty | None = None

    def __repr__(self) -> str:
        dice = f", mean Dice {self.mean():.3f}" if self.cases else ""
        return f"<Evaluation: {len(self.cases)} cases{dice}, {len(self.failed)} failed, {len(self.missing)} missing>"

    @property
    def unit(self) -> str:
        """Of the distances: "mm", "px", or "mixed" (then distances have no mean)."""
        units = {case.unit for case in self.cases}
        return units.pop() if len(units) == 1 else "mixed"

    @property
    def classes(self) -> dict[int, str]:
        """Foreground class -> name."""
        return {row["label"]: row["name"] for row in self.cases[0].rows}

    @property
    def labels_apart(self) -> tuple[list[int], list[int]] | None:
        """Class numbers of references and of predictions, where both hold some and share none in all cases."""
        rows = [row for case in self.cases for row in case.rows]
        true = {row["label"] for row in rows if row["status"] in (OK, MISSED)}
        predicted = {row["label"] for row in rows if row["status"] in (OK, FALSE_POSITIVE)}
        return (sorted(true), sorted(predicted)) if true and predicted and true.isdisjoint(predicted) else None

    def values(self, metric: str) -> Array:
        """Cases x classes float64 of one metric; NaN where undefined."""
        return np.array([[row[metric] for row in case.rows] for case in self.cases], dtype=np.float64).reshape(  # type: ignore[literal-required]
            len(self.cases), len(self.classes)
        )

    def case_means(self, metric: str) -> dict[str, float]:
        """Case -> mean over its defined classes; NaN when it has none. For `paired_difference` of two evaluations."""
        table = self.values(metric)
        return {case.case: mean_of_class_means(row[None]) for case, row in zip(self.cases, table, strict=True)}

    def mean(self, metric: str = "dice") -> float:
        """Mean of the classes' means."""
        return self.overall.metrics[metric].mean

    @cached_property
    def summary(self) -> list[ClassSummary]:
        """One a foreground class."""
        return [self._summary([column], label, name) for column, (label, name) in enumerate(self.classes.items())]

    @cached_property
    def overall(self) -> ClassSummary:
        """All classes together: the mean of their means, with whole subjects drawn for its interval."""
        return self._summary(list(range(len(self.classes))), None, "all")

    def save(self, folder: Path) -> None:
        """Write metrics.json and cases.csv, each whole or not at all; of the uncertainty also its table and pictures.

        Raises:
            UserError: the folder cannot be written.
        """
        write_text(folder / "cases.csv", self._table())
        if self.uncertainty is not None:
            save_uncertainty(self.uncertainty, folder)
        write_json(folder / "metrics.json", self._content())

    def _summary(self, columns: list[int], label: int | None, name: str) -> ClassSummary:
        subjects = [case.subject for case in self.cases]
        metrics = {}
        for metric in METRICS:
            values = self.values(metric)[:, columns]
            if metric in DISTANCES and self.unit == "mixed":
                values = np.full_like(values, math.nan)
            metrics[metric] = bootstrap_interval(values, self.seed, subjects=subjects, limits=LIMITS[metric])
        statuses = [case.rows[column]["status"] for case in self.cases for column in columns]
        return ClassSummary(
            label,
            name,
            metrics,
            evaluated=len(statuses),
            missed=statuses.count(MISSED),
            false_positives=statuses.count(FALSE_POSITIVE),
            both_empty=statuses.count(BOTH_EMPTY),
        )

    def _content(self) -> dict[str, Any]:
        return {
            **self.provenance,
            "unit": self.unit,
            "settings": {"tolerance": self.tolerance, "seed": self.seed, "resamples": RESAMPLES, "level": 0.95},
            "classes": {str(label): name for label, name in self.classes.items()},
            "cases": len(self.cases),
            "subjects": len({case.subject for case in self.cases}),
            "all": asdict(self.overall),
            "by_class": [asdict(one) for one in self.summary],
            "failed": self.failed,
            "missing_predictions": self.missing,
            "unmatched_predictions": self.unmatched,
            "cases_without_reference": self.unreferenced,
            **({} if self.uncertainty is None else {"uncertainty": self.uncertainty.content()}),
            "definitions": DEFINITIONS,
        }

    def _table(self) -> str:
        columns = ["case", "subject", "class", "name", "status", *METRICS, "true_positives", "false_positives"]
        columns += ["false_negatives", "unit", "worst_distance", "note"]
        rows: list[dict[str, Any]] = []
        for case in self.cases:
            about = {key: getattr(case, key) for key in ("case", "subject", "unit", "worst_distance")}
            notes = [f"grids agree only by {case.only_by}"] if case.only_by else []
            notes += [f"reference stretched, {case.stretched}"] if case.stretched else []
            about["note"] = "; ".join(notes)
            for row in case.rows:
                values: dict[str, Any] = dict(row)
                rows.append({**about, "class": values.pop("label"), **values})
        rows += [{"case": case, "status": "failed", "note": reason} for case, reason in self.failed.items()]
        rows += [{"case": case, "status": "no prediction"} for case in self.missing]
        return csv_text(columns, rows)


def uncertainty_of(cases: Sequence[CaseResult], maps: WrittenMaps) -> MeasuredUncertainty:
    """That of all cases, with the scores that were written beside the maps.

    A score is of the whole mask. So it says nothing of the Dice of a part, and is left out there.
    """
    units = {case.unit for case in cases}
    own = [{} if case.partly else maps.scores.get(case.prediction, {}) for case in cases]
    return MeasuredUncertainty(
        maps.settings,
        units.pop() if len(units) == 1 else "mixed",
        [case.case for case in cases],
        [case.subject for case in cases],
        [mean_of_class_means(np.array([[row["dice"] for row in case.rows]])) for case in cases],
        [case.uncertainty for case in cases],
        {name: [one.get(name, math.nan) for one in own] for name in dict.fromkeys(name for one in own for name in one)},
    )


def save_uncertainty(found: MeasuredUncertainty, folder: Path) -> None:
    """uncertainty.csv, and the pictures for which there is enough: reliability.png, risk_coverage.png."""
    from ucseg.evaluation.uncertainty_figures import reliability_diagram, risk_over_coverage

    write_text(folder / "uncertainty.csv", csv_text(found.columns, found.rows))
    pictures = {name: folder / f"{name}.png" for name in ("reliability", "risk_coverage")}
    for picture in pictures.values():  # of an evaluation that this one replaces
        picture.unlink(missing_ok=True)
    together = found.together
    if together is not None and together.reliability is not None:
        panels = {"all voxels": together.reliability}
        near = together.reliability_near
        if near is not None and near.count.any():
            panels[f"within {found.settings.margin:g} {found.unit} of the structure"] = near
        reliability_diagram(panels, pictures["reliability"])
    if curves := {name: found.curve(name) for name in found.qualities}:
        dice = np.asarray(found.dice)
        risk_over_coverage(curves, 1 - dice[~np.isnan(dice)], pictures["risk_coverage"])
