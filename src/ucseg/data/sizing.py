"""The numbers of a plan that follow from shapes and spacings: target spacing, image size, patch, token, batch."""

from __future__ import annotations

import numpy as np

from ucseg.types import Array

DIVISOR = 16
"""Patch edges are multiples of this: both subnets halve the grid four times."""
PATCH_VOXELS = {2: 256**2, 3: 96**3}
"""Most voxels of a patch, by rank: the paper's largest patches."""
IMAGE_PIXELS = 224**2
"""Most pixels of a resized plain image: the paper's size."""


def target_spacing(spacings: Array, slice_axis: int | None = None) -> tuple[float, ...]:
    """The spacing to resample to, from those of the cases, N x n: the median.

    Where one axis is more than three times coarser than the finest one, the median of that axis would throw away
    slices of half the cases: it gets the 10th percentile instead, but nothing finer than the other axes (Isensee et
    al. 2021, nnU-Net, supplement). An axis that is only sliced keeps each scan's own spacing, so its value is a note.
    """
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    if target[coarse] > 3 * target.min() and coarse != slice_axis:
        others = np.delete(target, coarse).max()
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), others)
    return tuple(float(f"{edge:.5g}") for edge in target)


def whole_size(shapes: Array) -> tuple[int, ...]:
    """The size that plain images are resized to, from their shapes, N x 2: at most 224^2 pixels, never enlarged.

    Square where the images' aspects differ by more than a tenth (the papers' way), the common aspect otherwise.
    """
    low, high = np.percentile(shapes[:, 0] / shapes[:, 1], [5, 95])
    height, width = np.median(shapes, axis=0)
    if high > 1.1 * low:
        height = width = np.sqrt(height * width)
    pixels = min(IMAGE_PIXELS, height * width)
    rows, columns = (float(edge) * np.sqrt(pixels / (height * width)) for edge in (height, width))
    fits = [(r, c) for r in _multiples(rows) for c in _multiples(columns) if r * c <= pixels]
    if not fits:
        return (2 * DIVISOR, 2 * DIVISOR)
    return min(fits, key=lambda edges: (abs(np.log(edges[0] / edges[1] * columns / rows)), -edges[0] * edges[1]))


def patch_for(median: Array) -> tuple[int, ...]:
    """The patch for scans of this median shape: the multiples of 16 nearest to it, within the voxel budget."""
    edges = [max(2 * DIVISOR, round(float(edge) / DIVISOR) * DIVISOR) for edge in median]
    while np.prod(edges) > PATCH_VOXELS[len(edges)]:
        edges[int(np.argmax(edges))] -= DIVISOR
    return tuple(edges)


def token_for(patch: tuple[int, ...]) -> tuple[int, ...]:
    """Edges into which uncertainty maps are cut: the paper's (14 for 224^2, 16 for 256^2 and 96^3) where they fit.

    Smaller ones where fewer than four would lie along an axis, which leaves the attention little to compare.
    """
    if len(patch) == 2 and all(edge % 14 == 0 and edge >= 4 * 14 for edge in patch):
        return (14,) * 2
    return tuple(16 if edge >= 4 * 16 else 8 if edge >= 4 * 8 else 4 for edge in patch)


def batch_for(patch: tuple[int, ...]) -> int:
    """Half a batch: the paper's 12 at 256^2 and 2 at 96^3, by voxels in between, from 2 to 12."""
    reference = {2: 12, 3: 2}[len(patch)]
    return int(np.clip(reference * PATCH_VOXELS[len(patch)] / np.prod(patch), 2, 12))


def _multiples(edge: float) -> list[int]:
    """The multiples of DIVISOR on both sides of an edge, none below the least edge."""
    return [max(2 * DIVISOR, int(side(edge / DIVISOR)) * DIVISOR) for side in (np.floor, np.ceil)]
