"""Small files laid out as public data sets are; what a file holds follows from its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from PIL import Image

from ucseg.types import Array

_MASKS = ("mask", "groundtruth", "ground truth", "annotation", "_seg", "_dseg", "label", "_gt")


def grow(folder: Path, files: Iterable[str], values: tuple[int, ...] = (0, 1), channels: int = 1) -> Path:
    """Write the files below a folder.

    Args:
        folder: made if it is not there.
        files: paths; the ending decides the format, and names such as x_mask or labelsTr what is a mask.
        values: of masks; of plain images 0 and 255.
        channels: of NIfTI images; more than one is a fourth axis.
    """
    for number, name in enumerate(files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_mask = any(word in name.lower().replace("unlabeled", "").replace("labeled", "") for word in _MASKS)
        rng = np.random.default_rng(number)
        if path.suffix == ".h5":
            shape = (20, 18) if "slice" in path.name else (4, 20, 18)
            with h5py.File(path, "w") as file:
                file["image"] = rng.random(shape, np.float32)
                file["label"] = _blocks(shape, values)
        elif path.name.endswith((".nii", ".nii.gz", ".mhd")):
            shape = (12, 10, 5)
            array = _blocks(shape, values) if is_mask else rng.random((*shape, channels), np.float32).squeeze()
            if path.suffix == ".mhd":
                sitk.WriteImage(sitk.GetImageFromArray(array.T), path)
            else:
                nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)
        elif is_mask:
            Image.fromarray(255 * _blocks((24, 20), (0, 1))).save(
                path, **({"quality": 95} if path.suffix == ".jpg" else {})
            )
        else:
            Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(path)
    return folder


def write_list(path: Path, names: Iterable[str]) -> None:
    """A list of names, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def _blocks(shape: tuple[int, ...], values: tuple[int, ...]) -> Array:
    """A block of each value."""
    mask = np.zeros(shape, np.uint8)
    width = shape[-2] // len(values)
    for index, value in enumerate(values):
        mask[..., index * width : (index + 1) * width, : shape[-1] // 2] = value
    return mask
