"""The door to every scan format: an address in, C x S and its geometry out.

NIfTI and MGH live in nifti.py, NRRD and MetaImage in itk.py, PNG, JPEG and TIFF in plain_images.py, HDF5 and NumPy in
arrays.py, DICOM in the folder dicom, several files as channels in channels.py.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ucseg.errors import UserError
from ucseg.scans import channels
from ucseg.scans.address import ENDINGS, Address
from ucseg.scans.dicom import image as dicom
from ucseg.scans.dicom import segmentation as dicom_seg
from ucseg.scans.dicom.series import files_in
from ucseg.scans.scan import Geometry, Scan


def read_scan(place: Address | Path) -> Scan:
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
    address = Address.of(place)
    if address.several:
        return channels.read([read_scan(one) for one in address.singles], address.path)
    scan: Scan = _module(address).read(address)
    _refuse_unusable(address, scan.array.shape[1:], scan.geometry)
    return scan


def read_mask(place: Address | Path, grid: tuple[tuple[int, ...], Geometry] | None = None) -> Scan:
    """As `read_scan`, but a coloured palette yields its indices, and of an HDF5 file the mask comes first.

    A DICOM segmentation is laid on `grid`, S and geometry of its image. Of several files (`x_mask{,_1}.png`), each part
    of one mask, the greatest value counts.
    """
    address = Address.of(place)
    if address.several:
        return channels.read_union([read_mask(one, grid) for one in address.singles], address.path)
    module = _module(address)
    if is_segmentation(address):
        return dicom_seg.read(address.path, grid)
    scan: Scan = module.read_mask(address) if hasattr(module, "read_mask") else module.read(address)
    _refuse_unusable(address, scan.array.shape[1:], scan.geometry)
    return scan


def read_header(place: Address | Path) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape S, geometry and number of channels, without reading the voxels (except of plain images with a palette).

    Raises:
        UserError: as `read_scan`, so far as the header tells.
    """
    address = Address.of(place)
    if address.several:
        return channels.read_header([read_header(one) for one in address.singles], address)
    shape, geometry, count = _module(address).read_header(address)
    _refuse_unusable(address, shape, geometry)
    return shape, geometry, count


def is_dicom_scan(address: Address) -> bool:
    """Whether it is one DICOM scan, a volume or an image; True also where it cannot be read (reading says why)."""
    return not address.several and address.format == "dicom"


def is_dicom_volume(address: Address) -> bool:
    """Whether it is a DICOM volume; True also for DICOM that cannot be read (reading says why)."""
    return is_dicom_scan(address) and not dicom.is_plain(address)


def is_segmentation(address: Address) -> bool:
    """Whether it is a DICOM segmentation, which is laid on its image's grid when it is read: it has no own grid."""
    return is_dicom_scan(address) and dicom_seg.is_segmentation(address.file)


def segment_names(address: Address) -> dict[int, str]:
    """Value -> name of the segments that a mask file names itself (.seg.nrrd, DICOM SEG); empty for other files."""
    if address.ending == ".seg.nrrd":
        found: dict[int, str] = format_module(address).segment_names(address.file)
        return found
    return dicom_seg.segment_names(address.file) if is_segmentation(address) else {}


def files_of(address: Address) -> list[Path]:
    """Every file whose content decides what is read.

    Raises:
        UserError: a DICOM folder holds no series, or several where none is named.
    """
    found: list[Path] = []
    for channel in address.singles:
        file = channel.file
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
            continue  # reading the scan will say what is wrong
    return found


def format_module(address: Address) -> ModuleType:
    """The module that reads and writes a format; imported with its first file: SimpleITK and nibabel are large.

    Raises:
        UserError: the format is not known.
    """
    if not address.format:
        raise UserError(
            "scan-format",
            f"{address}: the format '{address.file.suffix}' is not supported; "
            f"use one of these endings: {', '.join(ENDINGS)}.",
        )
    return dicom if address.format == "dicom" else import_module(f"ucseg.scans.{address.format}")


def _module(address: Address) -> ModuleType:
    """As `format_module`, of a file that is there."""
    file = address.file
    if file.name.startswith("._"):
        raise UserError("scan-companion", f"{address}: this is a macOS companion file ('._'), not a scan; delete it.")
    if file.is_dir() and not files_in(file):
        raise UserError("scan-folder", f"{address}: this folder holds no DICOM files; name a file in it.")
    if not file.exists():
        raise UserError("scan-missing", f"{address}: there is no such file.")
    if file.is_file() and file.stat().st_size == 0:
        raise UserError("scan-empty", f"{address}: the file is empty (0 bytes); copy it again from its source.")
    return format_module(address)


def _refuse_unusable(address: Address, shape: tuple[int, ...], geometry: Geometry) -> None:
    if 0 in shape:
        raise UserError("scan-no-voxels", f"{address}: the image has no voxels (shape {shape}); export it again.")
    matrix = geometry.affine[:-1, :-1]
    lengths = np.prod(np.linalg.norm(matrix, axis=0))
    if not np.isfinite(geometry.affine).all() or abs(np.linalg.det(matrix)) <= 1e-6 * lengths:
        raise UserError(
            "scan-geometry",
            f"{address}: the header gives no usable voxel size and direction (affine {geometry.affine.tolist()}); "
            "export the scan again.",
        )
