"""What the uncertainty of a prediction is worth: of its voxels, of its probabilities and of its scores of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ucseg.evaluation.ranking import aurc, excess_aurc, failure_auroc, risk_by_coverage, spearman
from ucseg.evaluation.uncertainty_maps import VOXEL_COLUMNS, UncertaintySettings, VoxelUncertainty
from ucseg.folder.predictions import FAILURE_SCORE, INTERVAL, PREDICTED_DICE, SCORES
from ucseg.types import Array

DEFINITIONS = {
    "wrong voxels": "the class of the mask is not that of the reference",
    "auroc": "chance that a wrong voxel is more uncertain than a right one; ties within 0.1 % count half",
    "aupr": "average precision of finding wrong voxels, from the most uncertain on; by chance, their share",
    "ece": "sum over 15 bins of confidence: share of voxels x |accuracy - mean confidence|",
    "brier": "mean over voxels of the squared distances of the probabilities from 0 or 1, summed over classes",
    "near": "the foreground of mask or reference, and all voxels within the margin of it",
    "all": "of the voxels of all cases together",
    "risk": "1 - Dice of a case, which is the mean over its classes",
    "aurc": "mean over k of the mean risk of the k cases of the lowest score",
    "excess_aurc": "aurc less that of the order by the risk itself",
    "spearman": "rank correlation of score and risk",
    "failure_auroc": "chance that a failed case has a higher score than another one",
}


@dataclass(frozen=True)
class ScoreQuality:
    """How well a score of cases ranks them by their risk. NaN where there is nothing to say.

    Attributes:
        cases: with a score and a Dice.
        failed: cases with a Dice below the limit.
    """

    cases: int
    failed: int
    aurc: float
    excess_aurc: float
    spearman: float
    failure_auroc: float


def of_score(score: Sequence[float], dice: Sequence[float], failed_below: float) -> ScoreQuality:
    """Rank cases by a score; cases without a score or a Dice (NaN) are left out.

    Args:
        score: a number a case, higher is less sure.
        dice: a number a case.
        failed_below: see `UncertaintySettings`.
    """
    values, dices = np.asarray(score, np.float64), np.asarray(dice, np.float64)
    known = ~(np.isnan(values) | np.isnan(dices))
    values, dices = values[known], dices[known]
    risk, failed = 1 - dices, dices < failed_below
    return ScoreQuality(
        int(known.sum()),
        int(failed.sum()),
        aurc(values, risk),
        excess_aurc(values, risk),
        spearman(values, risk),
        failure_auroc(values, failed),
    )


@dataclass
class MeasuredUncertainty:
    """All cases of an evaluation.

    Attributes:
        cases: name of each.
        dice: of each, the mean over its classes.
        voxels: of each; None where it has no map.
        scores: column of the prediction's cases.csv -> a number a case; NaN where it has none.
    """

    settings: UncertaintySettings
    unit: str
    cases: list[str]
    subjects: list[str]
    dice: list[float]
    voxels: list[VoxelUncertainty | None]
    scores: dict[str, list[float]]

    @property
    def together(self) -> VoxelUncertainty | None:
        """The voxels of all cases."""
        known = [one for one in self.voxels if one is not None]
        return reduce(add, known) if known else None

    @property
    def has_probabilities(self) -> bool:
        return any(one is not None and one.reliability is not None for one in self.voxels)

    @property
    def qualities(self) -> dict[str, ScoreQuality]:
        """Of each score that some case has, and that is not the same for all."""
        found = {
            name: of_score(self.scores[name], self.dice, self.settings.failed_below)
            for name in SCORES
            if name in self.scores
        }
        return {name: one for name, one in found.items() if one.cases}

    @property
    def coverage(self) -> dict[str, float]:
        """Of the predicted Dice: cases, share within the interval, mean width, mean distance from the true Dice."""
        columns = [self.scores.get(name) for name in (PREDICTED_DICE, *INTERVAL)]
        if any(one is None for one in columns):
            return {}
        predicted, low, high, dice = (np.asarray(one, np.float64) for one in (*columns, self.dice))
        known = ~(np.isnan(predicted) | np.isnan(low) | np.isnan(high) | np.isnan(dice))
        if not known.any():
            return {}
        predicted, low, high, dice = (one[known] for one in (predicted, low, high, dice))
        rounding = 1e-6  # of the table
        return {
            "cases": int(known.sum()),
            "within": float(((dice >= low - rounding) & (dice <= high + rounding)).mean()),
            "mean_width": float((high - low).mean()),
            "mean_distance": float(np.abs(predicted - dice).mean()),
        }

    def curve(self, name: str) -> Array:
        """`risk_by_coverage` of the cases that have this score."""
        values, dice = np.asarray(self.scores[name]), np.asarray(self.dice)
        known = ~(np.isnan(values) | np.isnan(dice))
        return risk_by_coverage(values[known], 1 - dice[known])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A line a case, for the table."""
        lines: list[dict[str, Any]] = []
        for index, case in enumerate(self.cases):
            voxels = self.voxels[index]
            about = {"case": case, "subject": self.subjects[index], "dice": self.dice[index]}
            figures = {} if voxels is None else voxels.figures
            counts = {} if voxels is None else {"wrong_voxels": int(voxels.ranked.wrong.sum())}
            lines.append(about | counts | figures | {name: values[index] for name, values in self.scores.items()})
        return lines

    @property
    def columns(self) -> list[str]:
        return ["case", "subject", "dice", "wrong_voxels", *VOXEL_COLUMNS, *self.scores]

    def content(self) -> dict[str, Any]:
        """For metrics.json."""
        together, known = self.together, [one for one in self.voxels if one is not None]
        means = {
            name: float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
            for name in VOXEL_COLUMNS
            if (values := np.array([one.figures[name] for one in known])).size
        }
        return {
            "settings": {"margin": self.settings.margin, "unit": self.unit, "failed_below": self.settings.failed_below},
            "cases": len(known),
            "all": together.figures if together else {},
            "mean_over_cases": means,
            "reliability": {
                name: {"count": one.count.tolist(), "confidence": one.confidence.tolist(), "right": one.right.tolist()}
                for name, one in (
                    ("all", together.reliability if together else None),
                    ("near", together.reliability_near if together else None),
                )
                if one is not None
            },
            "scores": {name: vars(one) for name, one in self.qualities.items()},
            "default_score": FAILURE_SCORE,
            "predicted_dice": self.coverage,
            "definitions": DEFINITIONS,
        }
