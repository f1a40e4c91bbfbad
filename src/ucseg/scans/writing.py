"""A mask or map on disk, where the voxels of its scan lie: in the scan's own format where that can hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ucseg.errors import UserError
from ucseg.machine.writing import whole_file
from ucseg.scans import plain_images
from ucseg.scans.address import FORMATS, PICTURES, Address, ending_of
from ucseg.scans.dicom import image as dicom
from ucseg.scans.dicom.series import ENDINGS as DICOM_ENDINGS
from ucseg.scans.palette import OF_CLASSES
from ucseg.scans.reading import format_module
from ucseg.scans.scan import Scan
from ucseg.types import Array

_INSTEAD = {
    ".mhd": ".mha", ".nhdr": ".nrrd", ".hdr": ".nii", ".img": ".nii",
    ".mnc": ".nii.gz", ".ome.tiff": ".ome.tif", ".ome.zarr": ".ome.tif", ".zarr": ".ome.tif",
    **dict.fromkeys(("", *DICOM_ENDINGS), ".nii.gz"),
    **dict.fromkeys(set(PICTURES) - {".png", ".tif", ".tiff"}, ".png"),
}  # fmt: skip
"""Endings that masks are not written with -> what they get instead: JPEG would change their values."""

_MASK_DTYPES = ("uint8", "uint16", "int16", "int32", "uint32")


def mask_ending(scan: Address) -> str:
    """The ending of a mask that belongs to a scan: the same format, and PNG for plain images.

    A file that only describes another (.mhd, .nhdr, .hdr) becomes the one-file form of its format. DICOM volumes
    become NIfTI, plain DICOM images PNG. A stack of TIFF pages stays TIFF.
    """
    if scan.plain:
        return ".tif" if plain_images.is_stack(scan.file) else ".png"
    if scan.format == "dicom" and dicom.is_plain(scan.singles[0]):
        return ".png"
    return ".nrrd" if scan.ending == ".seg.nrrd" else _INSTEAD.get(scan.ending, scan.ending)


def map_ending(scan: Address) -> str:
    """The ending of a float map that belongs to a scan: as for masks, and 32-bit TIFF for plain images."""
    ending = mask_ending(scan)
    return ".tif" if ending == ".png" else ending


def write_like(array: Array, like: Scan, path: Path, colours: Sequence[tuple[int, int, int]] | None = None) -> None:
    """Write an S-shaped mask or map where the voxels of `like` lie, whole or not at all.

    Args:
        array: S; boolean or integer (mask) or floating (map, written as float32).
        like: the scan whose size, spacing, origin and direction the file gets. If it was read from the same format,
            NIfTI keeps sform, qform, their codes, the units and the version (1 or 2).
        path: its ending chooses the format; see `mask_ending` and `map_ending`.
        colours: palette of a PNG of class indices, from class 1 on; other formats have none.

    Raises:
        UserError: the format cannot hold the array, or the place cannot be written.
        ValueError: the array's shape is not that of `like`.
    """
    if array.shape != like.array.shape[1:]:
        raise ValueError(f"array has shape {array.shape}, the scan {like.source} has {like.array.shape[1:]}")
    ending = ending_of(path.name)
    if ending in _INSTEAD:
        raise UserError("mask-format", f"{path}: masks are not written as '{path.suffix}'; choose {_INSTEAD[ending]}.")
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32, copy=False)
    elif array.dtype.name not in _MASK_DTYPES:
        array = _narrowed(array)
    if ending == ".png" and (array.ndim == 3 or array.dtype == np.float32):
        raise UserError("png-limits", f"{path}: PNG holds neither a stack of slices nor fractions; choose .tif.")
    if FORMATS[ending] == "plain_images" and array.dtype not in (np.uint8, np.uint16, np.float32):
        if array.size and (array.min() < 0 or array.max() > 65535):
            raise UserError("mask-range", f"{path}: PNG and TIFF hold mask values from 0 to 65535; choose .nii.gz.")
        array = array.astype(np.uint16)
    with whole_file(path, ending) as part:
        if colours and ending == ".png" and array.dtype == np.uint8:
            _write_coloured(array, colours, part)
            return
        format_module(FORMATS[ending]).write(array, like, part)


def _write_coloured(mask: Array, colours: Sequence[tuple[int, int, int]], part: Path) -> None:
    """Write H x W class indices (uint8) as PNG with a palette: viewers show colours, and the stored values stay.

    Args:
        colours: of class 1, 2, ...; more classes start again. The background is black.
    """
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette([0, 0, 0, *(part for index in range(255) for part in colours[index % len(colours)])])
    said = PngInfo()
    said.add_text("Comment", OF_CLASSES)
    picture.save(part, format="PNG", pnginfo=said)


def _narrowed(array: Array) -> Array:
    if array.dtype == bool:
        return array.astype(np.uint8)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for name in _MASK_DTYPES:
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return array.astype(name)
    raise ValueError(f"mask values {low}..{high} fit no integer type of 32 bits")
