"""What a dataset is like: shapes and spacings from every header, intensities and components from sampled masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ucseg.data.formats import read_header, read_scan
from ucseg.data.manifest import Dataset, DatasetConfig
from ucseg.data.masks import read_label
from ucseg.data.orientation import canonical_axes
from ucseg.data.parallel import for_each
from ucseg.errors import UserError
from ucseg.randomness import numpy_generator
from ucseg.types import Array, Case

MEASURED_CASES = 128
"""Labelled cases whose voxels are read; drawn without replacement when there are more."""
SAMPLED_VOXELS = 10_000
"""Most foreground voxels kept of a case, so that large organs of large scans do not outvote the others."""
ONE_COMPONENT_SHARE = 0.95


@dataclass(frozen=True)
class Fingerprint:
    """Figures of the training cases, axes in canonical orientation.

    Attributes:
        unit: "mm" or "px".
        shapes, spacings: N x n, a row a readable case.
        slice_axis: the axis of largest median spacing; without a spacing that of fewest voxels; the last one where none
            stands out.
        labelled, unlabelled: how many readable cases of each.
        zero_share: median share of an image's voxels that are exactly zero.
        foreground: sampled intensities inside the labelled foreground.
        one_component: classes of which at least 95 % of the masks that have it at all have exactly one
            connected component (and so have the slices, for a 2D network on volumes).
        left_out: cases that could not be read, with the reason.
    """

    unit: str
    shapes: Array
    spacings: Array
    slice_axis: int
    labelled: int
    unlabelled: int
    zero_share: float
    foreground: Array
    one_component: tuple[int, ...]
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def median_shape(self) -> tuple[float, ...]:
        """Voxels along each axis."""
        return tuple(float(edge) for edge in np.median(self.shapes, axis=0))

    @property
    def median_spacing(self) -> tuple[float, ...]:
        """In `unit`."""
        return tuple(float(edge) for edge in np.median(self.spacings, axis=0))

    @property
    def ct_window(self) -> dict[str, float]:
        """Percentiles 0.5 and 99.5 of the foreground, mean and deviation (nnU-Net's CT normalisation)."""
        low, high = (float(v) for v in np.percentile(self.foreground, [0.5, 99.5]))
        mean, std = float(self.foreground.mean()), float(self.foreground.std())
        return {"low": round(low, 3), "high": round(high, 3), "mean": round(mean, 3), "std": round(max(std, 1e-3), 3)}


def take_fingerprint(dataset: Dataset, dims: int | None = None) -> Fingerprint:
    """Measure the training cases of a dataset; no validation or test case is opened.

    Args:
        dataset: at least one of its training cases must be labelled.
        dims: rank of the network; decides whether components are counted in volumes or in slices.

    Raises:
        UserError: nothing to train on, or scans with and without a spacing in mm side by side.
    """
    if not dataset.labelled:
        raise UserError(f"{dataset.folder}: no training case has a mask; add some, or see the splits in cases.csv.")
    rank = dataset.config.dims
    headers = for_each(lambda case: _header(case, rank), dataset.training)
    left_out = [
        (case.case, head) for case, head in zip(dataset.training, headers, strict=True) if isinstance(head, str)
    ]
    good = [(case, head) for case, head in zip(dataset.training, headers, strict=True) if not isinstance(head, str)]
    units = {head[2] for _, head in good}
    if len(units) > 1:
        example = {head[2]: case.image.name for case, head in good}
        raise UserError(
            f"{dataset.folder}: some scans have a spacing in mm ({example['mm']}) and some are plain images "
            f"({example['px']}); make two datasets of them."
        )
    labelled = [case for case, _ in good if case.mask is not None]
    if not labelled:
        raise UserError(f"{dataset.folder}: no labelled training case can be read; {left_out[0][1]}")
    spacings = np.array([head[1] for _, head in good], float)
    voxels = np.median([head[0] for _, head in good], axis=0)
    slice_axis = _slice_axis(1 / voxels if units == {"px"} else np.median(spacings, axis=0))

    across = slice_axis if dims is not None and dims < rank else None
    chosen = labelled
    if len(labelled) > MEASURED_CASES:
        draw = numpy_generator(0, "fingerprint").choice(len(labelled), MEASURED_CASES, replace=False)
        chosen = [labelled[i] for i in sorted(draw)]
    measured: list[_Measured | str] = []
    at_once = 4 if rank == 3 else len(chosen)  # volumes: a few in memory, however many cores there are
    for start in range(0, len(chosen), at_once):
        measured += for_each(lambda case: _measure(case, dataset.config, across), chosen[start : start + at_once])
    left_out += [(case.case, found) for case, found in zip(chosen, measured, strict=True) if isinstance(found, str)]
    found = [one for one in measured if not isinstance(one, str)]
    if not found:
        raise UserError(f"{dataset.folder}: no mask of the training cases can be read; {left_out[-1][1]}")
    foreground = np.concatenate([one.foreground for one in found])
    if not len(foreground):
        raise UserError(f"{dataset.folder}: every mask that was read is empty; see the classes in dataset.yaml.")
    classes = len(dataset.config.classes)
    single = _one_component([one.components for one in found], classes)
    if across is not None:  # the filter sees slices in training and volumes in prediction
        single &= _one_component([one.slice_components for one in found if one.slice_components is not None], classes)
    return Fingerprint(
        unit=units.pop(),
        shapes=np.array([head[0] for _, head in good], float),
        spacings=spacings,
        slice_axis=slice_axis,
        labelled=len(labelled),
        unlabelled=len(good) - len(labelled),
        zero_share=float(np.median([one.zero_share for one in found])),
        foreground=foreground,
        one_component=tuple(sorted(single)),
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Measured:
    zero_share: float
    foreground: Array
    components: dict[int, list[int]]  # class -> components in the volume
    slice_components: dict[int, list[int]] | None  # class -> components in each slice that has it


def _header(case: Case, rank: int) -> tuple[tuple[int, ...], tuple[float, ...], str] | str:
    """Shape, spacing and unit in canonical axes; or why the case cannot be used."""
    try:
        shape, geometry, _ = read_header(case.image)
        order, _ = canonical_axes(geometry, case.image)
    except UserError as error:
        return str(error)
    if geometry.dims != rank:
        return f"{case.image}: this is a {geometry.dims}D scan, the dataset's are {rank}D; leave it out."
    return tuple(shape[axis] for axis in order), tuple(geometry.spacing[axis] for axis in order), geometry.unit


def _slice_axis(spacing: Array) -> int:
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > 1.05 * np.delete(spacing, coarsest).max() else len(spacing) - 1


def _measure(case: Case, config: DatasetConfig, slice_axis: int | None) -> _Measured | str:
    assert case.mask is not None
    try:
        scan = read_scan(case.image)
        label = read_label(case.mask, scan.array.shape[1:], config, scan.geometry)
        order, _ = canonical_axes(scan.geometry, scan.source)
    except UserError as error:
        return str(error)
    inside = scan.array[:, label > 0].ravel()
    inside = inside[np.isfinite(inside)]
    if len(inside) > SAMPLED_VOXELS:
        inside = numpy_generator(0, f"fingerprint/{case.case}").choice(inside, SAMPLED_VOXELS, replace=False)
    whole = count_components(label)
    slices = None if slice_axis is None else count_components(label, order[slice_axis])
    return _Measured(float(np.mean(scan.array == 0)), inside.astype(np.float32), whole, slices)


def count_components(label: Array, slice_axis: int | None = None) -> dict[int, list[int]]:
    """Connected components (diagonal neighbours count) of each class: of the whole, or of each slice that has it."""
    counts: dict[int, list[int]] = {}
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if not box:  # no such class here
            continue
        mask = label[box] == value
        near = np.ones((3,) * mask.ndim, bool)
        if slice_axis is None:
            counts[value] = [ndimage.label(mask, near)[1]]
            continue
        slices = np.moveaxis(mask, slice_axis, 0)
        counts[value] = [ndimage.label(plane, near[0])[1] for plane in slices if plane.any()]
    return counts


def _one_component(counted: list[dict[int, list[int]]], classes: int) -> set[int]:
    single = set()
    for value in range(1, classes):
        found = np.array([count for one in counted for count in one.get(value, [])])
        if len(found) and np.mean(found == 1) >= ONE_COMPONENT_SHARE:
            single.add(value)
    return single
