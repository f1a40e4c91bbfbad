"""The uncertainty of voxels: the maps that `ucseg predict` wrote beside its masks, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.evaluation.ranking import RankedVoxels, ranked_voxels
from ucseg.evaluation.reliability import Confidence, Reliability
from ucseg.folder.predictions import INTERVAL, PREDICTED_DICE, SCORES, file_names, note_of, rows_of
from ucseg.inference.calibration import near_structure
from ucseg.scans.address import Address
from ucseg.scans.reading import read_scan
from ucseg.types import Array

VOXEL_COLUMNS = ("auroc", "aupr", "auroc_near", "aupr_near", "ece", "brier", "ece_near", "brier_near")


@dataclass(frozen=True)
class UncertaintySettings:
    """What of uncertainty is measured, and how.

    Attributes:
        margin: what is near the structure, in the unit of the spacing.
        failed_below: a case with a lower Dice has failed.
    """

    margin: float = 5.0
    failed_below: float = 0.8

    def check(self) -> None:
        """Refuse what is no distance or no Dice, with a UserError."""
        if not 0 <= self.margin < math.inf:
            raise UserError("margin", f"--margin {self.margin} is not a distance; give 0 or more.")
        if not 0 < self.failed_below <= 1:
            raise UserError("failed-below", f"--failed-below {self.failed_below} is no Dice; give a number up to 1.")


@dataclass(frozen=True)
class VoxelUncertainty:
    """Voxels of one case, or of several together: `+`. Without probabilities there is no reliability."""

    ranked: RankedVoxels
    ranked_near: RankedVoxels
    reliability: Reliability | None = None
    reliability_near: Reliability | None = None

    def __add__(self, other: VoxelUncertainty) -> VoxelUncertainty:
        return VoxelUncertainty(
            self.ranked + other.ranked,
            self.ranked_near + other.ranked_near,
            _both(self.reliability, other.reliability),
            _both(self.reliability_near, other.reliability_near),
        )

    @cached_property
    def figures(self) -> dict[str, float]:
        """VOXEL_COLUMNS; NaN where there is nothing to say."""
        found = {"auroc": self.ranked.auroc, "aupr": self.ranked.aupr}
        found |= {"auroc_near": self.ranked_near.auroc, "aupr_near": self.ranked_near.aupr}
        for ending, one in (("", self.reliability), ("_near", self.reliability_near)):
            found |= {f"ece{ending}": one.ece if one else math.nan, f"brier{ending}": one.brier if one else math.nan}
        return found


def _both(one: Reliability | None, other: Reliability | None) -> Reliability | None:
    return one + other if one and other else one or other


def of_voxels(
    uncertainty: Array,
    probabilities: Iterator[tuple[int, Array]] | None,
    masks: tuple[Array, Array],
    spacing: tuple[float, ...],
    margin: float,
    unknown: Array | None = None,
) -> VoxelUncertainty:
    """Measure one case.

    Args:
        uncertainty: S, not negative.
        probabilities: each class index with its S probabilities; None: they are not known.
        masks: S class indices, those predicted and those of the reference.
        spacing: edge lengths of a voxel.
        margin: see `UncertaintySettings`.
        unknown: S bool, where the reference is not annotated; such voxels are left out. None: nowhere.
    """
    predicted, true = masks
    if unknown is not None:
        predicted, true = np.where(unknown, 0, predicted), np.where(unknown, 0, true)
    wrong, near = predicted != true, near_structure(predicted, true, spacing, margin)
    if unknown is not None:
        known = ~unknown
        uncertainty, wrong, near, true = uncertainty[known], wrong[known], near[known], true[known]
        if probabilities is not None:
            probabilities = ((index, values[known]) for index, values in probabilities)
    ranked = (ranked_voxels(uncertainty, wrong), ranked_voxels(uncertainty, wrong, near))
    if probabilities is None:
        return VoxelUncertainty(*ranked)
    confidence = Confidence(probabilities, true)
    return VoxelUncertainty(*ranked, confidence.reliability(), confidence.reliability(near))


@dataclass(frozen=True)
class WrittenMaps:
    """The maps that `ucseg predict` wrote beside its masks, by the name of the mask without its ending.

    Attributes:
        settings: of measuring.
        uncertainty: a map each.
        probabilities: class index -> the maps of this class; empty without `--probabilities`.
        scores: what cases.csv says of the case's uncertainty.
    """

    settings: UncertaintySettings
    uncertainty: Mapping[str, Address]
    probabilities: Mapping[int, Mapping[str, Address]]
    scores: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, predictions: Path, settings: UncertaintySettings) -> WrittenMaps:
        """Those of a folder, or of the folder of a mask.

        Raises:
            UserError: there is no uncertainty in it.
        """
        folder = predictions if predictions.is_dir() else predictions.parent
        uncertainty = _maps(folder / "uncertainty")
        if not uncertainty:
            raise UserError(
                "no-uncertainty-maps",
                f"{folder}: there are no uncertainty maps beside these masks; predict them with 'ucseg predict', or "
                "leave out --uncertainty.",
            )
        note = note_of(folder)
        classes = note.classes if note is not None else {}
        names = file_names(classes.values())
        maps = {index: _maps(folder / "probabilities" / names[name]) for index, name in classes.items()}
        columns = (*SCORES, PREDICTED_DICE, *INTERVAL)
        scores = {
            Address.of(row["mask"]).stem: {
                key: number for key in columns if (number := _number(row.get(key))) is not None
            }
            for row in rows_of(folder)
            if row.get("mask")
        }
        return cls(settings, uncertainty, maps if any(maps.values()) else {}, scores)

    def measure(
        self,
        stem: str,
        masks: tuple[Array, Array],
        spacing: tuple[float, ...],
        numbers: Mapping[int, int] | None = None,
        unknown: Array | None = None,
    ) -> VoxelUncertainty | None:
        """Measure the case of a mask; None if it has no map.

        Args:
            stem: the mask's name without its ending.
            masks, spacing, unknown: as of `of_voxels`.
            numbers: class index of the prediction -> that of the reference, where they differ.

        Raises:
            UserError: a map has another shape than the mask, or values that are no uncertainty.
        """
        if stem not in self.uncertainty:
            return None
        of_class = {index: maps[stem] for index, maps in self.probabilities.items() if stem in maps}
        complete = bool(of_class) and of_class.keys() == self.probabilities.keys()
        maps = ((_as_reference(index, numbers), _values(file, masks[0].shape)) for index, file in of_class.items())
        margin = self.settings.margin
        own = _values(self.uncertainty[stem], masks[0].shape)
        return of_voxels(own, maps if complete else None, masks, spacing, margin, unknown)


def _as_reference(index: int, numbers: Mapping[int, int] | None) -> int:
    return index if numbers is None else numbers.get(index, index)


def _maps(folder: Path) -> dict[str, Address]:
    files = [Address.of(file) for file in sorted(folder.glob("*")) if not file.name.startswith(".")]
    return {file.stem: file for file in files if file.format}


def _values(file: Address, shape: tuple[int, ...]) -> Array:
    values: Array = read_scan(file).array[0]
    if values.shape != shape:
        grids = [" x ".join(map(str, one)) for one in (values.shape, shape)]
        raise UserError("map-shape", f"{file}: has {grids[0]} voxels and its mask {grids[1]}; predict again.")
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) <= 1 + 1e-3):
        raise UserError("map-values", f"{file}: holds values that are not from 0 to 1; predict again.")
    return values


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return None if math.isnan(number) else number
