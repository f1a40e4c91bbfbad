"""Small images, masks and volumes that tests write into a folder."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from ucseg.types import Array

SIZE = (40, 48)


def blob(kind: int = 1, where: int = 0) -> Array:
    """A mask with one rectangle of the value `kind`; `where` moves it."""
    array = np.zeros(SIZE, np.uint8)
    array[10 + where % 7 : 25 + where % 7, 12:30] = kind
    return array


def picture(path: Path, seed: int = 0, channels: int = 1) -> None:
    """Write a plain image of noise, another one for each path."""
    array = np.random.default_rng([seed, *path.as_posix().encode()]).integers(0, 256, (*SIZE, channels), dtype=np.uint8)
    save(path, array.squeeze())


def save(path: Path, array: Array, **options: int) -> None:
    """Write an array as a plain image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def volume(path: Path, array: Array | None = None, low: float = 0) -> None:
    """Write an array, or noise around `low`, as NIfTI of 1 x 1 x 3 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng([*path.name.encode()]).normal(low, 20, (8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)


def label(values: tuple[int, ...] = (0, 1)) -> Array:
    """A mask of a volume with these values."""
    return np.resize(np.array(values, np.uint8), (8, 9, 10))
