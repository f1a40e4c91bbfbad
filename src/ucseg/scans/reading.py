"""The door to every scan format: an address in, C x S and its geometry out. A format is a module, DICOM a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ucseg.errors import UserError
from ucseg.machine.reading import is_regular
from ucseg.scans import channels, lattice, palette, plain_images, refusals
from ucseg.scans.address import ENDINGS, Address
from ucseg.scans.dicom import image as dicom
from ucseg.scans.dicom import segmentation as dicom_seg
from ucseg.scans.dicom import structures
from ucseg.scans.dicom.series import files_in
from ucseg.scans.scan import Geometry, Scan


def read_scan(place: Address | Path) -> Scan:
    """Read an image or a mask.

    Returns:
        C x S in its native dtype and the byte order of this machine; NaN and Inf are kept. Volumes: S follows the
        columns of the affine (x, y, z), which is RAS in mm (the LPS of ITK and DICOM is converted). Plain images:
        C x H x W with C = 1 (grey) or 3 (RGB; alpha dropped, palettes resolved, 16 bit kept), identity affine in px.
        Images and masks are turned as their orientation tags say (not those of FILE#stored), as viewers show them.
        Arrays without a stated spacing: their own axes, in px.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown format, 4D, or has no usable geometry.
    """
    address = Address.of(place)
    if address.several:
        return channels.read([read_scan(one) for one in address.singles], address)
    return _usable(address, _module(address).read(address))


def read_mask(
    place: Address | Path,
    grid: tuple[tuple[int, ...], Geometry] | None = None,
    wanted: Sequence[str] | None = None,
) -> Scan:
    """As `read_scan`, but stored numbers count: indices of a palette; of an HDF5 file the mask comes first.

    A mask that `is_laid`, or that holds a part of its image, is laid on `grid`, S and geometry of its image. The two
    axes of a picture come in the order of its image's. Several
    files (`x_mask{,_1}.png`) are parts of one mask: the greatest value counts. Of FILE#channels, each channel is a
    class, and of {a,b}.nii.gz#classes each file, where it is above the middle of 0 and its greatest value. Of
    `is_drawn` masks only the `wanted` names are read, and the later ones lie on top.

    Raises:
        UserError: as `read_scan`; or the mask does not lie on `grid`, or needs one.
    """
    address = Address.of(place)
    if address.part == "classes":
        return channels.read_classes((read_mask(one, grid) for one in address.singles), address)
    if address.several:
        return channels.read_union((read_mask(one, grid, wanted) for one in address.singles), address)
    module = _module(address)
    if is_drawn(address):
        if grid is None:
            raise UserError(
                "mask-needs-image",
                f"{address}: it holds contours, which are read on the grid of their image; name the image too.",
            )
        if address.format == "drawings":
            drawn: Scan = module.drawn(address, grid, wanted)
            return drawn
        return structures.read(address.file, grid, wanted)
    if is_segmentation(address):
        return dicom_seg.read(address.path, grid)
    scan = _usable(address, module.read_mask(address) if hasattr(module, "read_mask") else module.read(address))
    if address.part == "channels":
        scan = channels.one_a_class(scan)
    if address.said.palette:
        scan = palette.as_classes(scan, address.said.palette, address.ending in (".jpg", ".jpeg"))
    return scan if grid is None else lattice.laid(lattice.in_order(scan, grid), grid, is_laid(address))


def nested_classes(mask: Address) -> set[tuple[str, str]]:
    """(inner, outer) of the classes of a mask of one file or one channel a class, where one lies inside the other."""
    if mask.part == "classes":
        names = mask.class_names
        found = channels.nested(channels.read([read_mask(one) for one in mask.singles], mask))
        return {(names[inner - 1], names[outer - 1]) for inner, outer in found}
    if mask.part == "channels":
        return {(f"channel {inner}", f"channel {outer}") for inner, outer in channels.nested(read_scan(mask))}
    return set()


def read_header(place: Address | Path) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape S, geometry and number of channels, without reading the voxels (except of plain images with a palette).

    Raises:
        UserError: as `read_scan`, as far as the header shows it.
    """
    address = Address.of(place)
    if address.several:
        return channels.read_header([read_header(one) for one in address.singles], address)
    shape, geometry, count = _module(address).read_header(address)
    geometry = _with_spacing(address, geometry)
    _refuse_unusable(address, shape, geometry)
    refusals.check_size(address, address.said, shape, count)
    return shape, geometry, count


def is_dicom_scan(address: Address) -> bool:
    """Whether it is one DICOM scan, a volume or an image; True also where it cannot be read (reading says why)."""
    return not address.several and address.format == "dicom"


def modality_of(address: Address) -> str:
    """ct, mri or ultrasound, where a DICOM header says it; else ""."""
    return dicom.modality_of(address) if is_dicom_scan(address) else ""


def slices_beside(address: Address) -> int:
    """How many slices of its series lie in the folder of a DICOM file of one slice, itself included; else 1."""
    return dicom.slices_beside(address)


def is_dicom_volume(address: Address) -> bool:
    """Whether it is a DICOM volume; True also for DICOM that cannot be read (reading says why)."""
    return is_dicom_scan(address) and not dicom.is_plain(address)


def is_segmentation(address: Address) -> bool:
    """Whether a mask is laid on its image's grid when it is read: a DICOM segmentation, or one that `is_drawn`."""
    return is_drawn(address) or (is_dicom_scan(address) and dicom_seg.is_segmentation(address.file))


def is_drawn(address: Address) -> bool:
    """Whether a mask holds lines, which only its image's grid turns into voxels: of annotation programs, RTSTRUCT."""
    if not address.several and address.format == "drawings":
        return True
    return is_dicom_scan(address) and structures.is_structures(address.file)


def is_laid(address: Address) -> bool:
    """Whether a mask has no grid, only places: DICOM segmentations, and those of 3D Slicer."""
    if not address.several and address.format == "itk":
        return bool(format_module("itk").is_segmentation(address.file))
    return is_segmentation(address)


def grid_of(masks: Sequence[Address]) -> lattice.Grid:
    """The smallest grid that holds several masks of one image.

    Raises:
        UserError: a file cannot be read, or does not say where it lies.
    """
    drawn = [mask for mask in masks if is_drawn(mask)]
    if drawn:
        raise UserError(
            "mask-needs-image", f"{drawn[0]}: contours have no grid; compare them by a dataset with images."
        )
    if all(map(is_segmentation, masks)):
        return dicom_seg.common_grid([mask.file for mask in masks])
    grids = [dicom_seg.common_grid([mask.file]) if is_segmentation(mask) else read_header(mask)[:2] for mask in masks]
    return lattice.union(grids)


def segment_names(address: Address) -> dict[int, str]:
    """Value -> name of the segments that a mask file names itself; empty where it does not.

    Files of 3D Slicer (.seg.nrrd) and DICOM segmentations do, and NIfTI with a table of labels in its header.
    """
    if address.class_names:
        return dict(enumerate(address.class_names, start=1))
    if not address.several and not address.part and address.format in ("itk", "nifti"):
        found: dict[int, str] = format_module(address.format).segment_names(address.file)
        return found
    if is_drawn(address):
        drawn = address.format == "drawings"
        return format_module("drawings").names(address) if drawn else structures.names(address.file)
    return dicom_seg.segment_names(address.file) if is_segmentation(address) else {}


def holds_fractions(address: Address) -> bool:
    """Whether a mask file states parts of voxels, which are read as segments from half of a voxel on."""
    return is_segmentation(address) and dicom_seg.holds_fractions(address.file)


def oddities(address: Address, mask: bool = False) -> frozenset[str]:
    """How a picture shows something else than it stores (see plain_images); empty for other formats."""
    return frozenset().union(*(plain_images.oddities(one, mask) for one in address.singles if one.plain))


def files_of(address: Address) -> list[Path]:
    """Every file whose content decides what is read; a UserError for a DICOM folder of no series, or an unclear one."""
    found: list[Path] = []
    for channel in address.singles:
        file = channel.file
        ending = file.suffix.lower()
        if file.is_dir():
            inside = format_module("ome") if channel.format == "ome" else dicom
            found += inside.files_of(file if channel.format == "ome" else channel)
            continue
        if ending in (".h5", ".hdf5") and is_regular(file):
            found += _files_of_hdf5(file)
            continue
        found.append(file)
        if not is_regular(file):
            continue
        try:
            if ending in (".mhd", ".nhdr"):
                text = file.read_text("latin-1")
                named = re.search(r"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", text, re.I | re.M)
                data = file.parent / named[1] if named else file
                found += [data] if data != file and data.is_file() else []
            elif ending in (".tif", ".tiff"):
                spacing = plain_images.spacing_file(file)
                found += [spacing] if spacing else []
            elif ending in (".hdr", ".img"):
                pair = [file.with_suffix(other) for other in (".hdr", ".img", ".HDR", ".IMG")]
                found += [other for other in pair if other.is_file() and not other.samefile(file)]
        except OSError:
            continue  # reading the scan will say what is wrong
    return found


def _files_of_hdf5(file: Path) -> list[Path]:
    try:
        found: list[Path] = format_module("arrays").files_of(file)
    except UserError:  # reading the scan will say what is wrong
        found = [file]
    return found


def format_module(name: str) -> ModuleType:
    """The module of a format; imported with its first file: SimpleITK and nibabel are large."""
    return dicom if name == "dicom" else import_module(f"ucseg.scans.{name}")


def _module(address: Address) -> ModuleType:
    """The module of a file's format; raises a UserError where there is no such file or format."""
    file = address.file
    if file.name.startswith("._"):
        raise UserError("scan-companion", f"{address}: this is a macOS companion file ('._'), not a scan; delete it.")
    if file.is_dir() and address.format != "ome" and not files_in(file):
        raise UserError("scan-folder", f"{address}: this folder holds no DICOM files; name a file in it.")
    if not _there(file):
        raise UserError("scan-missing", f"{address}: there is no such file; check the path.")
    if not file.is_dir() and not is_regular(file):
        raise UserError("scan-no-file", f"{address}: this is a pipe or a device, which is not opened; name a file.")
    if file.is_file() and file.stat().st_size == 0:
        raise refusals.empty(address)
    if not address.format:
        raise UserError(
            "scan-format",
            f"{address}: '{file.suffix}' is not supported; use one of these endings: {', '.join(ENDINGS)}.",
        )
    return format_module(address.format)


def _there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a name that no file system takes
        return False


def _usable(address: Address, scan: Scan) -> Scan:
    geometry = _with_spacing(address, scan.geometry)
    _refuse_unusable(address, scan.array.shape[1:], geometry)
    return scan if geometry is scan.geometry else replace(scan, geometry=geometry)


def _with_spacing(address: Address, geometry: Geometry) -> Geometry:
    """The spacing that the user says, where the file states none."""
    spacing = address.said.spacing
    if geometry.unit != "px" or len(spacing) != geometry.dims:
        return geometry
    return Geometry(np.diag([*spacing, 1.0]), placed=False)


def _refuse_unusable(address: Address, shape: tuple[int, ...], geometry: Geometry) -> None:
    if 0 in shape:
        raise UserError("scan-no-voxels", f"{address}: the image has no voxels (shape {shape}); export it again.")
    refusals.check_geometry(address, geometry)
