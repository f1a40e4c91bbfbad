"""The door to every scan format: a file in, C x S and its geometry out; and back in the same format and geometry.

NIfTI lives in nifti.py, NRRD and MetaImage in itk.py, PNG, JPEG and TIFF in plain_images.py.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from ucseg.data import itk, nifti, plain_images
from ucseg.errors import UserError
from ucseg.types import Array, Geometry, Scan

_FAMILIES: dict[str, ModuleType] = {
    ".nii.gz": nifti,
    ".nii": nifti,
    ".seg.nrrd": itk,
    ".nrrd": itk,
    ".nhdr": itk,
    ".mha": itk,
    ".mhd": itk,
    ".png": plain_images,
    ".jpg": plain_images,
    ".jpeg": plain_images,
    ".tif": plain_images,
    ".tiff": plain_images,
}

SUFFIXES = tuple(_FAMILIES)
"""Endings of readable files, in lower case; a double ending stands before the single one it ends with."""

PLAIN_SUFFIXES = tuple(ending for ending, family in _FAMILIES.items() if family is plain_images)
"""Endings of images without a geometry of their own."""

_HINTS = {
    ".dcm": "convert the DICOM series to NIfTI first, e.g. with dcm2niix",
    ".ima": "convert the DICOM series to NIfTI first, e.g. with dcm2niix",
    ".mgz": "convert it to NIfTI first, e.g. with mri_convert",
    ".mgh": "convert it to NIfTI first, e.g. with mri_convert",
    ".img": "convert the Analyze pair to NIfTI first",
    ".hdr": "convert the Analyze pair to NIfTI first",
}

_MASK_DTYPES = ("uint8", "uint16", "int16", "int32", "uint32")


def suffix(path: Path) -> str:
    """The ending of a readable file, in lower case (".nii.gz", not ".gz"); "" if it is not one of SUFFIXES."""
    name = path.name.lower()
    return next((ending for ending in SUFFIXES if name.endswith(ending)), "")


def stem(path: Path) -> str:
    """The name without its ending, double or single: "a.nii.gz" -> "a", "a.seg.nrrd" -> "a"."""
    ending = suffix(path)
    return path.name[: -len(ending)] if ending else path.stem


def mask_suffix(path: Path) -> str:
    """The ending of a mask that belongs to the scan `path`: the same format, and PNG for plain images.

    A detached header (.mhd, .nhdr) becomes the one-file form of its format.
    """
    ending = suffix(path)
    if _family(path) is plain_images:
        return ".png"
    return {".mhd": ".mha", ".nhdr": ".nrrd", ".seg.nrrd": ".nrrd"}.get(ending, ending)


def map_suffix(path: Path) -> str:
    """The ending of a float map that belongs to the scan `path`: as for masks, and 32-bit TIFF for plain images."""
    return ".tif" if _family(path) is plain_images else mask_suffix(path)


def read_scan(path: Path) -> Scan:
    """Read an image or a mask.

    Returns:
        C x S in its native dtype and the byte order of this machine. Volumes: S follows the columns of the affine
        (x, y, z), the affine is RAS in mm (ITK's LPS is converted), NaN and Inf are kept. Plain images: C x H x W with
        C = 1 (grey) or 3 (RGB; alpha dropped, palettes resolved, 16 bit kept), identity affine in px; EXIF orientation
        is not applied, neither to images nor to masks, so that the two cannot part.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown format, 4D, or has no usable geometry.
    """
    path = _existing(path)
    scan: Scan = _family(path).read(path)
    _refuse_unusable(path, scan.array.shape[1:], scan.geometry)
    return scan


def read_mask(path: Path) -> Scan:
    """As `read_scan`, but a plain image with a coloured palette yields its indices: they are the classes."""
    path = _existing(path)
    return plain_images.read_mask(path) if suffix(path) in PLAIN_SUFFIXES else read_scan(path)


def read_header(path: Path) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape S, geometry and number of channels, without reading the voxels (except of plain images with a palette).

    Raises:
        UserError: as `read_scan`, so far as the header tells.
    """
    path = _existing(path)
    shape, geometry, channels = _family(path).read_header(path)
    _refuse_unusable(path, shape, geometry)
    return shape, geometry, channels


def write_like(array: Array, like: Scan, path: Path) -> None:
    """Write an S-shaped mask or map where the voxels of `like` lie, atomically.

    Args:
        array: S; boolean or integer (mask) or floating (map, written as float32).
        like: the scan whose size, spacing, origin and direction the file gets. If it was read from the same format,
            NIfTI keeps sform, qform, their codes, the units and the version (1 or 2).
        path: its ending chooses the format; see `mask_suffix` and `map_suffix`.

    Raises:
        UserError: the ending is none that masks can be written to, or the place cannot be written.
        ValueError: the array's shape is not that of `like`.
    """
    if array.shape != like.array.shape[1:]:
        raise ValueError(f"array has shape {array.shape}, the scan {like.source} has {like.array.shape[1:]}")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32)
    elif array.dtype.name not in _MASK_DTYPES:
        array = _narrowed(array)
    _family(path).write(array, like, path)


def _narrowed(array: Array) -> Array:
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for name in _MASK_DTYPES:
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return array.astype(name)
    raise ValueError(f"mask values {low}..{high} fit no integer type of 32 bits")


def _existing(path: Path) -> Path:
    path = Path(path)
    if path.name.startswith("._"):
        raise UserError(f"{path}: this is a macOS companion file ('._'), not a scan; delete it.")
    if path.is_dir():
        raise UserError(f"{path}: this is a folder; name a file in it.")
    if not path.exists():
        raise UserError(f"{path}: there is no such file.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy it again from its source.")
    return path


def _family(path: Path) -> ModuleType:
    family = _FAMILIES.get(suffix(path))
    if family is None:
        mend = _HINTS.get(path.suffix.lower(), f"readable endings are {', '.join(SUFFIXES)}")
        raise UserError(f"{path}: the format '{path.suffix}' is not supported; {mend}.")
    return family


def _refuse_unusable(path: Path, shape: tuple[int, ...], geometry: Geometry) -> None:
    if 0 in shape:
        raise UserError(f"{path}: the image has no voxels (shape {shape}); export it again.")
    matrix = geometry.affine[:-1, :-1]
    lengths = np.prod(np.linalg.norm(matrix, axis=0))
    if not np.isfinite(geometry.affine).all() or abs(np.linalg.det(matrix)) <= 1e-6 * lengths:
        raise UserError(
            f"{path}: the header gives the voxels no usable size and direction (affine {geometry.affine.tolist()}); "
            "mend the header, e.g. by exporting the scan again."
        )
