"""Predict an image of any size through windows of about the training patch's size, blended with Gaussian weights.

Windows overlap, so that voxels are computed several times, and a window larger than the patch saves work: an axis that
fits into `growth` times the patch needs one window, and every voxel of it is computed once.

Memory. Windows are visited along the first axis, and rows that no later window touches are handed on at once. What is
being summed up is therefore never more than a slab of `edge + (batch - 1) * step` rows, whatever the length of the
scan. The gathered result is float32 on the CPU, and beyond `in_memory` bytes it lies in a temporary file that the
operating system pages in and out.
"""

from __future__ import annotations

import functools
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ucseg.inference.maps import Layout, Maps
from ucseg.types import Array

Predict = Callable[[Array], tuple[Array, Layout]]
"""B x Cin x window float32 -> B x K x window float32, and what the K channels are."""
SIGMA = 1 / 8  # of a window's edge: windows count where they see most context around a voxel
IN_MEMORY = 2**31


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
    image: Array,
    patch: Sequence[int],
    overlap: float = 0.5,
    batch: int = 4,
    *,
    growth: float = 1.0,
    report: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Array, Layout]]:
    """Predict an image; finished rows of its first axis are handed on in order, for `gathered`.

    Args:
        predict: see `Predict`.
        image: Cin x S, may be a memory map; windows are read one at a time.
        patch: least S of a window. Where the image is shorter it is padded with zeros, as in training.
        overlap: least part of a window's edge that the next one covers too.
        batch: windows predicted at once; fewer where they are larger than the patch, down to one.
        growth: an edge of a window may be so many times that of the patch, where fewer windows are then needed.
        report: called with the done fraction, in (0, 1].

    Yields:
        First row, K x rows x S[1:] float32, and what the K channels are.
    """
    shape = image.shape[1:]
    if len(patch) != len(shape):
        raise ValueError(f"an image of {len(shape)} axes cannot be cut into windows of {len(patch)}")
    axes = [axis_windows(n, p, overlap, growth) for n, p in zip(shape, patch, strict=True)]
    windows = list(itertools.product(*axes))
    batch = max(1, batch * math.prod(patch) // math.prod(len(axis[0].weight) for axis in axes))
    done, pending = 0, np.zeros((0, 0, *shape[1:]), np.float32)
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        values, layout = predict(np.stack([_cut(image, window) for window in group]))
        missing = group[-1][0].inside(shape[0]).stop - done - pending.shape[1]
        if missing > 0:
            rows = np.zeros((values.shape[1], missing, *shape[1:]), np.float32)
            pending = np.concatenate([pending, rows], axis=1) if pending.size else rows
        for window, value in zip(group, values, strict=True):
            _add(pending, window, value, shape, done)
        later = windows[first + batch : first + batch + 1]
        complete = later[0][0].inside(shape[0]).start if later else shape[0]
        if complete > done:
            yield done, pending[:, : complete - done], layout
            pending, done = pending[:, complete - done :].copy(), complete
        if report is not None:
            report(min(1.0, (first + batch) / len(windows)))


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
            result = _room((slab.shape[0], *shape), in_memory)
        result[:, start : start + slab.shape[1]] = slab
    if result is None:
        raise ValueError(f"an image of shape {shape} has no voxels")
    return layout.split(result[None])


def _cut(image: Array, window: Sequence[AxisWindow]) -> Array:
    inside = [axis.inside(n) for axis, n in zip(window, image.shape[1:], strict=True)]
    block = np.asarray(image[(slice(None), *inside)], dtype=np.float32)
    margins = [
        (part.start - axis.start, axis.start + len(axis.weight) - part.stop)
        for axis, part in zip(window, inside, strict=True)
    ]
    return np.pad(block, [(0, 0), *margins]) if np.any(margins) else block


def _add(total: Array, window: Sequence[AxisWindow], value: Array, shape: Sequence[int], done: int) -> None:
    """Add one window's K x patch values, weighted, to the rows from `done` on."""
    rows, *others = inside = [axis.inside(n) for axis, n in zip(window, shape, strict=True)]
    own = [slice(part.start - axis.start, part.stop - axis.start) for axis, part in zip(window, inside, strict=True)]
    weight = functools.reduce(np.multiply.outer, [axis.weight[part] for axis, part in zip(window, own, strict=True)])
    total[:, rows.start - done : rows.stop - done, *others] += value[:, *own] * weight


def _room(shape: tuple[int, ...], in_memory: int) -> Array:
    if 4 * math.prod(shape) <= in_memory:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the nameless file alive as long as the array lives
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
