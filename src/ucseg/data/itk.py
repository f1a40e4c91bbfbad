"""NRRD and MetaImage (MHA, MHD), by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by

from ucseg.data.atomic import whole_file
from ucseg.errors import UserError
from ucseg.types import Array, Geometry, Scan


def read(path: Path) -> Scan:
    """1 x X x Y x Z, or C x X x Y for 2D files (C = 3 for colour)."""
    reader = _reader(path)
    channels, dims = _channels(path, reader), _dims(path, reader)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError(_damaged(path, error)) from error
    if image.GetDimension() == 4:
        image = image[..., 0]
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: voxels of type {image.GetPixelIDTypeAsString()} are not supported; export one real channel."
        )
    array = array.transpose(range(array.ndim)[::-1])  # ITK's arrays are z, y, x (, channel)
    array = array.reshape(-1, *image.GetSize()[:dims])[:channels] if array.ndim > dims else array[None]
    return Scan(array, _geometry(reader, dims), path, header=None)


def read_header(path: Path) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape, geometry and channels."""
    reader = _reader(path)
    dims = _dims(path, reader)
    return tuple(int(n) for n in reader.GetSize()[:dims]), _geometry(reader, dims), _channels(path, reader)


def write(array: Array, like: Scan, path: Path) -> None:
    """Write S with the spacing, origin and direction of `like`, compressed."""
    ending = path.suffix.lower()
    if ending not in (".nrrd", ".mha"):
        raise UserError(f"{path}: '{ending}' cannot be written; choose .nrrd or .mha, which are one file.")
    geometry = like.geometry
    dims, spacing = geometry.dims, np.array(geometry.spacing)
    to_lps = _lps(dims) if geometry.unit == "mm" else np.ones(dims)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((to_lps * geometry.affine[:dims, dims]).tolist())
    image.SetDirection((to_lps[:, None] * geometry.affine[:dims, :dims] / spacing).ravel().tolist())
    with whole_file(path, ending) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(_reason(error)) from error


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(_damaged(path, error)) from error
    return reader


def _dims(path: Path, reader: sitk.ImageFileReader) -> int:
    size = reader.GetSize()
    if reader.GetDimension() not in (2, 3) and not (reader.GetDimension() == 4 and size[3] == 1):
        raise UserError(
            f"{path}: the file is {reader.GetDimension()}D (size {tuple(size)}), a scan has two or three axes; "
            "save each time point or channel as a file of its own."
        )
    return min(3, int(reader.GetDimension()))


def _channels(path: Path, reader: sitk.ImageFileReader) -> int:
    components = int(reader.GetNumberOfComponents())
    if components == 1:
        return 1
    if path.name.lower().endswith(".seg.nrrd"):
        raise UserError(
            f"{path}: the segments overlap (stored in {components} layers), so a voxel has several labels; "
            "export them as one label map without overlap."
        )
    if reader.GetDimension() == 2 and components in (3, 4):
        return 3
    raise UserError(
        f"{path}: the file holds {components} values a voxel, a scan has one; "
        "save each time point or channel as a file of its own."
    )


def _geometry(reader: sitk.ImageFileReader, dims: int) -> Geometry:
    rank = int(reader.GetDimension())
    direction = np.array(reader.GetDirection()).reshape(rank, rank)[:dims, :dims]
    affine = np.eye(dims + 1)
    affine[:dims, :dims] = _lps(dims)[:, None] * direction * np.array(reader.GetSpacing())[:dims]
    affine[:dims, dims] = _lps(dims) * np.array(reader.GetOrigin())[:dims]
    return Geometry(affine)


def _lps(dims: int) -> Array:
    """Signs that turn RAS coordinates into ITK's LPS and back."""
    return np.array([-1.0, -1.0, 1.0])[:dims]


def _reason(error: RuntimeError) -> str:
    # SimpleITK's messages are a stack of C++ lines; the last one says what went wrong.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "unknown reason"


def _damaged(path: Path, error: RuntimeError) -> str:
    return (
        f"{path}: not a readable file of its format, damaged or cut short ({_reason(error)}); copy or export it again."
    )
