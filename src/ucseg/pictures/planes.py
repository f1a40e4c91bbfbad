"""Which slices of a scan people look at, and which way up: the same on every page.

As in radiology: head and front are up, the patient's right is at the left, and so is the front where a slice runs from
front to back. Pictures, and arrays whose axes nobody has named, are shown as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ucseg.dataset.slices import AXES, axis_of_slices
from ucseg.scans.address import Address
from ucseg.scans.orientation import canonical_axes, from_canonical, to_canonical
from ucseg.scans.scan import Geometry
from ucseg.types import Array

PLANES = ("sagittal", "coronal", "axial")
"""What a slice across each canonical axis is called."""
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Where the canonical axes begin and end: left, right, back (posterior), front, feet (inferior), head."""
_COARSER = 1.05
"""An axis whose steps are longer by so much than all others is that across the slices."""


@dataclass(frozen=True)
class Planes:
    """The slices of a scan, N x rows x columns, as every page shows them.

    Attributes:
        shape: S of the scan.
        order, flips: to canonical axes; of what is shown as it is stored, none.
        across: the axis of the slices, after `order`; None: an image.
        stretch: height of a pixel in its widths.
        turned: whether the first axes run right and up, so that a slice is turned by half a circle; else as stored.
        placed: whether the file says where the patient's right is.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    across: int | None
    stretch: float
    turned: bool
    placed: bool

    @classmethod
    def of(cls, geometry: Geometry, shape: tuple[int, ...], image: Address, own: int | None = None) -> Planes:
        """The slices of a scan of S = `shape`.

        Slices of a volume lie across its one coarsest axis. If there is none, they are axial. Of pages, each is a
        slice; where no axis has a name or a step, they lie across that of the fewest voxels.

        Args:
            image: where the scan came from: its format says what its axes are.
            own: the axis of the scan to cut across, where somebody has chosen it.

        Raises:
            UserError: the affine does not span the space.
        """
        dims = len(shape)
        pages = axis_of_slices(image)
        turned = geometry.unit == "mm" and pages == AXES.index("k")
        order, flips = canonical_axes(geometry, image.path) if turned else (tuple(range(dims)), (False,) * dims)
        edges = [geometry.spacing[axis] for axis in order]
        across = None
        if dims == 3:
            counts = [shape[axis] for axis in order]
            across = order.index(own) if own is not None else _across(edges, counts, turned, pages)
        right, up = (edge for axis, edge in enumerate(edges) if axis != across)
        if not turned:
            right, up = up, right
        placed = turned and dims == 3 and geometry.states_place
        return cls(tuple(shape), order, flips, across, up / right, turned, placed)

    @property
    def count(self) -> int:
        return 1 if self.across is None else self.shape[self.order[self.across]]

    @property
    def axis(self) -> int | None:
        """The scan's own axis across the slices."""
        return None if self.across is None else self.order[self.across]

    @property
    def plane(self) -> str:
        """axial, coronal or sagittal; "" where the file does not say."""
        return PLANES[self.across] if self.placed and self.across is not None else ""

    @property
    def falling(self) -> bool:
        """Whether the numbers of slices, in the scan's own order, fall from one slice to the next."""
        return self.across is not None and self.flips[self.across]

    def number(self, index: int) -> int:
        """A slice's number in the scan's own order, as in `labelled_slices`; and back."""
        return self.count - 1 - index if self.falling else index

    def where(self, index: int) -> str:
        """Which slice this is, in words; "" of an image."""
        if self.axis is None:
            return ""
        return f"{self.plane} slice {AXES[self.axis]} {self.number(index)} of 0 to {self.count - 1}".lstrip()

    @property
    def letters(self) -> tuple[str, str, str, str] | None:
        """What lies at the left, right, upper and lower edge of a slice; None where the file does not say."""
        if not self.placed:
            return None
        columns, rows = (letters for axis, letters in enumerate(LETTERS) if axis != self.across)
        return columns[1], columns[0], rows[1], rows[0]

    def slices(self, array: Array) -> Array:
        """S -> N x rows x columns (a view)."""
        seen = to_canonical(array[None], self.order, self.flips)
        if self.across is not None:
            seen = np.moveaxis(seen[0], self.across, 0)
        return np.asarray(seen.swapaxes(1, 2)[:, ::-1, ::-1] if self.turned else seen)

    def whole(self, slices: Array) -> Array:
        """N x rows x columns -> S: `slices` undone (a view)."""
        seen = slices[:, ::-1, ::-1].swapaxes(1, 2) if self.turned else slices
        seen = seen if self.across is None else np.moveaxis(seen, 0, self.across)[None]
        return np.asarray(from_canonical(seen, self.order, self.flips)[0])

    def fullest(self, mask: Array | None) -> int:
        """The index of the slice that holds most of a mask, S; else the middle one."""
        if mask is None or self.axis is None or not (mask > 0).any():
            return self.count // 2
        area = (mask > 0).sum(axis=tuple(axis for axis in range(3) if axis != self.axis))
        return self.number(int(np.argmax(area)))


def _across(edges: list[float], counts: list[int], turned: bool, pages: int | None) -> int:
    if not turned and pages is not None:
        return pages
    if counts.count(1) == 1:  # a single slice, as many programs write pictures into volumes
        return counts.index(1)
    axis = int(np.argmax(edges))
    if edges[axis] > _COARSER * max(edge for other, edge in enumerate(edges) if other != axis):
        return axis
    return AXES.index("k") if turned else int(np.argmin(counts))
