"""A scan in memory: its voxels and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.types import Array

LPS = np.array([-1.0, -1.0, 1.0])
"""Signs that turn RAS coordinates into the LPS of ITK and DICOM, and back."""


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie.

    Attributes:
        affine: (n+1) x (n+1), voxel index -> world. World is RAS millimetres for scans that state a geometry;
            for plain images (PNG, JPEG, TIFF) it is the identity in pixels.
        unit: "mm" or "px".
        placed: whether the file says where its voxels lie, not only how large they are.
        doubt: where the header says two different spacings, both in words; "" where it does not.
        others: (name, affine) of other geometries that the same header holds, or that other programs read in it.
        columns_first: of a slice the first axis runs along the columns, as in files of scanners; else down the rows, as
            in pictures and arrays.
    """

    affine: Array
    unit: str = "mm"
    placed: bool = True
    others: tuple[tuple[str, Array], ...] = ()
    doubt: str = ""
    columns_first: bool = False

    @property
    def dims(self) -> int:
        return int(self.affine.shape[0]) - 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """Edge lengths of a voxel along its own axes, in `unit`."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[: self.dims, : self.dims], axis=0))

    @property
    def states_place(self) -> bool:
        return self.placed and self.unit == "mm"

    @property
    def states_spacing(self) -> bool:
        """Voxels of 1 x 1 x 1 mm in a header that states no place are what an empty header holds."""
        return self.unit == "mm" and (self.placed or self.spacing != (1.0,) * self.dims)

    def displacement(self, other: Geometry, shape: Sequence[int]) -> float:
        """How far from its place in `other` a voxel of a grid of `shape` may lie, in `unit`: a corner lies farthest."""
        return float(np.linalg.norm(self.corners(shape) @ (self.affine - other.affine).T, axis=1).max())

    def corners(self, shape: Sequence[int]) -> Array:
        """The corner voxels of a grid of `shape`, 2^n x (n+1), each with a 1 at its end."""
        return np.array([[*corner, 1.0] for corner in product(*((0, count - 1) for count in shape))])


def orders_of(shape: tuple[int, ...], own: Geometry, other: Geometry) -> list[tuple[int, ...]]:
    """S of one slice as another scan counts its axes, of which a third one may have one voxel; else S as it is.

    First as both formats say. Where one has two axes and the other three, also turned: some write a volume of one slice
    rows first, as they hold it.
    """
    if own.dims == other.dims == 3 or (own.dims == 3 and shape[2] != 1):
        return [shape]
    kept, turned = shape[:2], shape[1::-1]
    flat = [turned, kept] if own.columns_first != other.columns_first else [kept, turned]
    return [(*one, 1) if other.dims == 3 else one for one in (flat if own.dims != other.dims else flat[:1])]


@dataclass(frozen=True)
class Scan:
    """An image or a mask as it was read.

    Attributes:
        array: C x S; the axes of S follow the columns of the geometry's affine. Native dtype. A mask has C = 1.
        geometry: where the voxels lie.
        source: the file it came from.
        header: what the format needs to write a file of the same kind and geometry (no other code looks into it).
    """

    array: Array
    geometry: Geometry
    source: Path
    header: Any = None


def native(array: Array) -> Array:
    """The same numbers in the byte order of this machine, and True and False as 1 and 0."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
