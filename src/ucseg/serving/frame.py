"""How viewers see a scan: three axes and a place in the world, also where the scan's own file has neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucseg.scans.scan import LPS, Geometry, Scan
from ucseg.types import Array

STEPS = 1.0
"""Millimetres that viewers take a pixel for, where a file states no size."""


@dataclass(frozen=True)
class Frame:
    """The grid of a scan as ITK, and so 3D Slicer, reads its file.

    A plain picture is one slice whose first axis runs along its rows; a stack of pages has them as its last axis.

    Attributes:
        shape: S of the scan.
        geometry: of the scan.
        plain: the file is a picture, of which ITK turns the axes around.
    """

    shape: tuple[int, ...]
    geometry: Geometry
    plain: bool

    @classmethod
    def of(cls, scan: Scan, plain: bool) -> Frame:
        return cls(tuple(scan.array.shape[1:]), scan.geometry, plain)

    def to_viewer(self, array: Array) -> Array:
        """S -> X x Y x Z."""
        turned = array.transpose() if self.plain else array
        return turned[..., None] if turned.ndim == 2 else turned

    def from_viewer(self, array: Array) -> Array:
        """X x Y x Z -> S."""
        flat = array[..., 0] if len(self.shape) == 2 else array
        return flat.transpose() if self.plain else flat

    @property
    def viewer_shape(self) -> tuple[int, ...]:
        shape = self.shape[::-1] if self.plain else self.shape
        return (*shape, 1) if len(shape) == 2 else shape

    @property
    def viewer_geometry(self) -> Geometry:
        """Of X x Y x Z, in RAS mm."""
        if self.plain:
            return Geometry(np.diag([*(STEPS * LPS), 1.0]))
        affine = np.eye(4)
        dims = self.geometry.dims
        affine[:dims, :dims] = self.geometry.affine[:dims, :dims]
        affine[:dims, 3] = self.geometry.affine[:dims, dims]
        return Geometry(affine)

    def as_viewer(self, source: Path) -> Scan:
        """A scan of this grid that holds nothing: what is written like it lies there."""
        empty = np.broadcast_to(np.zeros((), np.uint8), (1, *self.viewer_shape))
        return Scan(empty, self.viewer_geometry, source)
