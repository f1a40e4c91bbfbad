"""On which grid are a prediction and its reference compared, and do both lie on it?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ucseg.evaluation.matching import Pair
from ucseg.scans.reading import grid_of, is_laid, is_segmentation, read_header
from ucseg.scans.same_grid import offset
from ucseg.scans.scan import Geometry, orders_of


def common_grid(pair: Pair) -> tuple[tuple[int, ...], Geometry]:
    """S and geometry to compare on. In a dataset the image has it: its mask may be a plain image of another size.

    Without an image, of two pictures the prediction has the size of its image.
    Segmentations of DICOM and of 3D Slicer have no grid, only places; two of them get a grid that holds both.
    """
    place = pair.reference.image or pair.reference.mask
    if is_laid(place):
        if is_laid(pair.prediction):
            return grid_of([pair.prediction, place])
        if is_segmentation(place) or read_header(place)[0] != read_header(pair.prediction)[0]:
            place = pair.prediction
    shape, geometry, _ = read_header(place)
    if place is pair.reference.mask and not is_segmentation(pair.prediction):
        own, its_geometry, _ = read_header(pair.prediction)
        if place.plain and pair.prediction.plain and len(own) == 2 and its_geometry.unit == "px":
            return own, its_geometry  # --spacing says lengths of which of the two?
        if len(own) != len(shape) or (len(own) == 2 and its_geometry.columns_first != geometry.columns_first):
            return own, _with_lengths_of(geometry, its_geometry)
    return shape, geometry


def _with_lengths_of(reference: Geometry, own: Geometry) -> Geometry:
    """The geometry of a prediction; of one in pixels with the spacing of its reference, if that has one."""
    if own.unit in (reference.unit, "mm") or own.dims != 2:
        return own
    spacing = reference.spacing[:2]
    spacing = spacing if own.columns_first == reference.columns_first else spacing[::-1]
    return replace(own, affine=np.diag([*spacing, 1.0]), unit="mm", placed=False)


def by_order(pair: Pair, shape: tuple[int, ...]) -> str:
    """By what masks of two and of three axes agree, where no size shows which axis is which; "" for others."""
    if shape[0] != shape[1] or is_segmentation(pair.prediction) or is_segmentation(pair.reference.mask):
        return ""
    same = len(read_header(pair.prediction)[0]) == len(read_header(pair.reference.mask)[0])
    return "" if same else "the order in which their formats count rows and columns (they are square)"


def grid_difference(
    shape: tuple[int, ...], geometry: Geometry, other_shape: tuple[int, ...], other: Geometry
) -> str | None:
    """Why two grids are not the same one, in words; None if they are.

    They are when shapes agree and `same_grid.offset` is close: a program writes its masks on the very grid of a scan.
    """
    if other_shape not in orders_of(shape, geometry, other):
        return f"it has {_times(shape)} voxels, the reference {_times(other_shape)}"
    if geometry.dims != other.dims or (other.dims == 2 and geometry.columns_first != other.columns_first):
        return None  # a picture, which has no place, beside another file
    if geometry.unit != other.unit and (geometry.states_place or other.states_place):
        return f"it is in {geometry.unit}, the reference in {other.unit}"
    found = offset(geometry, other, shape)
    if found.close:
        return None
    away = f"{found.distance:.3g} {other.unit}"
    return f"its voxels lie up to {away} away from the reference's (spacing, origin or direction differ)"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
