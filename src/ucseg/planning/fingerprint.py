"""What is a dataset like? The facts of every training scan, labelled or not, and the figures that a plan needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ucseg.dataset.manifest import Dataset
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.planning.facts import Header, ScanFacts, header_of
from ucseg.planning.measuring import Look, measure_scans
from ucseg.planning.sizing import LEAST_EDGE
from ucseg.types import Array

ONE_COMPONENT_SHARE = 0.95
ONE_COMPONENT_MASKS = 5
"""Fewer masks of a class do not show that it is always one piece."""
ORDERED_SHARE = 0.95
ORDERED_MASKS = 5
"""An order of two classes is believed when so many masks, and so large a part of them, show it."""
ORDERED_DISTANCE = 0.25
"""How far apart the two centres are at least (median), in edges of the larger of both."""


@dataclass(frozen=True)
class Order:
    """Two classes of which one lies before the other along a canonical axis in nearly every mask."""

    axis: int
    first: int
    second: int
    masks: int


@dataclass(frozen=True)
class Fingerprint:
    """Figures of the training cases, axes in canonical orientation.

    Attributes:
        unit: "mm" or "px".
        slice_axis: the axis that is too short to be halved, if the others are not; else that of largest median spacing,
            or of fewest voxels without a spacing; the last one if none stands out.
        headers, scans: of each readable case, by name.
        labelled: names of the readable cases with a mask.
        left_out: cases that could not be read, with the reason.
    """

    unit: str
    slice_axis: int
    headers: Mapping[str, Header]
    scans: Mapping[str, ScanFacts]
    labelled: tuple[str, ...]
    classes: int
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Names of the readable cases without a mask."""
        return tuple(name for name in self.scans if self.scans[name].classes is None)

    @property
    def whole(self) -> tuple[str, ...]:
        """Names of the readable cases whose mask is annotated everywhere."""
        return tuple(name for name in self.labelled if self.scans[name].annotated == 1)

    @property
    def shapes(self) -> Array:
        """N x n voxels, a row a case."""
        return np.array([head.shape for head in self.headers.values()], float)

    @property
    def spacings(self) -> Array:
        """N x n, in `unit`."""
        return np.array([head.spacing for head in self.headers.values()], float)

    @property
    def median_shape(self) -> tuple[float, ...]:
        """Voxels along each axis."""
        return tuple(float(edge) for edge in np.median(self.shapes, axis=0))

    @property
    def median_spacing(self) -> tuple[float, ...]:
        return tuple(float(edge) for edge in np.median(self.spacings, axis=0))

    @property
    def zero_share(self) -> float:
        """Median part of an image's voxels that are exactly zero."""
        return float(np.median([scan.zero_share for scan in self.scans.values()]))

    @property
    def ct_window(self) -> dict[str, float]:
        """Percentiles 0.5 and 99.5 of the foreground, mean and deviation (nnU-Net's CT normalisation)."""
        inside = np.frombuffer(b"".join(self.scans[name].foreground for name in self.labelled))
        low, high = (float(v) for v in np.percentile(inside, [0.5, 99.5]))
        return {
            "low": round(low, 3),
            "high": round(high, 3),
            "mean": round(float(inside.mean()), 3),
            "std": round(max(float(inside.std()), 1e-3), 3),
        }

    @property
    def structure(self) -> tuple[float, ...]:
        """Edges in `unit` of the typical structure: three of four masks are no larger, in the largest class."""
        largest = np.zeros(len(self.median_shape))
        for value in range(1, self.classes):
            edges = [
                np.array(facts.classes[value].extent) * self.headers[name].spacing
                for name, facts in self.scans.items()
                if facts.classes and value in facts.classes
            ]
            if edges:
                largest = np.maximum(largest, np.percentile(edges, 75, axis=0))
        return tuple(float(edge) for edge in largest)

    def cases_with(self, value: int) -> int:
        """How many masks hold a class."""
        return sum(value in (self.scans[name].classes or {}) for name in self.labelled)

    def one_component(self, sliced: bool) -> tuple[int, ...]:
        """Classes that have one component in nearly every mask that has them, if there are enough of these.

        Only whole masks count: what is not annotated may join two pieces, or hide one.

        If `sliced`, also in nearly every slice: a 2D network's filter sees slices in training.
        """
        single = []
        for value in range(1, self.classes):
            found = [c[value] for name in self.whole if (c := self.scans[name].classes) and value in c]
            if len(found) < ONE_COMPONENT_MASKS:
                continue
            whole = float(np.mean([one.components == 1 for one in found]))
            slices = sum(one.slices for one in found)
            if sliced and slices:
                whole = min(whole, sum(one.single_slices for one in found) / slices)
            if whole >= ONE_COMPONENT_SHARE:
                single.append(value)
        return tuple(single)

    def orders(self) -> list[Order]:
        """Pairs of classes in the same order along an axis in nearly every mask: a flip would undo it."""
        found = []
        for one, other in combinations(range(1, self.classes), 2):
            names = [n for n in self.labelled if {one, other} <= (self.scans[n].classes or {}).keys()]
            if len(names) < ORDERED_MASKS:
                continue
            both = [(classes[one], classes[other]) for n in names if (classes := self.scans[n].classes)]
            shapes = np.array([self.headers[name].shape for name in names])
            apart = np.array([np.subtract(b.centre, a.centre) for a, b in both]) * shapes
            edges = np.array([np.maximum(a.extent, b.extent) for a, b in both])
            far = np.abs(np.median(apart / edges, axis=0)) >= ORDERED_DISTANCE
            before, after = np.mean(apart > 0, axis=0), np.mean(apart < 0, axis=0)
            for axis in np.flatnonzero(far & (np.maximum(before, after) >= ORDERED_SHARE)):
                pair = (one, other) if before[axis] > after[axis] else (other, one)
                found.append(Order(int(axis), *pair, len(names)))
        return found


def take_fingerprint(dataset: Dataset, done: Callable[[], None] | None = None, look: Look | None = None) -> Fingerprint:
    """Measure the training cases of a dataset; no validation or test case is opened.

    Every scan is read once, several at a time. A few hundred numbers of each are kept in the dataset's cache: only
    scans that have changed are read again.

    Args:
        dataset: at least one of its training cases must be labelled.
        done: called after each scan, for a progress bar.
        look: reads each scan, changed or not, in place of this function.

    Raises:
        UserError: nothing to train on, or some scans have a spacing in mm and others have none.
    """
    if not dataset.labelled:
        raise UserError(
            "no-training-mask",
            f"{dataset.folder}: no training case has a mask; add masks, or check the splits in cases.csv.",
        )
    heads = for_each(lambda case: header_of(case, dataset.config.dims), dataset.training)
    left_out = [(case.case, head) for case, head in zip(dataset.training, heads, strict=True) if isinstance(head, str)]
    good = [(case, head) for case, head in zip(dataset.training, heads, strict=True) if not isinstance(head, str)]
    units = {head.unit for _, head in good}
    if len(units) > 1:
        example = {head.unit: case.image.name for case, head in good}
        raise UserError(
            "mixed-units",
            f"{dataset.folder}: some scans have a spacing in mm ({example['mm']}) and some are plain images "
            f"({example['px']}); make two datasets.",
        )
    if not any(case.mask is not None for case, _ in good):
        raise UserError(
            "no-readable-case", f"{dataset.folder}: no labelled training case can be read: {left_out[0][1]}"
        )
    _refuse_mixed_slices(dataset, {case.image.name: head.shape for case, head in good})
    voxels = np.median([head.shape for _, head in good], axis=0)
    edges = 1 / voxels if units == {"px"} else np.median([head.spacing for _, head in good], axis=0)
    slice_axis = _slice_axis(voxels, edges)
    across = slice_axis if dataset.config.dims == 3 else None
    found = measure_scans(dataset, [case for case, _ in good], across, done, look=look)
    left_out += [(case.case, one) for (case, _), one in zip(good, found, strict=True) if isinstance(one, str)]
    scans = {case.case: one for (case, _), one in zip(good, found, strict=True) if not isinstance(one, str)}
    labelled = tuple(name for name, one in scans.items() if one.classes is not None)
    if not labelled:
        raise UserError("no-readable-mask", f"{dataset.folder}: no training mask can be read: {left_out[-1][1]}")
    if not any(scans[name].foreground for name in labelled):
        raise UserError(
            "masks-all-empty",
            f"{dataset.folder}: all {len(labelled)} labelled training masks are empty, so none holds class 1 "
            f"'{dataset.config.classes[1]}'; label cases that show it, or show training other masks (init --labelled).",
        )
    headers = {case.case: head for case, head in good if case.case in scans}
    return Fingerprint(units.pop(), slice_axis, headers, scans, labelled, len(dataset.config.classes), left_out)


def _refuse_mixed_slices(dataset: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a UserError if all volumes are single slices, and not along one axis."""
    along: dict[int, str] = {}
    for name, shape in shapes.items():
        if len(shape) != 3 or shape.count(1) != 1:
            return
        along.setdefault(shape.index(1), name)
    if len(along) > 1:
        raise UserError(
            "mixed-slices",
            f"{dataset.folder}: its scans are single slices of different directions ({', '.join(along.values())}); "
            "make a dataset of each direction.",
        )


def _slice_axis(voxels: Array, spacing: Array) -> int:
    """From medians along the canonical axes."""
    short = np.flatnonzero(voxels < 2 * LEAST_EDGE)
    if len(short) == 1:  # a single slice may be stored along any axis, and its spacing says nothing
        return int(short[0])
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > 1.05 * np.delete(spacing, coarsest).max() else len(spacing) - 1
