"""From slabs of the network's grid to masks and maps in the scan's own grid, as soon as their rows are there.

So no map of the whole network's grid is kept, whatever the classes and networks: of each voxel of the scan there is a
byte of mask, and its uncertainty in `room`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ucseg.batches.preprocess import Grid
from ucseg.inference.calibration import Calibration
from ucseg.inference.case_scores import class_dtype, most_probable
from ucseg.inference.maps import Maps
from ucseg.machine.room import leave, pieces, room
from ucseg.scans.orientation import to_canonical
from ucseg.scans.resampling import made_of, ready, resample_box
from ucseg.types import Array


class OwnMaps:
    """The prediction of a scan in its own axes and shape S, filled in from slabs along the first axis of `grid`.

    Args:
        grid: the scan's.
        classes: C.
        probabilities: keep them too.
        members: keep each network's mask too.
        calibration: what is kept of the probabilities is softened by it.

    Attributes:
        mask: S uint8 (uint16 beyond 256 classes), class indices without the component filter.
        uncertainty: S float32.
        probabilities: C x S float32, or None.
        members: each network's mask by name.
    """

    def __init__(
        self, grid: Grid, classes: int, *, probabilities: bool, members: bool, calibration: Calibration | None
    ) -> None:
        self._grid, self._classes, self._with_members, self._calibration = grid, classes, members, calibration
        self.mask = self._empty_mask()
        self.uncertainty = self._map(1)[0]
        self.probabilities = self._map(classes) if probabilities else None
        self.members: dict[str, Array] = {}
        self._held = np.zeros((0, 0))
        self._first = self._done = 0

    def add(self, start: int, maps: Maps) -> None:
        """Take in maps 1 x C x rows x S[1:] on the network's grid, from row `start` on."""
        known = [maps.probabilities[0], maps.uncertainty[0]]
        if self._with_members:
            known += [member[0] for member in maps.members.values()]
        for rows, values in self._resampled(start, np.concatenate(known)):
            self._keep(rows, values, list(maps.members) if self._with_members else [])

    def on_grid(self, values: Array) -> Array:
        """S of the scan -> the same voxels in the order of the network's grid, before resampling: a view."""
        view: Array = to_canonical(values[None], self._grid.order, self._grid.flips)[0]
        return view

    def _keep(self, rows: slice, values: Array, members: list[str]) -> None:
        fused = values[: self._classes]
        self.on_grid(self.mask)[rows] = most_probable(fused)
        self.on_grid(self.uncertainty)[rows] = values[self._classes]
        for place, name in enumerate(members, start=1):
            if name not in self.members:
                self.members[name] = self._empty_mask()
            first = 1 + place * self._classes
            self.on_grid(self.members[name])[rows] = most_probable(values[first : first + self._classes])
        if self.probabilities is not None:
            kept = fused if self._calibration is None else self._calibration.soften(fused.copy())
            for target, one in zip(self.probabilities, kept, strict=True):
                self.on_grid(target)[rows] = one
            leave(self.probabilities)
        leave(self.uncertainty)

    def _resampled(self, start: int, slab: Array) -> Iterator[tuple[slice, Array]]:
        """Rows of the scan, in the order of the network's grid, that can be made now."""
        before, after = self._grid.shape, self._grid.canonical_shape
        self._held = np.concatenate([self._held, slab], axis=1) if self._held.size else slab
        stop = ready(before[0], after[0], start + slab.shape[1])
        for piece in pieces((stop - self._done, *after[1:])):
            rows = slice(self._done + piece.start, self._done + piece.stop)
            old = made_of(before[0], after[0], rows)
            part = self._held[:, old.start - self._first : old.stop - self._first]
            yield rows, resample_box(part, before, after, (rows, *(slice(0, n) for n in after[1:])))
        self._done = stop
        first = made_of(before[0], after[0], slice(stop, stop + 1)).start if stop < after[0] else start + slab.shape[1]
        self._held, self._first = self._held[:, first - self._first :].copy(), first

    def _empty_mask(self) -> Array:
        return np.zeros(self._grid.source_shape, class_dtype(self._classes))

    def _map(self, count: int) -> Array:
        """Count x S float32; in the file, rows that are made together lie together."""
        order = self._grid.order
        values = room((count, *(self._grid.source_shape[axis] for axis in order)))
        return values.transpose(0, *(1 + int(axis) for axis in np.argsort(order)))
