"""Predict an image of any size through windows of about the training patch's size, blended with Gaussian weights.

Windows overlap, so that voxels are computed several times, and a window larger than the patch saves work: an axis that
fits into `growth` times the patch needs one window, and every voxel of it is computed once.

Memory. Windows are visited along the first axis, and rows that no later window touches are handed on at once, a few at
a time. What is being summed up is therefore a ring of as many rows as a window has, whatever the length of the scan.
A large ring lies in a file (`machine/room.py`). Of it, memory holds the part that one line of windows adds to.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ucseg.batches.preprocess import NetworkImage
from ucseg.inference.maps import Layout, Maps
from ucseg.machine.room import in_file, leave, pieces, room
from ucseg.training.allocator import give_back
from ucseg.types import Array

Predict = Callable[[Array], tuple[Array, Layout]]
"""B x Cin x window float32 -> B x K x window float32, and what the K channels are."""
SIGMA = 1 / 8  # of a window's edge: windows count where they see most context around a voxel
IN_MEMORY = 2**31
"""Bytes of a gathered result that do not lie in a file."""


@dataclass(frozen=True)
class AxisWindow:
    """One window along one axis: it covers [start, start + len(weight)).

    `start` is negative where the image is shorter than the patch (the window then reaches over both ends).
    Over all windows of an axis the weights of a voxel sum to one.
    """

    start: int
    weight: Array

    def inside(self, size: int) -> slice:
        """The part of the window that lies in an image of `size` voxels."""
        return slice(max(0, self.start), min(size, self.start + len(self.weight)))


def axis_windows(size: int, patch: int, overlap: float = 0.5, growth: float = 1.0) -> list[AxisWindow]:
    """Windows of one length, evenly placed so that they cover [0, size) and overlap by at least `overlap`.

    They are as few as windows of `growth * patch` would be, and then as short as so few can be, but not shorter than
    `patch`: with fewer windows, however long, less is computed twice.

    Weights are a Gaussian around each window's centre, divided by the sum over all windows. Since windows in space are
    the product of those of the axes, so are the weights, and they too sum to one everywhere. With a single window all
    weights are exactly one: nothing is blended.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must lie in [0, 1), not {overlap}")
    if growth < 1:
        raise ValueError(f"windows cannot be smaller than the patch: growth must be at least 1, not {growth}")
    longest = int(patch * growth)
    count = math.ceil(max(0, size - longest) / max(1.0, longest * (1 - overlap))) + 1
    patch = max(patch, min(longest, math.ceil(size / (1 + (count - 1) * (1 - overlap)))))
    if count == 1:
        return [AxisWindow(-((patch - size) // 2), np.ones(patch, np.float32))]
    starts = [round(i * (size - patch) / (count - 1)) for i in range(count)]
    offset = np.arange(patch) - (patch - 1) / 2
    bell = np.exp(-0.5 * (offset / (SIGMA * patch)) ** 2)
    total = np.zeros(size)
    for start in starts:
        total[start : start + patch] += bell
    return [AxisWindow(start, (bell / total[start : start + patch]).astype(np.float32)) for start in starts]


def predict_slabs(
    predict: Predict,
    image: Array | NetworkImage,
    patch: Sequence[int],
    overlap: float = 0.5,
    batch: int = 4,
    *,
    growth: float = 1.0,
    report: Callable[[float], None] | None = None,
    spread: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Array, Layout]]:
    """Predict an image; finished rows of its first axis are handed on in order, a few at a time.

    Args:
        predict: see `Predict`.
        image: Cin x S; only windows of it are asked for, one at a time.
        patch: least S of a window. Where the image is shorter it is padded with zeros, as in training.
        overlap: least part of a window's edge that the next one covers too.
        batch: windows predicted at once; fewer where they are larger than the patch, down to one.
        growth: an edge of a window may be so many times that of the patch, where fewer windows are then needed.
        report: called with the done fraction, in (0, 1].
        spread: called with each window's share of the sum of the spread over all voxels, which then is no map.

    Yields:
        First row, K x rows x S[1:] float32, and what the K channels are.
    """
    shape = image.shape[1:]
    axes = window_axes(shape, patch, overlap, growth)
    windows = list(itertools.product(*axes))
    batch = max(1, batch * math.prod(patch) // math.prod(len(axis[0].weight) for axis in axes))
    ring: _Ring | None = None
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        values, layout = predict(np.stack([_cut(image, window) for window in group]))
        if spread is not None and layout.spread:
            layout = replace(layout, spread=False)
            for window, value in zip(group, values[:, -1], strict=True):
                spread(_weighted_sum(window, value, shape))
        if ring is None:
            ring = _Ring(shape, ring_rows(axes[0], shape[0]), layout)
        for window, value in zip(group, values, strict=True):
            yield from ring.finished(window[0].inside(shape[0]).start)
            ring.add(window, value)
        del values
        if report is not None:
            report(min(1.0, (first + batch) / len(windows)))
    if ring is not None:
        yield from ring.finished(shape[0])


def window_axes(shape: Sequence[int], patch: Sequence[int], overlap: float, growth: float) -> list[list[AxisWindow]]:
    """The windows along each axis of an image of S = `shape`."""
    if len(patch) != len(shape):
        raise ValueError(f"an image of {len(shape)} axes cannot be cut into windows of {len(patch)}")
    return [axis_windows(n, p, overlap, growth) for n, p in zip(shape, patch, strict=True)]


def ring_rows(windows: Sequence[AxisWindow], size: int) -> int:
    """Rows that are being summed up at once: those of a window."""
    return min(size, len(windows[0].weight))


class _Ring:
    """Sums of the rows that windows still add to. Row r lies at r modulo the length of the ring.

    Args:
        shape: S of the image.
        rows: of the ring.
        layout: what the channels of the windows' answers are.
    """

    def __init__(self, shape: Sequence[int], rows: int, layout: Layout) -> None:
        self._shape, self._layout, self._done = tuple(shape), layout, 0
        self._sums = room((len(layout.summed), rows, *shape[1:]), scattered=True)
        self._line: list[int] = []

    def add(self, window: Sequence[AxisWindow], value: Array) -> None:
        """Add one window's K x patch values, weighted."""
        line = [axis.start for axis in window[:-1]]
        if self._line != line:  # windows of one line touch the same pages
            leave(self._sums)
            self._line = line
        inside, own, weight = _weighted(window, self._shape)
        for place, rows in self._places(inside[0]):
            part = slice(rows.start - inside[0].start, rows.stop - inside[0].start)
            for sums, channel in zip(self._sums, self._layout.summed, strict=True):
                sums[(place, *inside[1:])] += value[channel][tuple(own)][part] * weight[part]

    def finished(self, stop: int) -> Iterator[tuple[int, Array, Layout]]:
        """The rows before `stop` that were not handed on yet, whole: first row, K x rows x S[1:], layout."""
        if stop > self._done and in_file(self._sums):
            give_back()  # pieces that windows have left
        for piece in pieces((stop - self._done, *self._shape[1:])):
            for place, rows in self._places(slice(self._done, self._done + piece.stop - piece.start)):
                full = self._layout.filled(self._sums[:, place])
                self._sums[:, place] = 0
                leave(self._sums)
                self._done = rows.stop
                yield rows.start, full, self._layout

    def _places(self, rows: slice) -> Iterator[tuple[slice, slice]]:
        """Where rows lie in the ring, and which rows: in two parts where the ring closes."""
        length, start = self._sums.shape[1], rows.start
        while start < rows.stop:
            place = start % length
            stop = min(rows.stop, start + length - place)
            yield slice(place, place + stop - start), slice(start, stop)
            start = stop


def _weighted(window: Sequence[AxisWindow], shape: Sequence[int]) -> tuple[list[slice], list[slice], Array]:
    """Where a window lies inside an image of S = `shape`, that part in the window's own voxels, and their weights."""
    inside = [axis.inside(n) for axis, n in zip(window, shape, strict=True)]
    own = [slice(part.start - axis.start, part.stop - axis.start) for axis, part in zip(window, inside, strict=True)]
    weights = [axis.weight[part] for axis, part in zip(window, own, strict=True)]
    return inside, own, functools.reduce(np.multiply.outer, weights)


def _weighted_sum(window: Sequence[AxisWindow], value: Array, shape: Sequence[int]) -> float:
    _, own, weight = _weighted(window, shape)
    return float((value[tuple(own)] * weight).sum(dtype=np.float64))


def gathered(slabs: Iterable[tuple[int, Array, Layout]], shape: tuple[int, ...], in_memory: int = IN_MEMORY) -> Maps:
    """The slabs of an image of shape S as one prediction.

    Returns:
        Maps with a batch axis of one, float32. Beyond `in_memory` bytes it lies in a temporary
        file that vanishes with it.
    """
    result: Array | None = None
    layout = Layout(0, ())
    for start, slab, layout in slabs:  # noqa: B007
        if result is None:
            result = room((slab.shape[0], *shape), np.float32, in_memory)
        result[:, start : start + slab.shape[1]] = slab
    if result is None:
        raise ValueError(f"an image of shape {shape} has no voxels")
    return layout.split(result[None])


def _cut(image: Array | NetworkImage, window: Sequence[AxisWindow]) -> Array:
    inside = [axis.inside(n) for axis, n in zip(window, image.shape[1:], strict=True)]
    block = np.asarray(image[(slice(None), *inside)], dtype=np.float32)
    margins = [
        (part.start - axis.start, axis.start + len(axis.weight) - part.stop)
        for axis, part in zip(window, inside, strict=True)
    ]
    return np.pad(block, [(0, 0), *margins]) if np.any(margins) else block
