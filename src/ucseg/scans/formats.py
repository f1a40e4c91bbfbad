"""The door to every scan format: a path in, C x S and its geometry out; and back in the same format and geometry.

A path is a file, a folder with one DICOM series, or one of the longer forms of addresses.py. NIfTI and MGH live in
nifti.py, NRRD and MetaImage in itk.py, PNG, JPEG and TIFF in plain_images.py, HDF5 and NumPy in arrays.py, DICOM in
dicom.py and dicom_seg.py, several files as channels in channels.py.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ucseg.errors import UserError
from ucseg.scans import arrays, channels, plain_images
from ucseg.scans.address import channel_paths, first_file, split_part
from ucseg.scans.dicom import image as dicom
from ucseg.scans.dicom import segmentation as dicom_seg
from ucseg.scans.dicom.series import ENDINGS as DICOM_SUFFIXES
from ucseg.scans.dicom.series import files_in, is_dicom
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array

_FAMILIES: dict[str, str] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".hdr": "nifti",
    ".img": "nifti",
    ".mgz": "nifti",
    ".mgh": "nifti",
    ".seg.nrrd": "itk",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
    ".png": "plain_images",
    ".jpg": "plain_images",
    ".jpeg": "plain_images",
    ".tif": "plain_images",
    ".tiff": "plain_images",
    ".h5": "arrays",
    ".hdf5": "arrays",
    ".npy": "arrays",
    ".npz": "arrays",
    **dict.fromkeys(DICOM_SUFFIXES, "dicom.image"),
}
"""The module here that reads an ending; imported with the first such file: SimpleITK and nibabel are large."""

SUFFIXES = tuple(_FAMILIES)
"""Endings of readable files, in lower case; a double ending stands before the single one it ends with."""

PLAIN_SUFFIXES = tuple(ending for ending, family in _FAMILIES.items() if family == "plain_images")
"""Endings of images without a geometry of their own."""

_WRITTEN = {
    ".mhd": ".mha", ".nhdr": ".nrrd", ".seg.nrrd": ".nrrd", ".hdr": ".nii", ".img": ".nii",
    **dict.fromkeys(("", *DICOM_SUFFIXES), ".nii.gz"),
}  # fmt: skip
"""What a mask is written as where that differs from its scan's format."""

_MASK_DTYPES = ("uint8", "uint16", "int16", "int32", "uint32")


def suffix(path: Path) -> str:
    """The ending of a readable file, in lower case (".nii.gz", not ".gz"); "" if it is not one of SUFFIXES."""
    name = first_file(path).name.lower()
    return next((ending for ending in SUFFIXES if name.endswith(ending)), "")


def stem(path: Path) -> str:
    """The name without its ending, double or single: "a.nii.gz" -> "a", "a.seg.nrrd" -> "a".

    Of an HDF5 file without the array, of several channels without their numbers, of a DICOM folder its name.
    """
    if len(channel_paths(path)) > 1:
        bare = re.sub(r"\{[^{}]*\}", "", path.name)
        return stem(Path(bare)).strip("_.-") or path.name
    file, part = split_part(path)
    ending = suffix(path)
    if part and file.is_dir():
        return f"{file.name}_{part}"
    return file.name[: -len(ending)] if ending else file.name  # "IM.0001" and folders have no ending


def mask_suffix(path: Path) -> str:
    """The ending of a mask that belongs to the scan `path`: the same format, and PNG for plain images.

    A file that only describes another (.mhd, .nhdr, .hdr) becomes the one-file form of its format, DICOM NIfTI (or
    PNG where it is a plain image), a stack of TIFF pages stays TIFF.
    """
    if _family(path) is plain_images:
        return ".tif" if plain_images.is_stack(first_file(path)) else ".png"
    if _family(path) is dicom and dicom.is_plain(channel_paths(path)[0]):
        return ".png"
    return _WRITTEN.get(suffix(path), suffix(path))


def map_suffix(path: Path) -> str:
    """The ending of a float map that belongs to the scan `path`: as for masks, and 32-bit TIFF for plain images."""
    ending = mask_suffix(path)
    return ".tif" if ending == ".png" else ending


def read_scan(path: Path) -> Scan:
    """Read an image or a mask.

    Returns:
        C x S in its native dtype and the byte order of this machine. Volumes: S follows the columns of the affine
        (x, y, z), the affine is RAS in mm (the LPS of ITK and DICOM is converted), NaN and Inf are kept. Plain images:
        C x H x W with C = 1 (grey) or 3 (RGB; alpha dropped, palettes resolved, 16 bit kept), identity affine in px;
        EXIF orientation is not applied, neither to images nor to masks, so that the two cannot part. Arrays without a
        stated spacing: their own axes, in px.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown format, 4D, or has no usable geometry.
    """
    several = channel_paths(Path(path))
    if len(several) > 1:
        return channels.read(several, path, read_scan)
    path = _existing(path)
    scan: Scan = _family(path).read(path)
    _refuse_unusable(path, scan.array.shape[1:], scan.geometry)
    return scan


def read_mask(path: Path, grid: tuple[tuple[int, ...], Geometry] | None = None) -> Scan:
    """As `read_scan`, but a coloured palette yields its indices, and of an HDF5 file the mask comes first.

    A DICOM segmentation is laid on `grid`, S and geometry of its image. Of several files (`x_mask{,_1}.png`), each part
    of one mask, the greatest value counts.
    """
    several = channel_paths(Path(path))
    if len(several) > 1:
        return channels.read_union([read_mask(one, grid) for one in several], path)
    path = _existing(path)
    family = _family(path)
    if family is dicom and dicom_seg.is_segmentation(path):
        return dicom_seg.read(path, grid)
    return family.read_mask(path) if family in (plain_images, arrays) else read_scan(path)


def read_header(path: Path) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape S, geometry and number of channels, without reading the voxels (except of plain images with a palette).

    Raises:
        UserError: as `read_scan`, so far as the header tells.
    """
    several = channel_paths(Path(path))
    if len(several) > 1:
        return channels.read_header(several, read_header)
    path = _existing(path)
    shape, geometry, count = _family(path).read_header(path)
    _refuse_unusable(path, shape, geometry)
    return shape, geometry, count


def is_dicom_scan(path: Path) -> bool:
    """Whether a path is one DICOM scan, a volume or an image; True also where it cannot be read (reading says why)."""
    try:
        return len(channel_paths(path)) == 1 and _family(path) is dicom
    except UserError:
        return False


def is_dicom_volume(path: Path) -> bool:
    """Whether a path is a DICOM volume; True also for DICOM that cannot be read (reading it will say why)."""
    return is_dicom_scan(path) and not dicom.is_plain(path)


def lies_on_its_image(path: Path) -> bool:
    """Whether a mask is laid on its image's grid when it is read, so that its own header has no grid to compare."""
    return _family(path) is dicom and dicom_seg.is_segmentation(path)


def segment_names(path: Path) -> dict[int, str]:
    """Value -> name of the segments that a mask file names itself (.seg.nrrd, DICOM SEG); empty for other files."""
    if suffix(path) == ".seg.nrrd":
        found: dict[int, str] = _family(path).segment_names(path)
        return found
    return dicom_seg.segment_names(path) if lies_on_its_image(path) else {}


def files_of(path: Path) -> list[Path]:
    """Every file whose content decides what `path` is read as.

    Raises:
        UserError: a DICOM folder holds no series, or several where none is named.
    """
    found: list[Path] = []
    for channel in channel_paths(path):
        file = split_part(channel)[0]
        ending = file.suffix.lower()
        if file.is_dir():
            found += dicom.files_of(channel)
            continue
        found.append(file)
        try:
            if ending in (".mhd", ".nhdr"):
                text = file.read_text("latin-1")
                named = re.search(r"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", text, re.I | re.M)
                data = file.parent / named[1] if named else file
                found += [data] if data != file and data.is_file() else []
            elif ending in (".hdr", ".img"):
                pair = [file.with_suffix(other) for other in (".hdr", ".img", ".HDR", ".IMG")]
                found += [other for other in pair if other.is_file() and not other.samefile(file)]
        except OSError:
            continue  # whoever reads it will say what is wrong
    return found


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
    if suffix(path) in DICOM_SUFFIXES:
        raise UserError("todo", f"{path}: masks are not written as '{path.suffix}' here; choose .nii.gz.")
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
        raise UserError("todo", f"{path}: this is a macOS companion file ('._'), not a scan; delete it.")
    file = split_part(path)[0]
    if file.is_dir() and not files_in(file):
        raise UserError("todo", f"{path}: this is a folder without DICOM files; name a file in it.")
    if not file.exists():
        raise UserError("todo", f"{path}: there is no such file.")
    if file.is_file() and file.stat().st_size == 0:
        raise UserError("todo", f"{path}: the file is empty (0 bytes); copy it again from its source.")
    return path


def _family(path: Path) -> ModuleType:
    family = _FAMILIES.get(suffix(path))
    file = first_file(path)
    if family is None and (file.is_dir() or is_dicom(file)):
        return dicom
    if family is None:
        raise UserError(
            "todo",
            f"{path}: the format '{file.suffix}' is not supported; readable endings are {', '.join(SUFFIXES)}.",
        )
    return import_module(f"ucseg.scans.{family}")


def _refuse_unusable(path: Path, shape: tuple[int, ...], geometry: Geometry) -> None:
    if 0 in shape:
        raise UserError("todo", f"{path}: the image has no voxels (shape {shape}); export it again.")
    matrix = geometry.affine[:-1, :-1]
    lengths = np.prod(np.linalg.norm(matrix, axis=0))
    if not np.isfinite(geometry.affine).all() or abs(np.linalg.det(matrix)) <= 1e-6 * lengths:
        raise UserError(
            "todo",
            f"{path}: the header gives the voxels no usable size and direction (affine {geometry.affine.tolist()}); "
            "mend the header, e.g. by exporting the scan again.",
        )
