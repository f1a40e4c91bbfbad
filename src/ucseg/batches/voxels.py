"""Which voxel should a patch show? One of a class, or one that is annotated."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.npy import open_npy
from ucseg.types import NOT_ANNOTATED, Array

FOREGROUND_VOXELS = 10_000  # of a class and case remembered as crop centres, evenly spread; nnU-Net's number


@lru_cache(maxsize=256)  # an open memory map holds a file descriptor
def open_prepared(path: Path) -> Array:
    """A prepared image or label, memory-mapped; a UserError if it cannot be read."""
    try:
        array = open_npy(path)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            "prepared-file-damaged",
            f"{path}: this prepared file cannot be read ({error}); delete it and start again to make a new one.",
        ) from None
    return array


def foreground_voxel(path: Path, rng: np.random.Generator, value: int | None = None) -> tuple[int, ...] | None:
    """A random voxel of a class of a label (None: of a random one); None if the label has none."""
    shape, classes = _foreground(path)
    if not classes or (value is not None and value not in classes):
        return None
    voxels = classes[value if value is not None else list(classes)[rng.integers(len(classes))]]
    return tuple(int(index) for index in np.unravel_index(voxels[rng.integers(len(voxels))], shape))


@lru_cache(maxsize=512)
def _foreground(path: Path) -> tuple[tuple[int, ...], dict[int, Array]]:
    """Shape of a label, and for each foreground class in it the flat indices of some of its voxels."""
    label = open_prepared(path)
    flat = label.reshape(-1)
    inside = np.flatnonzero(flat)
    values = flat[inside]
    classes = {}
    for value in np.unique(values):
        if value != NOT_ANNOTATED:
            classes[int(value)] = _some(inside[values == value])
    return label.shape, classes


def annotated_voxel(path: Path, rng: np.random.Generator) -> tuple[int, ...]:
    """A random voxel of a label that is annotated, background included."""
    shape, voxels = _annotated(path)
    return tuple(int(index) for index in np.unravel_index(voxels[rng.integers(len(voxels))], shape))


@lru_cache(maxsize=512)
def _annotated(path: Path) -> tuple[tuple[int, ...], Array]:
    """Shape of a label, and the flat indices of some of its annotated voxels."""
    label = open_prepared(path)
    return label.shape, _some(np.flatnonzero(label.reshape(-1) != NOT_ANNOTATED))


def _some(voxels: Array) -> Array:
    """At most FOREGROUND_VOXELS of them, evenly spread."""
    if len(voxels) <= FOREGROUND_VOXELS:
        return voxels
    picked: Array = voxels[np.linspace(0, len(voxels) - 1, FOREGROUND_VOXELS).astype(int)]
    return picked
