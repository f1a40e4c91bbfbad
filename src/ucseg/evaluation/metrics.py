"""Metrics of one case: how well a predicted mask agrees with the reference, class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from scipy import ndimage

from ucseg.errors import UserError
from ucseg.evaluation.surface import known_corners, surface_distances
from ucseg.types import Array

METRICS = ("dice", "jaccard", "hd95", "assd", "surface_dice")
DISTANCES = ("hd95", "assd")
LIMITS = {metric: (0.0, math.inf if metric in DISTANCES else 1.0) for metric in METRICS}
"""Least and most that each can be."""

OK, BOTH_EMPTY, MISSED, FALSE_POSITIVE = "ok", "both empty", "missed", "false positive"


class ClassMetrics(TypedDict):
    """One row: a class of a case. Distances are in the unit of the spacing; counts are of voxels.

    `status` is "ok", "both empty" (metrics undefined: NaN), "missed" (the reference has it, the prediction does not)
    or "false positive" (the other way round).
    """

    label: int
    name: str
    status: str
    dice: float
    jaccard: float
    hd95: float
    assd: float
    surface_dice: float
    true_positives: int
    false_positives: int
    false_negatives: int


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance of surface Dice that is no distance, with a UserError."""
    if not 0 <= tolerance < math.inf:
        raise UserError("tolerance", f"--tolerance {tolerance} is not a distance; give 0 or more.")


def case_metrics(
    prediction: Array,
    reference: Array,
    classes: Mapping[int, str],
    spacing: tuple[float, ...],
    tolerance: float = 2.0,
    unknown: Array | None = None,
) -> list[ClassMetrics]:
    """Metrics of every foreground class of one case.

    With P and R the voxels that prediction and reference give to a class:

    - dice = 2 |P and R| / (|P| + |R|), jaccard = |P and R| / |P or R|;
    - hd95, assd, surface_dice: see `surface`; axes of length one are left out of them (a slice is a 2D image: its two
      faces are not a surface).

    A class that neither has is undefined: NaN throughout. A class that only one of them has gets Dice, Jaccard and
    surface Dice 0, and as distances the worst that this image allows: its diagonal (`worst_distance`).

    What is not annotated counts nowhere: no voxel of it, and no element of a surface that touches it. If no element of
    a surface is left, as with single slices of a volume, distances and surface Dice are undefined.

    Args:
        prediction, reference: S, whole class indices on the same grid.
        classes: class index -> name; 0 is background and gets no row.
        spacing: edge lengths of a voxel along the axes of S.
        tolerance: distance at which surfaces count as agreeing, in the unit of the spacing.
        unknown: S bool, where the reference is not annotated; None: nowhere.

    Raises:
        ValueError: shapes differ, or the rank is neither 2 nor 3.
    """
    if prediction.shape != reference.shape or len(spacing) != prediction.ndim or prediction.ndim not in (2, 3):
        raise ValueError(f"shapes {prediction.shape}, {reference.shape} and spacing {spacing} do not belong together")
    worst, flat = worst_distance(prediction.shape, spacing), _flat_axes(prediction.shape)
    prediction, reference = prediction.squeeze(flat), reference.squeeze(flat)
    if unknown is not None:
        unknown = unknown.squeeze(flat)
        prediction, reference = np.where(unknown, 0, prediction), np.where(unknown, 0, reference)
    labels = sorted(label for label in classes if label != 0)
    boxes = [ndimage.find_objects(mask, max(labels)) for mask in (prediction, reference)] if labels else []
    edges = tuple(edge for axis, edge in enumerate(spacing) if axis not in flat)
    rows = []
    for label in labels:
        row = undefined(label, classes[label])
        there = [found[label - 1] for found in boxes if found[label - 1] is not None]
        if there:
            # Everything happens within the box around both; outside it there is neither.
            box = tuple(
                slice(min(side.start for side in axis), max(side.stop for side in axis))
                for axis in zip(*there, strict=True)
            )
            counted = None if unknown is None else known_corners(unknown, box)
            _measure(row, prediction[box] == label, reference[box] == label, edges, tolerance, worst, counted)
        rows.append(row)
    return rows


def worst_distance(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """The image's diagonal, from outer corner to outer corner: no two surfaces in it can be further apart."""
    return math.hypot(*(count * edge for count, edge in zip(shape, spacing, strict=True)))


def undefined(label: int, name: str) -> ClassMetrics:
    """The row of a class that neither mask has."""
    counts = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 0)
    return {"label": label, "name": name, "status": BOTH_EMPTY, **dict.fromkeys(METRICS, math.nan), **counts}  # type: ignore[typeddict-item]


def _measure(
    row: ClassMetrics,
    predicted: Array,
    true: Array,
    edges: tuple[float, ...],
    tolerance: float,
    worst: float,
    counted: Array | None,
) -> None:
    both = int(np.count_nonzero(predicted & true))
    row["true_positives"] = both
    row["false_positives"] = int(np.count_nonzero(predicted)) - both
    row["false_negatives"] = int(np.count_nonzero(true)) - both
    wrong = row["false_positives"] + row["false_negatives"]
    row["dice"] = 2 * both / (2 * both + wrong)
    row["jaccard"] = both / (both + wrong)
    if both + row["false_positives"] == 0 or both + row["false_negatives"] == 0:
        row["status"] = FALSE_POSITIVE if row["false_positives"] else MISSED
        row["hd95"] = row["assd"] = worst
        row["surface_dice"] = 0.0
        return
    row["status"] = OK
    distances = surface_distances(predicted, true, edges, counted)
    if not (distances.first.size and distances.second.size):
        return
    row["hd95"] = distances.hausdorff(95.0)
    row["assd"] = distances.average()
    row["surface_dice"] = distances.dice(tolerance)


def _flat_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of length one that can go while at least two stay."""
    flat = [axis for axis, count in enumerate(shape) if count == 1]
    return tuple(flat[: len(shape) - 2])
