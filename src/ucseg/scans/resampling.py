"""How do voxels come to another grid of the same box? Values linearly, labels by the class that fills most of a voxel.

With n voxels resampled to m, the centre of new voxel j is at (j + 1/2) n / m - 1/2 in old voxel indices.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from ucseg.types import LEAST_ANNOTATED, NOT_ANNOTATED, Array


def resample(array: Array, shape: tuple[int, ...]) -> Array:
    """C x S to C x `shape`, both covering the same box; linear between voxel centres, edges continued.

    If an axis becomes coarser, the linear kernel is widened by the same factor, which removes details that the new grid
    cannot hold. If it becomes finer, this is plain linear interpolation.
    """
    whole = tuple(slice(0, n) for n in shape)
    return resample_box(array, array.shape[1:], shape, whole)


def resample_box(array: Array, before: tuple[int, ...], after: tuple[int, ...], box: tuple[slice, ...]) -> Array:
    """A part of what `resample` makes of S = `before`, from those voxels alone that it needs: the same numbers.

    Args:
        array: C x S; the voxels `made_of` this box.
        before, after: S of the whole array on the old and on the new grid.
        box: the part, on the new grid.
    """
    for axis in _changing_axes(before, after):
        old = made_of(before[axis], after[axis], box[axis])
        rows = _linear_filter(before[axis], after[axis])
        if (old.start, old.stop, box[axis]) != (0, before[axis], slice(0, after[axis])):
            rows = rows[box[axis]][:, old]
        array = _along(array, 1 + axis, rows)
    return np.ascontiguousarray(array)


def made_of(before: int, after: int, new: slice) -> slice:
    """Which of `before` voxels of an axis the voxels `new` of `after` are made of."""
    if before == after:
        return slice(new.start, new.stop)
    first, last = _reach(before, after)
    return slice(int(first[new.start]), int(last[new.stop - 1]) + 1)


def ready(before: int, after: int, known: int) -> int:
    """How many of `after` voxels of an axis can be made of the first `known` of `before` voxels."""
    return known if before == after else int(np.searchsorted(_reach(before, after)[1], known))


@lru_cache(maxsize=256)
def _reach(before: int, after: int) -> tuple[Array, Array]:
    """The first and the last old voxel of each new one."""
    rows = _linear_filter(before, after)
    return rows.indices[rows.indptr[:-1]], rows.indices[rows.indptr[1:] - 1]


def resample_label(label: Array, shape: tuple[int, ...]) -> Array:
    """A label, S uint8, on another grid of the same box: each voxel gets the class that fills most of it.

    Where parts are NOT_ANNOTATED, it is the class that fills most of what is annotated in the voxel, if that is more
    than a quarter of it: single slices and thin lines would be lost otherwise.
    """
    if label.shape == tuple(shape):
        return np.ascontiguousarray(label)
    winner = np.zeros(shape, label.dtype)
    share = resample((label == 0)[None].astype(np.float32), shape)[0]
    for value, box in enumerate(scipy.ndimage.find_objects(label), start=1):
        if not box:  # no such class here
            continue
        # Outside the box of a class its share is zero. So classes that are small cost little.
        part, where = (label[box] == value).astype(np.float32), list(box)
        for axis in _changing_axes(label.shape, shape):
            rows = _linear_filter(label.shape[axis], shape[axis])[:, box[axis]]
            reached = np.flatnonzero(np.diff(rows.indptr))
            where[axis] = slice(int(reached[0]), int(reached[-1]) + 1)
            part = _along(part, axis, rows[where[axis]])
        if value == NOT_ANNOTATED:  # the last one
            winner[tuple(where)][part >= 1 - LEAST_ANNOTATED] = value
            continue
        before = share[tuple(where)]
        winner[tuple(where)][part > before] = value
        np.maximum(before, part, out=before)
    return winner


def _changing_axes(before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    """The shrinking axes first: less work."""
    axes = [axis for axis in range(len(after)) if before[axis] != after[axis]]
    return sorted(axes, key=lambda a: after[a] / before[a])


def _along(array: Array, axis: int, rows: scipy.sparse.csr_array) -> Array:
    moved = np.moveaxis(array, axis, 0)
    done = rows @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.moveaxis(done.reshape(-1, *moved.shape[1:]), 0, axis)


@lru_cache(maxsize=256)
def _linear_filter(source: int, target: int) -> scipy.sparse.csr_array:
    """The `target` x `source` matrix that resamples one axis; its rows sum to one."""
    step = source / target
    reach = max(1.0, step)
    centre = (np.arange(target) + 0.5) * step - 0.5
    taps = np.floor(centre - reach).astype(int)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weight = np.clip(1 - np.abs(taps - centre[:, None]) / reach, 0, None)
    weight[(taps < 0) | (taps >= source)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    row, column = np.nonzero(weight)
    values = weight[row, column].astype(np.float32)
    return scipy.sparse.csr_array((values, (row, taps[row, column])), shape=(target, source))
