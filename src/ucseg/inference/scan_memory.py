"""How much memory does the prediction of a scan take? Known before anything is computed.

A `grid` here begins with the axis along which slabs go on, and `axes` are the windows along each of its axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ucseg.batches.preprocess import Grid
from ucseg.inference.sliding_window import AxisWindow, ring_rows
from ucseg.machine.room import AT_A_TIME, IN_MEMORY

Axes = Sequence[Sequence[AxisWindow]]


def least_memory(grid: Grid, axes: Axes, classes: int) -> float:
    """Bytes that a scan takes in any case beside its voxels, members apart."""
    own, on_grid = math.prod(grid.source_shape), math.prod(grid.shape)
    summed = _summed(grid, axes, classes)  # all classes but one, and the uncertainty
    resampled = grid.shape != grid.canonical_shape
    maps = [4.0 * on_grid, 4.0 * own, *([4.0 * on_grid] if resampled else [])]
    kept = sum(size for size in maps if size <= IN_MEMORY)  # beyond that they lie in files
    return summed + kept + own + resampled * on_grid  # with the masks


def likely_memory(grid: Grid, axes: Axes, classes: int, channels: int, at_once: int, probabilities: bool) -> float:
    """About how many bytes a scan takes beside its voxels: rather too many than too few.

    Args:
        channels: of what the networks answer.
        at_once: voxels of the windows that are answered together.
        probabilities: whether they are kept.
    """
    window = math.prod(len(one[0].weight) for one in axes)
    answered = min(math.prod(map(len, axes)), max(1, at_once // window)) * window
    # A piece of all maps is there twice: as it was summed up, and as it goes to the scan's own grid.
    maps = 4.0 * channels * (answered + 2 * min(AT_A_TIME, math.prod(grid.shape)))
    kept = 4.0 * probabilities * classes * math.prod(grid.source_shape)
    summed = _summed(grid, axes, channels)
    return least_memory(grid, axes, classes) + summed + maps + (kept if kept <= IN_MEMORY else 0.0)


def _summed(grid: Grid, axes: Axes, channels: int) -> float:
    """Bytes of what is being summed up: all of it, or, where it lies in a file, what one line of windows adds to."""
    rows = ring_rows(axes[0], grid.shape[0])
    whole = 4.0 * channels * rows * math.prod(grid.shape[1:])
    if whole <= IN_MEMORY or len(grid.shape) < 3:
        return whole
    return whole * min(1.0, len(axes[1][0].weight) / grid.shape[1])
