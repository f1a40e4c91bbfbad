"""What is one scan like? A few hundred numbers; its voxels are read once and not kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from pydantic import ConfigDict

from ucseg.dataset.case import Case
from ucseg.dataset.masks import classes_held, read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.planning.thumbnail import thumbnail_of
from ucseg.scans.orientation import canonical_axes
from ucseg.scans.reading import read_header, read_scan
from ucseg.scans.resampling import resample_label
from ucseg.scans.scan import Scan
from ucseg.types import NOT_ANNOTATED, Array

INTENSITY_AT = (5, 25, 50, 75, 95)
"""Percentiles of a scan's intensities that are kept."""
FOREGROUND_POINTS = 200
"""A scan's foreground intensities are kept as so many evenly spaced quantiles: large organs have no more say."""
_SAMPLED_VOXELS = 200_000


@dataclass(frozen=True)
class Header:
    """The header of a scan, in canonical axes: S, edges of a voxel, "mm" or "px"."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str


@dataclass(frozen=True)
class ClassFacts:
    """What one class is like in one mask, in canonical axes.

    Attributes:
        voxels: how many it has.
        components: connected components; diagonal neighbours are connected.
        slices, single_slices: slices that have it, and how many of these have it in one component.
        extent: edges in voxels of the box around its largest component; around all of it where parts of the mask are
            not annotated, which may lie between components.
        centre: its centre of mass, as a part of the scan's edges.
    """

    voxels: int
    components: int
    slices: int
    single_slices: int
    extent: tuple[int, ...]
    centre: tuple[float, ...]


@dataclass(frozen=True)
class ScanFacts:
    """What one scan is like.

    Attributes:
        zero_share: part of the voxels that are exactly zero.
        intensity: percentiles INTENSITY_AT over all channels.
        thumbnail: of `thumbnail_of`; None of a scan that shows nothing.
        foreground: FOREGROUND_POINTS quantiles of the labelled foreground's intensities; empty without foreground.
            Packed float64: as Python objects they would be most of the memory that thousands of scans take.
        classes: of the classes that the mask holds; None: no mask.
        annotated: part of the mask's voxels that are.
    """

    zero_share: float
    intensity: tuple[float, ...]
    thumbnail: bytes | None
    foreground: bytes = b""
    classes: dict[int, ClassFacts] | None = None
    annotated: float = 1.0

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")  # of measuring.py's lines


def header_of(case: Case, rank: int) -> Header | str:
    """Shape, spacing and unit; or why the case cannot be used."""
    try:
        shape, geometry, _ = read_header(case.image)
        order, _ = canonical_axes(geometry, case.image.path)
    except UserError as error:
        return str(error)
    if geometry.dims != rank:
        return f"{case.image}: this scan is {geometry.dims}D, the dataset's are {rank}D; leave it out."
    return Header(tuple(shape[a] for a in order), tuple(geometry.spacing[a] for a in order), geometry.unit)


def facts_of(case: Case, config: DatasetConfig, slice_axis: int | None) -> ScanFacts | str:
    """Read a scan and its mask, or why they cannot be used. `slice_axis`: canonical, across slices; None for images."""
    try:
        scan = read_scan(case.image)
        label = (
            None
            if case.mask is None
            else read_label(case.mask, scan.array.shape[1:], config, scan.geometry, case.slices)
        )
        return facts_in(scan, label, thumbnail_of(scan.array), slice_axis)
    except UserError as error:
        return str(error)


def facts_in(scan: Scan, label: Array | None, thumbnail: bytes | None, slice_axis: int | None) -> ScanFacts:
    """The facts of a scan and its label, S class indices in the scan's own axes.

    A UserError if the scan's axes have no canonical order.
    """
    order, flips = canonical_axes(scan.geometry, scan.source)
    values = scan.array.reshape(-1)
    every = values[:: max(1, values.size // _SAMPLED_VOXELS)]
    every = every[np.isfinite(every)]
    facts: dict[str, Any] = {}
    if label is not None:
        across = None if slice_axis is None else order[slice_axis]
        facts["classes"] = classes_in(label, order, flips, across)
        facts["annotated"] = np.count_nonzero(label != NOT_ANNOTATED) / label.size
        inside = scan.array[:, (label > 0) & (label != NOT_ANNOTATED)].reshape(-1)
        inside = inside[np.isfinite(inside)]
        if inside.size:
            at = (np.arange(FOREGROUND_POINTS) + 0.5) / FOREGROUND_POINTS
            facts["foreground"] = quantiles(inside, at).astype(np.float64).tobytes()
    return ScanFacts(
        zero_share=float(np.count_nonzero(scan.array == 0) / max(1, values.size)),
        intensity=tuple(
            quantiles(every, np.array(INTENSITY_AT) / 100).tolist() if every.size else [0.0] * len(INTENSITY_AT)
        ),
        thumbnail=thumbnail,
        **facts,
    )


def quantiles(values: Array, at: Array) -> Array:
    """What `numpy.quantile` finds, to the last bit, of finite values (N, at least one) at K parts: K float64.

    numpy partitions the values at each place, which takes up to thirty times as long as to sort them.
    """
    small = values.dtype.itemsize <= 2 and values.dtype.kind in "iu"
    ordered = np.sort(values, kind="stable" if small else None)  # a stable sort of small integers counts their digits
    place = (len(ordered) - 1) * at
    first = np.floor(place).astype(np.intp)
    low, high = ordered[first], ordered[np.minimum(first + 1, len(ordered) - 1)]
    part, apart = place - first, np.subtract(high, low)
    found: Array = np.where(part < 0.5, low + apart * part, high - apart * (1 - part))
    return found


def round_trip(label: Array, shape: tuple[int, ...]) -> dict[int, float]:
    """The Dice of each class of a label with what comes back from a grid of `shape`.

    It goes there as labels are prepared for training, and back as predictions are. Both in canonical axes.

    Returns:
        by class that the label holds; 0: no voxel of the grid has it.
    """
    there = resample_label(label, shape)
    back = resample_label(there, label.shape)
    back[label == NOT_ANNOTATED] = NOT_ANNOTATED
    left = classes_held(there)
    found = {}
    for value, box in enumerate(scipy.ndimage.find_objects(label), start=1):
        if box and value != NOT_ANNOTATED:
            own, seen = label[box] == value, back == value
            both = np.count_nonzero(own & seen[box])
            dice = 2 * both / (np.count_nonzero(own) + np.count_nonzero(seen))
            found[value] = float(dice) if value in left else 0.0
    return found


def classes_in(
    label: Array, order: tuple[int, ...], flips: tuple[bool, ...], slice_axis: int | None = None
) -> dict[int, ClassFacts]:
    """The facts of each class of a label, S class indices. `slice_axis`: the label's own axis across slices."""
    found: dict[int, ClassFacts] = {}
    near, partly = np.ones((3,) * label.ndim, bool), bool((label == NOT_ANNOTATED).any())
    for value, box in enumerate(scipy.ndimage.find_objects(label), start=1):
        if not box or value == NOT_ANNOTATED:
            continue
        mask = label[box] == value
        pieces, count = scipy.ndimage.label(mask, near)
        largest = int(np.bincount(pieces.reshape(-1))[1:].argmax()) + 1
        around = scipy.ndimage.find_objects(pieces, largest)[largest - 1]
        edges = mask.shape if partly else tuple(side.stop - side.start for side in around)
        slices, single_slices = (0, 0) if slice_axis is None else _slices_of(mask, slice_axis)
        centre = [
            (start.start + (where + 0.5)) / size
            for start, where, size in zip(box, scipy.ndimage.center_of_mass(mask), label.shape, strict=True)
        ]
        centre = [1 - c if flip else c for c, flip in zip((centre[a] for a in order), flips, strict=True)]
        found[value] = ClassFacts(
            voxels=int(np.count_nonzero(mask)),
            components=int(count),
            slices=slices,
            single_slices=single_slices,
            extent=tuple(edges[a] for a in order),
            centre=tuple(float(c) for c in centre),
        )
    return found


def _slices_of(mask: Array, axis: int) -> tuple[int, int]:
    """How many slices across an axis show something, and how many of these show one component."""
    within = np.zeros((3,) * mask.ndim, bool)
    np.moveaxis(within, axis, 0)[1] = True  # neighbours in a slice are connected, and no others
    pieces, _ = scipy.ndimage.label(mask, within)
    components = np.bincount([box[axis].start for box in scipy.ndimage.find_objects(pieces)])
    return int(np.count_nonzero(components)), int(np.count_nonzero(components == 1))
