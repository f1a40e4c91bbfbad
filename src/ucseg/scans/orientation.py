"""The canonical orientation of a scan: that of its 48 axis orders and directions which is closest to RAS+."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ucseg.scans.refusals import check_geometry
from ucseg.scans.scan import Geometry
from ucseg.types import Array


def canonical_axes(geometry: Geometry, source: Path) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which axes of a scan become the canonical ones.

    Returns:
        order: canonical axis i is the scan's axis order[i]; flips: whether it runs the other way. Plain images are
        left as they are: rows and columns.

    Raises:
        UserError: the affine does not span the space.
    """
    if geometry.unit == "px":
        return tuple(range(geometry.dims)), (False,) * geometry.dims
    check_geometry(source, geometry)
    return _closest(geometry.affine[:-1, :-1].astype(np.float64).tobytes(), geometry.dims)


@lru_cache(maxsize=256)
def _closest(directions: bytes, dims: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Order and flips of an affine's directions, dims x dims float64: in most scans of a dataset they are the same."""
    from nibabel.orientations import io_orientation  # of volumes alone: it takes long to load

    affine = np.eye(dims + 1)
    affine[:-1, :-1] = np.frombuffer(directions).reshape(dims, dims)
    orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
    order = np.argsort(orientation[:, 0])
    return tuple(int(axis) for axis in order), tuple(bool(orientation[axis, 1] < 0) for axis in order)


def to_canonical(array: Array, order: tuple[int, ...], flips: tuple[bool, ...]) -> Array:
    """C x S in the scan's axes -> C x S in canonical axes (a view)."""
    return _flip(array.transpose(0, *(1 + axis for axis in order)), flips)


def from_canonical(array: Array, order: tuple[int, ...], flips: tuple[bool, ...]) -> Array:
    """C x S in canonical axes -> C x S in the scan's axes (a view)."""
    return _flip(array, flips).transpose(0, *(1 + int(axis) for axis in np.argsort(order)))


def _flip(array: Array, flips: tuple[bool, ...]) -> Array:
    return array[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
