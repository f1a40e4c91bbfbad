"""Which numbers of a plan follow from shapes and spacings? Each comes with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

import numpy as np

from ucseg.types import Array, Strides

T = TypeVar("T")

LEVELS = 5
"""Of the networks' encoders, at most: the method's."""
LEAST_EDGE = 4
"""No axis is halved to fewer voxels than this (nnU-Net's bottleneck)."""
PATCH_VOXELS = {2: 256**2, 3: 96**3}
"""Most voxels of a patch, by rank: the paper's largest patches."""
MOST_PATCHES = 12
"""In half a batch: the paper's."""
IMAGE_PIXELS = 224**2
"""Most pixels of a resized plain image: the paper's size."""
THICK = 3.0
"""An axis is coarse when its voxels are so many times longer than the shortest (nnU-Net's threshold)."""
ENLARGED = 4
"""So many times its own voxels, and those of the largest training scan, a scan may have on the network's grid."""
FLAT = 5.0
FEW_SLICES = 16
"""Volumes are cut into slices when those are FLAT times thicker than wide and fewer than FEW_SLICES."""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A value and its reason: one or two sentences, written where the choice is made."""

    value: T
    why: str


def network_rank(native: int, shape: Array, spacing: Array, slice_axis: int) -> Choice[int]:
    """2D or 3D, from the median shape and spacing of the scans (canonical axes)."""
    if native == 2:
        return Choice(2, "the scans are images")
    slices, ratio = shape[slice_axis], spacing[slice_axis] / np.delete(spacing, slice_axis).max()
    thick = "as thick as wide" if f"{ratio:.3g}" == "1" else f"{ratio:.3g} times as thick as wide"
    seen = f"the median volume has {slices:g} slice{'' if slices == 1 else 's'}, {thick}"
    if slices < 2 * LEAST_EDGE:
        return Choice(2, f"{seen}: fewer than {2 * LEAST_EDGE} cannot be halved even once")
    if ratio > FLAT and slices < FEW_SLICES:
        why = f"{seen}: slices thicker than {FLAT:g} times, and fewer than {FEW_SLICES}, have little in common"
        return Choice(2, why)
    return Choice(3, f"{seen}: enough for a network to look across slices")


def target_spacing(spacings: Array, slice_axis: int | None = None) -> Choice[tuple[float, ...]]:
    """The spacing to resample to: the median of those of the cases, N x n.

    If one axis is more than three times coarser than the finest, its median would discard slices of half the cases. It
    gets the 10th percentile instead, but nothing finer than the other axes (Isensee et al. 2021, nnU-Net, supplement).
    Across `slice_axis` each scan keeps its spacing, so the value is only a note.
    """
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    why = "the median of the training scans, labelled or not"
    if (spacings == spacings[0]).all():
        why = "that of every training scan"
    if target[coarse] > THICK * target.min() and coarse != slice_axis:
        others = np.delete(target, coarse).max()
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), others)
        why += (
            f"; axis {coarse} is more than {THICK:g} times coarser than the finest: its 10th percentile, since the "
            "median would discard slices of half the scans"
        )
    return Choice(tuple(rounded(edge) for edge in target), why)


def network_shape(
    shape: tuple[int, ...],
    edges: tuple[float, ...],
    spacing: tuple[float, ...],
    size: tuple[int, ...] | None,
    slice_axis: int | None,
) -> tuple[int, ...]:
    """The shape of a scan on the network's grid, in canonical axes.

    Args:
        shape, edges: the scan's voxels, and the edges of one.
        spacing, size, slice_axis: the plan's.
    """
    after = [max(1, round(n * edge / target)) for n, edge, target in zip(shape, edges, spacing, strict=True)]
    if size is not None:
        after = list(size)
        if slice_axis is not None:
            after.insert(slice_axis, 0)
    if slice_axis is not None:
        after[slice_axis] = shape[slice_axis]  # slices stay as they were taken
    return tuple(after)


def most_voxels(own: Sequence[int], on_grid: Sequence[int]) -> Choice[int]:
    """A bound on the voxels of any scan on the network's grid.

    A training scan that becomes larger than ENLARGED times counts so much only: its spacing may be what is wrong.

    Args:
        own, on_grid: voxels of each training scan, as stored and on the grid.
    """
    largest = max(min(after, ENLARGED * before) for before, after in zip(own, on_grid, strict=True))
    return Choice(ENLARGED * largest, f"{ENLARGED} times the largest training scan")


def spacing_that_fits(
    spacing: tuple[float, ...], structure: Array, plane: list[int]
) -> Choice[tuple[float, ...]] | None:
    """A coarser spacing at which a patch holds the typical structure (low resolution); None if it does so already.

    The finest axes become coarser first, until all are alike, as in nnU-Net's low resolution.

    Args:
        spacing: per axis of a scan.
        structure: its edges in mm, per axis of a scan.
        plane: the axes that the network sees.
    """
    edges = np.array(spacing)[plane]
    budget, extent = PATCH_VOXELS[len(plane)], np.asarray(structure)[plane]
    if np.prod(np.ceil(extent / edges)) <= budget:
        return None
    while np.prod(np.ceil(extent / edges)) > budget:
        fine = edges < edges.max() / 1.05 if edges.max() > 2 * edges.min() else np.ones(len(edges), bool)
        edges = np.where(fine, edges * 1.02, edges)
    coarse = np.array(spacing)
    coarse[plane] = edges
    voxels = " x ".join(f"{edge:.0f}" for edge in np.ceil(extent / np.array(spacing)[plane]))
    return Choice(
        tuple(rounded(edge) for edge in coarse),
        f"low resolution: at the scans' spacing the typical structure ({voxels} voxels) is larger than a patch can be "
        f"({budget} voxels). A network that sees only its inside cannot find its border",
    )


def whole_size(shapes: Array, most: float = IMAGE_PIXELS) -> Choice[tuple[int, ...]]:
    """The size that plain images are resized to, from their shapes, N x 2: at most `most` pixels, never enlarged.

    Square where the images' aspects differ by more than a tenth (the papers' way), the common aspect otherwise.
    """
    low, high = np.percentile(shapes[:, 0] / shapes[:, 1], [5, 95])
    height, width = np.median(shapes, axis=0)
    seen = f"the images have one aspect (median {height:g} x {width:g} pixels)"
    if high > 1.1 * low:
        height = width = np.sqrt(height * width)
        seen = "the images differ in aspect, so they become squares"
    pixels = min(most, height * width)
    rows, columns = (float(edge) * np.sqrt(pixels / (height * width)) for edge in (height, width))
    fits = [(r, c) for r in _sixteenths(rows) for c in _sixteenths(columns) if r * c <= pixels]
    limit = "at most the 224^2 pixels of the paper" if most == IMAGE_PIXELS else f"at most {most:.0f} pixels"
    why = f"{seen}; {limit if pixels == most else 'never enlarged'}"
    if not fits:  # an edge is below the least, which would make more pixels than allowed
        edges = [max(32, int(edge / 16) * 16) for edge in (rows, columns)]
        long = int(np.argmax(edges))
        edges[long] = max(32, min(edges[long], int(most / edges[1 - long] / 16) * 16))
        least = f"{seen}; no edge is below the 32 pixels that the networks need"
        return Choice((edges[0], edges[1]), f"{least}; {limit}" if pixels == most else least)
    best = min(fits, key=lambda edges: (abs(np.log(edges[0] / edges[1] * columns / rows)), -edges[0] * edges[1]))
    return Choice(best, why)


def strides_for(patch: tuple[int, ...], spacing: tuple[float, ...]) -> Choice[Strides]:
    """The steps from level to level: an axis is halved while four voxels remain, the finest axes first.

    An axis whose voxels are twice as long as the finest waits for the others (nnU-Net), so that the network sees about
    equally far in every direction.
    """
    size, edge = np.array(patch), np.array(spacing, float)
    steps: list[tuple[int, ...]] = []
    waited = False
    while len(steps) < LEVELS - 1:
        able = size >= 2 * LEAST_EDGE
        if not able.any():
            break
        halved = able & (edge < 2 * edge[able].min())
        waited |= bool((able & ~halved).any())
        steps.append(tuple(int(step) for step in np.where(halved, 2, 1)))
        size, edge = np.where(halved, -(-size // 2), size), np.where(halved, 2 * edge, edge)
    bottom = " x ".join(map(str, size))
    why = f"{len(steps) + 1} levels, the lowest of {bottom}"
    if len(steps) == LEVELS - 1:
        why += ": as many as the method has"
    else:
        why += f": one more would leave fewer than {LEAST_EDGE} {elements(len(patch))} along each axis"
    if waited:
        why += "; the coarse axis is halved only when the others are as coarse"
    return Choice(tuple(steps), why)


def multiples(strides: Strides | None, dims: int) -> tuple[int, ...]:
    """The number by which the networks' levels divide each edge of a patch."""
    steps = strides if strides is not None else ((2,) * dims,) * (LEVELS - 1)
    return tuple(int(np.prod([step[axis] for step in steps])) for axis in range(dims))


def patch_for(
    median: Array,
    spacing: tuple[float, ...],
    structure: Array | None = None,
    strides: Strides | None = None,
    most: Choice[float] | None = None,
) -> Choice[tuple[int, ...]]:
    """The patch for scans of this median shape: whole if the voxel budget allows, else about a cube in mm.

    Args:
        median: voxels at the target spacing.
        spacing: the network's axes'.
        structure: edges in voxels of the typical structure; the patch is not smaller.
        strides: of the networks, if they are given; None: as `strides_for` will choose them.
        most: voxels of a patch, with the reason; None: the paper's.
    """
    budget, edge = PATCH_VOXELS[len(median)] if most is None else int(most.value), np.asarray(spacing)
    least = np.minimum(np.ceil(structure) if structure is not None else 1, np.ceil(median))
    shape = np.maximum(np.ceil(median), 1)
    whole = np.prod(shape) <= budget
    while np.prod(shape) > budget:
        free = shape > least
        shape[int(np.argmax(np.where(free if free.any() else True, shape * edge, 0)))] -= 1
    for trial in count():  # up to multiples of what the levels divide by; if that is too much, down
        edges = tuple(int(n) for n in np.maximum(shape, 2))
        if max(edges) < 4 * LEAST_EDGE:
            edges = tuple(4 * LEAST_EDGE if n == max(edges) else n for n in edges)  # three levels at least
        divide = multiples(strides or strides_for(edges, spacing).value, len(edges))
        patch = tuple(-(-n // m) * m for n, m in zip(edges, divide, strict=True))
        if np.prod(patch) <= budget or trial > 64:
            break
        free = np.array([p - m >= at for p, m, at in zip(patch, divide, least, strict=True)])
        longest = int(np.argmax(np.where(free if free.any() else True, np.array(patch) * edge, 0)))
        shape[longest] = patch[longest] - divide[longest]
    voxels = elements(len(median))
    why = "holds the median scan whole"
    if not whole:
        why = f"as much as {budget} {voxels} hold, about as long along every axis"
    if most is not None and not whole:
        why += f", {most.why}"
    if structure is not None and not whole:
        why += f"; the typical structure is {' x '.join(f'{n:.0f}' for n in structure)} {voxels}"
    return Choice(patch, f"{why}; edges are multiples of what the levels divide by")


def token_for(patch: tuple[int, ...]) -> Choice[tuple[int, ...]]:
    """Edges of the tokens into which uncertainty maps are cut: the paper's (14 for 224^2, 16 for 256^2 and 96^3).

    Smaller if fewer than four would fit along an axis: the attention would have little to compare.
    """
    if len(patch) == 2 and all(edge % 14 == 0 and edge >= 4 * 14 for edge in patch):
        return Choice((14,) * 2, "the paper's, for patches that 14 divides")
    token = tuple(next((n for n in (16, 8, 4, 2) if edge >= 4 * n), 1) for edge in patch)
    if set(token) == {16}:
        return Choice(token, "the paper's")
    return Choice(token, "the largest of 16, 8, 4, ... that fits at least four times along each axis")


def batch_for(patch: tuple[int, ...]) -> Choice[int]:
    """Half a batch, from 2 to MOST_PATCHES: the paper's 12 at 256^2 and 2 at 96^3, otherwise as many voxels."""
    reference = {2: 12, 3: 2}[len(patch)]
    wanted = reference * PATCH_VOXELS[len(patch)] / np.prod(patch)
    paper = f"as many {elements(len(patch))} as the paper's {'12 of 256^2' if len(patch) == 2 else '2 of 96^3'}"
    if wanted > MOST_PATCHES:
        return Choice(MOST_PATCHES, f"the upper limit; {paper} would take {wanted:.0f} patches")
    return Choice(max(2, int(wanted)), f"{paper}, from 2 to {MOST_PATCHES} patches")


def elements(dims: int) -> str:
    """What an image or a volume consists of."""
    return "pixels" if dims == 2 else "voxels"


def _sixteenths(edge: float) -> list[int]:
    """The multiples of 16 on both sides of an edge, none below 32."""
    return [max(32, int(side(edge / 16)) * 16) for side in (np.floor, np.ceil)]


def rounded(edge: float) -> float:
    return float(f"{edge:.5g}")
