"""How viewers see a scan: three axes and a place in the world, also where the scan's own file has neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucseg.dataset.slices import AXES
from ucseg.scans.orientation import canonical_axes, from_canonical, to_canonical
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


@dataclass(frozen=True)
class View:
    """The slices of a scan as a person looks at them: N x rows x columns, head and front up, the patient's right left.

    Slices run across the axis with the longest steps; among equal ones, across the body's.

    Attributes:
        order, flips: of the canonical axes, as of `canonical_axes`.
        across: the canonical axis of the slices; None: a picture of rows and columns, or a stack of them.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    across: int | None

    @classmethod
    def of(cls, frame: Frame, source: Path) -> View:
        dims = len(frame.shape)
        if dims != 3 or frame.geometry.unit == "px":
            return cls(frame.shape, tuple(range(dims)), (False,) * dims, None)
        order, flips = canonical_axes(frame.geometry, source)
        steps = [frame.geometry.spacing[axis] for axis in order]
        across = max(range(3), key=lambda axis: (round(steps[axis] / max(steps), 3), axis))
        return cls(frame.shape, order, flips, across)

    @property
    def plane(self) -> str:
        return "" if self.across is None else ("sagittal", "coronal", "axial")[self.across]

    @property
    def numbered(self) -> tuple[str, bool]:
        """The scan's own axis across the slices, as `labelled_slices` names it, and whether its numbers fall."""
        if self.across is None:
            return AXES[0], False
        return AXES[self.order[self.across]], self.flips[self.across]

    def aspect(self, frame: Frame) -> float:
        """How much higher than wide a pixel of a slice is."""
        if self.across is None:
            return 1.0
        steps = [frame.geometry.spacing[axis] for axis in self.order]
        columns, rows = (steps[axis] for axis in range(3) if axis != self.across)
        return float(rows / columns)

    def slices(self, array: Array) -> Array:
        """S -> N x rows x columns (a view)."""
        if self.across is None:
            return np.asarray(array if len(self.shape) == 3 else array[None])
        seen = np.moveaxis(to_canonical(array[None], self.order, self.flips)[0], self.across, 0)
        seen = seen.swapaxes(1, 2)[:, ::-1]  # rows run down: the front, or the head, is up
        return np.asarray(seen[..., ::-1] if self.across else seen)  # seen from the feet, or from in front

    def whole(self, slices: Array) -> Array:
        """N x rows x columns -> S: `slices` undone."""
        if self.across is None:
            return np.asarray(slices if len(self.shape) == 3 else slices[0])
        seen = slices[..., ::-1] if self.across else slices
        seen = np.moveaxis(seen[:, ::-1].swapaxes(1, 2), 0, self.across)
        return np.asarray(from_canonical(seen[None], self.order, self.flips)[0])
