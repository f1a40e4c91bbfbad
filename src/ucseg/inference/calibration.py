"""Numbers that make probabilities, uncertainty and scores mean what they say; found on validation cases alone.

- Temperature T (Guo et al. 2017): p_c^(1/T) / sum p^(1/T), of the least log loss. The order of the classes stays.
- Platt's (1999) two numbers: uncertainty u becomes 1 / (1 + exp(-(a + b log(u / (1 - u))))), the chance that the voxel
  is wrong. With b > 0 the order of the voxels stays.
- Predicted Dice: 1 - k times the failure score, or the mean Dice of the cases where that is less than half as far from
  them: then the score says nothing. Of a few cases that predicts new ones better than a line with a free intercept
  (`benchmarks/results/predicted_dice.json`). Its interval is by split conformal prediction (Lei et al. 2018): half of
  the cases fit the line, and how far the others lie from it, each over its expected loss, gives the width.

No number here changes a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy import ndimage, special

from ucseg.config import Strict, build
from ucseg.machine.reading import read_json
from ucseg.machine.writing import write_json
from ucseg.types import Array

FILE = "calibration.json"
LEVEL = 0.9
"""Part of new cases whose Dice lies within the interval, if they are like the validation cases."""
MARGIN = 5.0
"""Voxels around the structure that count: far from it nearly all are right and sure."""
_MOST, _MOST_OF_CASE = 2_000_000, 20_000
"""Voxels to fit to: in all, and of a case."""
_FEWEST = 3
"""Cases that a line is fitted to."""
_LEAST_LOSS = 0.02
"""Distances are judged against the expected loss, but no smaller one."""
_SURE = 1e-6


class PredictedDice(Strict):
    """Dice = intercept + slope * (1 - failure score), and how wide around it 90 % of the cases lie.

    The slope is 0, or the intercept 1 - slope. Earlier versions fitted both.
    `width` is in expected losses, 1 - predicted Dice; None: there were too few cases to say.
    """

    intercept: float
    slope: float = Field(ge=0)
    width: float | None = Field(None, ge=0)

    def of(self, score: float) -> tuple[float, float, float]:
        """Predicted Dice and the ends of its interval; NaN where there is none."""
        if math.isnan(score):
            return (math.nan,) * 3
        dice = float(np.clip(self.intercept + self.slope * (1 - score), 0, 1))
        if self.width is None:
            return dice, math.nan, math.nan
        half = self.width * _size(dice)
        return dice, max(0.0, dice - half), min(1.0, dice + half)


class Calibration(Strict):
    """What the validation cases say about these weights, predicted in this way.

    Attributes:
        weights: their digest.
        mirror: whether mirrored passes were averaged.
        cases: how many.
        temperature: T.
        uncertainty: Platt's a and b; None: the uncertainty does not rank the voxels of these cases.
        dice: None: there were too few cases.
    """

    weights: str
    mirror: bool
    cases: int = Field(ge=1)
    temperature: float = Field(gt=0)
    uncertainty: tuple[float, float] | None = None
    dice: PredictedDice | None = None

    def soften(self, probabilities: Array) -> Array:
        """C x S probabilities at this temperature; changed in place, class by class."""
        np.maximum(probabilities, _SURE, out=probabilities)
        np.power(probabilities, 1 / self.temperature, out=probabilities)
        probabilities /= probabilities.sum(axis=0)
        return probabilities

    def chance_of_error(self, uncertainty: Array) -> Array:
        """S uncertainty as the chance that a voxel is wrong, float32 in (0, 1)."""
        if self.uncertainty is None:
            return uncertainty
        intercept, slope = self.uncertainty
        odds = special.logit(np.clip(uncertainty, _SURE, 1 - _SURE))
        chance: Array = special.expit(intercept + slope * odds).astype(np.float32)
        return np.clip(chance, _SURE, 1.0, out=chance)


@dataclass(frozen=True)
class CaseRecord:
    """What calibration keeps of a validation case.

    Attributes:
        probabilities: C x n float32, of n voxels near the structure.
        uncertainty: n float32.
        label: n, their true classes.
        wrong: n bool, where the mask differs.
        score: failure score.
        dice: mean over the classes of the case; NaN: none.
    """

    probabilities: Array
    uncertainty: Array
    label: Array
    wrong: Array
    score: float
    dice: float


def record_of(
    probabilities: Array,
    uncertainty: Array,
    masks: tuple[Array, Array],
    score: float,
    dice: float,
    cases: int,
    unknown: Array | None = None,
) -> CaseRecord:
    """Keep evenly spread voxels of a case.

    Args:
        probabilities: C x S.
        uncertainty: S.
        masks: S class indices, those predicted and the true ones.
        score, dice: see `CaseRecord`.
        cases: how many there are, which share the room.
        unknown: S bool, voxels whose class nobody has said; None: there are none.
    """
    predicted, true = masks
    there = near_structure(predicted, true, (1.0,) * true.ndim, MARGIN)
    near = np.flatnonzero(there if unknown is None else there & ~unknown)
    most = max(1, min(_MOST_OF_CASE, _MOST // cases))
    chosen = near[:: max(1, math.ceil(len(near) / most))]
    label = true.ravel()[chosen]
    return CaseRecord(
        np.stack([one.ravel()[chosen] for one in probabilities]).astype(np.float32),
        uncertainty.ravel()[chosen].astype(np.float32),
        label,
        predicted.ravel()[chosen] != label,
        score,
        dice,
    )


def calibrate(records: Sequence[CaseRecord], weights: str, mirror: bool) -> Calibration | None:
    """Fit all numbers to validation cases; None where no case has a structure."""
    probabilities = np.concatenate([one.probabilities for one in records], axis=1)
    label, wrong, uncertainty = (
        np.concatenate([getattr(one, name) for one in records]) for name in ("label", "wrong", "uncertainty")
    )
    if not label.size:
        return None
    return Calibration(
        weights=weights,
        mirror=mirror,
        cases=len(records),
        temperature=_temperature(probabilities, label),
        uncertainty=_platt(uncertainty, wrong),
        dice=_predicted_dice(records),
    )


def _temperature(probabilities: Array, label: Array) -> float:
    """Of the least log loss, from 1/8 to 8."""
    logs = np.log(np.maximum(probabilities, _SURE))

    def loss(log_t: float) -> float:
        scaled = logs / math.exp(log_t)
        own = np.take_along_axis(scaled, label[None].astype(np.int64), axis=0)[0]
        return float((special.logsumexp(scaled, axis=0) - own).mean())

    from scipy import optimize  # of training alone: it takes half a second to load

    found = optimize.minimize_scalar(
        loss, bounds=(-math.log(8), math.log(8)), method="bounded", options={"xatol": 0.01}
    )
    return float(math.exp(found.x))


def _platt(uncertainty: Array, wrong: Array) -> tuple[float, float] | None:
    if wrong.all() or not wrong.any():
        return None
    odds = special.logit(np.clip(uncertainty, _SURE, 1 - _SURE)).astype(np.float64)
    sign = np.where(wrong, -1.0, 1.0)

    def loss(numbers: Array) -> tuple[float, Array]:
        z = sign * (numbers[0] + numbers[1] * odds)
        pull = sign * special.expit(z)
        return float(np.logaddexp(0, z).mean()), np.array([pull.mean(), (pull * odds).mean()])

    from scipy import optimize

    found = optimize.minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B")
    intercept, slope = map(float, found.x)
    return (intercept, slope) if slope > 0 and math.isfinite(intercept + slope) else None


def _predicted_dice(records: Sequence[CaseRecord]) -> PredictedDice | None:
    known = [one for one in records if not math.isnan(one.dice + one.score)]
    others = known[1::2]
    # The k-th smallest of n distances bounds a new one in 90 % of cases; of few cases there is no such k.
    rank = math.ceil((len(others) + 1) * LEVEL)
    enough = rank <= len(others)
    fitted = known[::2] if enough else known
    if len(fitted) < _FEWEST:
        return None
    scores, dice = (np.array([getattr(one, name) for one in fitted]) for name in ("score", "dice"))
    slope = float((1 - dice).sum() / max(_SURE, scores.sum()))
    line = PredictedDice(intercept=1 - slope, slope=slope, width=None)
    far = sum(abs(line.of(score)[0] - own) for score, own in zip(scores, dice, strict=True))
    if float(np.abs(dice - dice.mean()).sum()) < far / 2:
        line = PredictedDice(intercept=float(dice.mean()), slope=0.0, width=None)
    if not enough:
        return line
    distances = sorted(abs(one.dice - line.of(one.score)[0]) / _size(line.of(one.score)[0]) for one in others)
    return line.model_copy(update={"width": distances[rank - 1]})


def _size(dice: float) -> float:
    return max(_LEAST_LOSS, 1 - dice)


def near_structure(prediction: Array, reference: Array, spacing: tuple[float, ...], margin: float) -> Array:
    """S bool: the foreground of either mask and all within `margin` of it; nothing where both are empty.

    In a volume that is nearly all background, a mean over all voxels is the background's.

    Args:
        prediction, reference: S, class indices.
        spacing: edge lengths of a voxel.
        margin: distance between voxel centres, in the unit of the spacing.
    """
    structure = (prediction > 0) | (reference > 0)
    near = np.zeros(structure.shape, bool)
    boxes = ndimage.find_objects(structure.astype(np.uint8))
    if not boxes or boxes[0] is None:
        return near
    box = tuple(
        slice(max(0, one.start - reach), one.stop + reach)
        for one, reach in zip(boxes[0], (math.ceil(margin / edge) for edge in spacing), strict=True)
    )
    near[box] = ndimage.distance_transform_edt(~structure[box], sampling=spacing) <= margin
    return near


class Keeper:
    """Writes RUN/calibration.json, whole or not at all, with every calibration that it is called with.

    Args:
        run: the folder.
        writes: one of several processes does.
    """

    def __init__(self, run: Path, writes: bool) -> None:
        self.found: list[Calibration] = []
        self._run, self._writes = run, writes

    def __call__(self, found: Calibration) -> None:
        self.found.append(found)
        if self._writes:
            write_json(self._run / FILE, {"calibrations": [one.model_dump(mode="json") for one in self.found]})


class _Kept(Strict):
    calibrations: list[Calibration] = Field(max_length=16)


def kept_for(run: Path, weights: str, mirror: bool) -> Calibration | None:
    """The calibration of these weights predicted in this way, if RUN has it; a UserError if the file is damaged."""
    file = run / FILE
    values: dict[str, Any] = read_json(file) if file.exists() else {"calibrations": []}
    known = build(_Kept, values, str(file)).calibrations
    return next((one for one in known if (one.weights, one.mirror) == (weights, mirror)), None)
