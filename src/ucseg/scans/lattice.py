"""Masks that hold a part of their image's voxels: 3D Slicer cuts segmentations to what is drawn.

Their voxels are voxels of the image, counted from another one. So they are laid where their header places them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.scan import Geometry, Scan, orders_of
from ucseg.types import Array

Grid = tuple[tuple[int, ...], Geometry]

_OFF = 0.1
"""How far, in voxels, a corner of the mask may lie from a voxel of the image: headers round."""


def in_order(mask: Scan, grid: Grid) -> Scan:
    """A mask of one slice with its axes as its image has them; other masks unchanged.

    A PNG beside an image of ITK is turned. So is what ITK-SNAP saves of a PNG, a NIfTI of columns x rows x 1; if only
    rows x columns x 1 fits, that is what it is.
    """
    shape, image = grid
    own, kept = mask.geometry, mask.array.shape[1:]
    if own.dims == image.dims == 2 and own.columns_first != image.columns_first:
        turned = replace(own, affine=own.affine[:, [1, 0, 2]], others=(), columns_first=image.columns_first)
        return Scan(mask.array.swapaxes(1, 2), turned, mask.source)
    if own.dims == image.dims or shape not in (orders := orders_of(kept, own, image)):
        return mask
    array = mask.array.reshape(len(mask.array), *kept[:2])
    as_first = own.columns_first == image.columns_first
    stored = as_first == (shape == orders[0])
    return Scan((array if stored else array.swapaxes(1, 2)).reshape(len(array), *shape), image, mask.source)


def laid(mask: Scan, grid: Grid, always: bool) -> Scan:
    """A mask that differs from its image in size, on its image's grid, 1 x S; other masks unchanged.

    Args:
        grid: S and geometry of the image.
        always: of a segmentation that lies by its header alone. Most other files that differ in size are of different
            scans. So their header counts only where they lie inside the image and begin at another voxel.

    Raises:
        UserError: something is drawn outside the image or, of a segmentation, between its voxels.
    """
    shape, geometry = grid
    own = mask.array.shape[1:]
    placed = geometry.states_place and mask.geometry.states_place
    if not placed or len(shape) != 3 or len(own) != 3 or len(mask.array) != 1:
        return mask
    if own == shape:
        return mask
    steps = _steps(own, mask.geometry, geometry)
    if steps is None and always:
        raise UserError(
            "mask-between",
            f"{mask.source}: its voxels are not those of its image in place, size or direction; resample it to its "
            "image, or check that they belong together.",
        )
    if steps is None or (not always and not _is_inside(own, *steps, shape)):
        return mask
    turn, start = steps
    drawn = np.argwhere(mask.array[0])
    places = start + drawn @ turn.T
    if len(places) and (places.min() < 0 or (places >= shape).any()):
        raise UserError(
            "mask-outside", f"{mask.source}: some of it lies outside its image; check that they belong together."
        )
    out = np.zeros(shape, mask.array.dtype)
    out[tuple(places.T)] = mask.array[0][tuple(drawn.T)]
    return Scan(out[None], geometry, mask.source)


def union(grids: list[Grid]) -> Grid:
    """The smallest grid that holds several of one lattice, with the axes of the first; the first if they are of two."""
    (shape, geometry), *others = grids
    low, high = np.zeros(3, int), np.array(shape) - 1
    for other, own in others:
        placed = _steps(other, own, geometry) if len(other) == len(shape) == 3 else None
        if placed is None:
            return grids[0]
        ends = placed[1] + np.array([np.zeros(3, int), np.array(other) - 1]) @ placed[0].T
        low, high = np.minimum(low, ends.min(axis=0)), np.maximum(high, ends.max(axis=0))
    moved = geometry.affine.copy()
    moved[:3, 3] = (geometry.affine @ [*low, 1.0])[:3]
    return tuple(int(n) for n in high - low + 1), Geometry(moved, geometry.unit)


def _steps(own: tuple[int, ...], mask: Geometry, image: Geometry) -> tuple[Array, Array] | None:
    """How voxels of the mask become those of the image, 3 x 3 and 3 whole numbers; None where they do not meet."""
    exact = np.linalg.inv(image.affine) @ mask.affine
    turn, start = np.rint(exact[:3, :3]).astype(int), np.rint(exact[:3, 3]).astype(int)
    if abs(round(float(np.linalg.det(turn)))) != 1:
        return None
    corners = np.array(list(product(*((0, count - 1) for count in own))))
    off = corners @ exact[:3, :3].T + exact[:3, 3] - (corners @ turn.T + start)
    return (turn, start) if np.abs(off).max() <= _OFF else None


def _is_inside(own: tuple[int, ...], turn: Array, start: Array, shape: tuple[int, ...]) -> bool:
    """Whether the whole mask lies in the image, along the same axes, and does not begin where the image begins."""
    return bool(
        (turn == np.eye(3)).all() and start.any() and (start >= 0).all() and (start + np.array(own) <= shape).all()
    )
