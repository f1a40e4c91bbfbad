"""NIfTI-1, NIfTI-2 (one file or a .hdr/.img pair) and MGH, by nibabel: any affine, any byte order, scaled integers."""

# nibabel is only partly annotated:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError

from ucseg.errors import UserError
from ucseg.machine.writing import whole_file
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array

_BROKEN = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, MGHError)
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


def read(address: Address) -> Scan:
    """C x X x Y x Z. A file of rank 2 is one slice; a fourth axis of length one is dropped.

    C is 1, or the length of the fourth axis where the address ends in #channels.
    """
    image = _load(address.file)
    shape, channels = _shape(address, image)
    try:
        if address.file.name.lower().endswith((".gz", ".mgz")):
            # Unpacking the whole stream checks its checksum; reading up to the last voxel does not.
            image = type(image).from_bytes(gzip.decompress(address.file.read_bytes()))
        array = np.asanyarray(image.dataobj)
    except _BROKEN as error:
        raise UserError("todo", _damaged(address.path, error)) from error
    if array.dtype.kind not in "biuf":
        raise UserError(
            "todo",
            f"{address}: voxels of type {image.get_data_dtype()} are not supported; export one real channel.",
        )
    array = np.moveaxis(array, 3, 0) if address.part else array[None]
    return Scan(
        np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(channels, *shape),
        _geometry(image),
        address.path,
        _one_file(image.header),
    )


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape, geometry and channels."""
    image = _load(address.file)
    shape, channels = _shape(address, image)
    return shape, _geometry(image), channels


def write(array: Array, like: Scan, path: Path) -> None:
    """Write X x Y x Z with the header of `like` if that is of the same format, else with its affine alone."""
    if path.suffix.lower() in (".mgz", ".mgh"):
        _write_mgh(array, like, path)
        return
    if path.suffix.lower() in (".hdr", ".img"):
        raise UserError("todo", f"{path}: masks are not written as a pair of files; choose .nii or .nii.gz.")
    shape = (*array.shape, 1) if array.ndim == 2 else array.shape
    header, affine = like.header, None
    if isinstance(header, nib.Nifti1Header):
        header = header.copy()
        shape = shape[: header["dim"][0]] if header["dim"][0] < 3 else shape
    else:
        header, affine = nib.Nifti1Header(), np.eye(4)
        dims = like.geometry.dims
        affine[:dims, :dims], affine[:dims, 3] = like.geometry.affine[:dims, :dims], like.geometry.affine[:dims, dims]
        header.set_xyzt_units("mm")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(shape)
    header.set_intent("none")
    header.extensions.clear()  # they tell of the image, and may name the patient
    header["cal_min"] = header["cal_max"] = 0  # the display window of the image
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # Without an affine nibabel leaves sform, qform and their codes as they stand in the header.
    image = kind(array.reshape(shape), affine, header)
    if affine is not None:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
    ending = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    with whole_file(path, ending) as temporary:
        nib.save(image, temporary)


def _write_mgh(array: Array, like: Scan, path: Path) -> None:
    affine = None
    if isinstance(like.header, nib.freesurfer.mghformat.MGHHeader):
        header = like.header.copy()  # its own numbers: an affine would go through float32 once more
    else:
        header, affine = nib.freesurfer.mghformat.MGHHeader(), np.eye(4)
        dims = like.geometry.dims
        affine[:dims, :dims], affine[:dims, 3] = like.geometry.affine[:dims, :dims], like.geometry.affine[:dims, dims]
    if array.dtype not in (np.uint8, np.int16, np.int32, np.float32):
        array = array.astype(np.int32)
    header.set_data_dtype(array.dtype)
    header.set_data_shape((*array.shape, 1)[:3])
    ending = path.suffix.lower()
    image = nib.freesurfer.mghformat.MGHImage(array.reshape((*array.shape, 1)[:3]), affine, header)
    if affine is None:
        for name in ("goodRASFlag", "delta", "Mdc", "Pxyz_c"):
            image.header[name] = like.header[name]
    with whole_file(path, ending) as temporary:
        nib.save(image, temporary)


def _one_file(header: Any) -> Any:
    """The header of a .hdr/.img pair as that of one file: masks are written so."""
    if header.__class__ in (nib.nifti1.Nifti1PairHeader, nib.nifti2.Nifti2PairHeader):
        kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
        header = kind(header.binaryblock, header.endianness, check=False)
        header["magic"] = kind.single_magic
        header["vox_offset"] = kind.single_vox_offset
    return header


def _load(path: Path) -> Any:
    if path.suffix.lower() in (".hdr", ".img"):
        pair = [path.with_suffix(ending) for ending in (".hdr", ".img", ".HDR", ".IMG")]
        if sum(file.is_file() for file in {p.resolve() for p in pair}) < 2:
            raise UserError(
                "todo",
                f"{path}: .hdr and .img belong together and one is missing; put both into one folder.",
            )
    try:
        image = nib.load(path, mmap=False)  # mapped voxels would crash if the file changed under them
    except ImageFileError as error:
        raise UserError(
            "todo",
            f"{path}: the content is not NIfTI ({_reason(error, path)}); check that its ending is right "
            "(.nii.gz if compressed, .nii if not), or export it again.",
        ) from error
    except _BROKEN as error:
        raise UserError("todo", _damaged(path, error)) from error
    mgh = isinstance(image, nib.freesurfer.mghformat.MGHImage)
    if not mgh and not isinstance(image, nib.nifti1.Nifti1Pair):  # all of NIfTI, 1 and 2, are subclasses
        if isinstance(image, nib.analyze.AnalyzeImage):
            raise UserError(
                "todo",
                f"{path}: this is Analyze 7.5, which does not say how the patient lies; "
                "convert it to NIfTI with a program that knows the scanner's convention.",
            )
        raise UserError("todo", f"{path}: the content is not NIfTI but {type(image).__name__}; convert it to NIfTI.")
    return image


def _shape(address: Address, image: Any) -> tuple[tuple[int, ...], int]:
    """Spatial shape and channels."""
    part = address.part
    shape = tuple(int(n) for n in image.shape)
    if part and len(shape) != 4:
        raise UserError(
            "todo",
            f"{address}: the file is {len(shape)}D (shape {shape}), so it has no channels; leave out #{part}.",
        )
    if any(n != 1 for n in shape[3:]) and not part:
        raise UserError(
            "todo",
            f"{address}: the file is {len(shape)}D (shape {shape}), a scan has three axes; "
            f"save each time point as a file, or write {address.name}#channels if these are channels.",
        )
    return (*shape, 1, 1)[:3], shape[3] if part else 1


def _geometry(image: Any) -> Geometry:
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(image.header, nib.Nifti1Header):
        unit = image.header.get_xyzt_units()[0]
        affine[:3] *= _MILLIMETRES.get(unit, 1.0)  # no stated unit: mm, as every viewer takes it
    return Geometry(affine)


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: the file is damaged or cut short ({_reason(error, path)}); copy or export it again."


def _reason(error: BaseException, path: Path) -> str:
    lines = str(error).replace(str(path), path.name).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
