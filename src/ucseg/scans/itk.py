"""NRRD and MetaImage (MHA, MHD), by SimpleITK.

ITK holds a direction and a spacing, NRRD holds their product: each conversion loses the last bit. A mask must lie
exactly where its image lies. So NRRD's vectors are taken from the file's text, and MetaImage's two parts are kept.
"""

# SimpleITK is not annotated:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.deadly_headers import refuse_deadly
from ucseg.scans.itk_headers import header_lines, is_nrrd, is_placed, nrrd_vectors, units_of
from ucseg.scans.scan import LPS, Geometry, Scan
from ucseg.types import Array

_OF_PHOTOGRAPHS = (sitk.sitkVectorUInt8, sitk.sitkVectorUInt16)


@dataclass(frozen=True)
class ItkHeader:
    """A MetaImage's geometry as it stands in the file, in LPS."""

    spacing: tuple[float, ...]
    direction: tuple[float, ...]


def read(address: Address) -> Scan:
    """C x X x Y (C = 3 for colour) or C x X x Y x Z; C is the number of values in each voxel.

    Where the address ends in #channels, C is the length of the last axis.
    """
    path = address.file
    reader = _reader(path)
    dims, channels = _dims(address, reader), _channels(address, reader)
    refusals.check_size(address, address.said, reader.GetSize()[:dims], channels)
    if not is_nrrd(path):
        _check_compressed(path, reader)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise refusals.damaged(path, _reason(error)) from error
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind not in "biuf":
        raise refusals.values(path, image.GetPixelIDTypeAsString())
    array = array.transpose(range(array.ndim)[::-1])  # ITK's arrays are z, y, x (, channel)
    array = np.moveaxis(array, -1, 0) if address.part else array
    array = array.reshape(-1, *image.GetSize()[:dims])  # a fourth axis of length one goes
    array = _joined(path, array) if is_segmentation(path) else array[:channels]
    geometry = _geometry(path, reader, dims)
    in_mm = np.allclose(geometry.spacing, reader.GetSpacing()[:dims])
    header = ItkHeader(*_of_axes(reader, dims)) if in_mm and not is_nrrd(path) else None
    return Scan(array, geometry, address.path, header)


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    path = address.file
    reader = _reader(path)
    dims = _dims(address, reader)
    return tuple(int(n) for n in reader.GetSize()[:dims]), _geometry(path, reader, dims), _channels(address, reader)


@dataclass(frozen=True)
class _Segment:
    """What 3D Slicer's header says of a segment: its value in its layer, and the value that it has here."""

    name: str
    layer: int
    stored: int
    value: int


def is_segmentation(path: Path) -> bool:
    """Whether it is a segmentation of 3D Slicer, which lies where its header places it, on a part of its image."""
    return is_nrrd(path) and (path.name.lower().endswith(".seg.nrrd") or bool(_segments(path)))


def segment_names(path: Path) -> dict[int, str]:
    """Value -> name of the segments of a segmentation of 3D Slicer; empty for other files."""
    return {one.value: one.name for one in _segments(path) if one.name} if is_nrrd(path) else {}


def _segments(path: Path) -> list[_Segment]:
    """The segments of a header. Their own values count, where all layers together use each once; else their order."""
    fields: dict[int, dict[str, str]] = {}
    try:
        lines = list(header_lines(path))
    except OSError:
        return []
    for line in lines:
        if match := re.match(r"Segment(\d+)_(\w+):=(.*)", line):
            fields.setdefault(int(match[1]), {})[match[2]] = match[3].strip()
    layered = any(line.lower().startswith("kinds:") and "list" in line.lower() for line in lines)
    said: list[tuple[str, int, int]] = []
    for number, one in sorted(fields.items()):
        layer, value = one.get("Layer", str(number if layered else 0)), one.get("LabelValue", "1" if layered else "")
        if layer.isdigit() and value.isdigit():
            said.append((one.get("Name", ""), int(layer), int(value)))
    once = len({value for _, _, value in said}) == len(said)
    return [
        _Segment(name, layer, value, value if once else place) for place, (name, layer, value) in enumerate(said, 1)
    ]


def _joined(path: Path, layers: Array) -> Array:
    """The layers of a segmentation, L x S, as one, 1 x S; a UserError where segments overlap or have no name."""
    if len(layers) == 1:
        return layers
    segments = _segments(path)
    out = np.zeros(layers.shape[1:], np.uint8 if len(segments) < 256 else np.uint16)
    for number, layer in enumerate(layers):
        here = {one.stored: one.value for one in segments if one.layer == number}
        drawn = layer != 0
        if not np.isin(layer[drawn], list(here)).all():
            raise UserError(
                "segments-unnamed",
                f"{path}: layer {number} holds values for which its header names no segment; export one label map.",
            )
        if (out[drawn] != 0).any():
            raise refusals.segments_overlap(path)
        for stored, value in here.items():
            out[layer == stored] = value
    return out[None]


def write(array: Array, like: Scan, part: Path, *, compress: bool = True) -> None:
    """Write S with the spacing, origin and direction of `like`."""
    geometry = like.geometry
    dims, spacing = geometry.dims, np.array(geometry.spacing)
    to_lps = LPS[:dims] if geometry.unit == "mm" else np.ones(dims)
    vectors = to_lps[:, None] * geometry.affine[:dims, :dims]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetOrigin((to_lps * geometry.affine[:dims, dims]).tolist())
    if is_nrrd(part):  # only the product with the spacing is written: leave the spacing at one
        image.SetDirection(vectors.ravel().tolist())
    elif isinstance(like.header, ItkHeader) and len(like.header.spacing) == dims:
        image.SetSpacing(like.header.spacing)
        image.SetDirection(like.header.direction)
    else:
        image.SetSpacing(spacing.tolist())
        image.SetDirection((vectors / spacing).ravel().tolist())
    try:
        sitk.WriteImage(image, str(part), useCompression=compress)
    except RuntimeError as error:
        raise OSError(f"SimpleITK could not write it: {_reason(error)}") from error


def _reader(path: Path) -> sitk.ImageFileReader:
    refuse_deadly(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if is_nrrd(path) else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "domain axes" in str(error):
            fix = "add 'kinds:' to it, with 'list' for that axis and 'domain' for the others"
            raise UserError(
                "nrrd-kinds", f"{path}: its header does not say which axis holds the values of a voxel; {fix}."
            ) from error
        raise refusals.damaged(path, _reason(error)) from error
    return reader


def _dims(address: Address, reader: sitk.ImageFileReader) -> int:
    path, size, rank = address.file, reader.GetSize(), int(reader.GetDimension())
    if address.part:
        if rank not in (3, 4) or reader.GetNumberOfComponents() > 1 or is_segmentation(path):
            raise refusals.no_channel_axis(address, size)
        return rank - 1
    if rank not in (2, 3) and not (rank == 4 and size[3] == 1):
        raise refusals.perhaps_channels(path, address.name, size)
    return min(3, rank)


def _channels(address: Address, reader: sitk.ImageFileReader) -> int:
    path, components = address.file, int(reader.GetNumberOfComponents())
    if address.part:
        return int(reader.GetSize()[-1])
    if components == 1 or (is_segmentation(path) and _segments(path)):
        return 1
    if is_segmentation(path):
        raise UserError(
            "segments-unnamed", f"{path}: its header does not name the segments of its layers; export one label map."
        )
    photograph = reader.GetDimension() == 2 and reader.GetPixelID() in _OF_PHOTOGRAPHS
    return 3 if photograph and components == 4 else components  # without alpha


def _of_axes(reader: sitk.ImageFileReader, dims: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Spacing and direction of the first axes, as they stand in the file."""
    rank = int(reader.GetDimension())
    direction = np.array(reader.GetDirection()).reshape(rank, rank)[:dims, :dims]
    if dims < rank and not np.allclose(direction.T @ direction, np.eye(dims), atol=1e-3):
        direction = np.eye(dims)  # a plane that is tilted in space, by itself
    return tuple(reader.GetSpacing()[:dims]), tuple(direction.ravel().tolist())


def _geometry(path: Path, reader: sitk.ImageFileReader, dims: int) -> Geometry:
    spacing, direction = _of_axes(reader, dims)
    affine = np.eye(dims + 1)
    vectors = np.reshape(direction, (dims, dims)) * spacing
    if is_nrrd(path):
        written = nrrd_vectors(path)
        if written.shape == vectors.shape and np.allclose(np.abs(written), np.abs(vectors), rtol=1e-9, atol=1e-12):
            vectors = np.copysign(written, vectors)  # ITK has turned the axes of the file's own space into LPS
    affine[:dims, :dims] = LPS[:dims][:, None] * vectors
    affine[:dims, dims] = LPS[:dims] * np.array(reader.GetOrigin())[:dims]
    world, along = units_of(path, dims, rank_of_file=int(reader.GetDimension()))
    placed = is_placed(path)
    if (world == 1).all() and (along == 1).all():
        return Geometry(affine, placed=placed, columns_first=True)
    scaled = affine.copy()
    scaled[:dims, :dims] *= world[:, None] * along
    scaled[:dims, dims] *= world
    without = (("the header without its units", affine),)
    return Geometry(scaled, placed=placed, others=without, columns_first=True)


def _check_compressed(path: Path, reader: sitk.ImageFileReader) -> None:
    """Raise a UserError if a MetaImage's compressed data is broken: ITK would return whatever lay in memory.

    No more is unpacked than the header says: a small file could fill any memory.
    """
    number = int(sitk.Image([1, 1], reader.GetPixelIDValue()).GetSizeOfPixelComponent())  # bytes
    expected = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * number
    fields: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        for line in file:
            key, _, value = line.partition(b"=")
            fields[key.strip()] = value.strip()
            if key.strip() == b"ElementDataFile":
                break
        source = fields.get(b"ElementDataFile", b"")
        if fields.get(b"CompressedData", b"").lower() != b"true" or not source:
            return
        data = file.read() if source == b"LOCAL" else b""
    beside = path.parent / source.decode("utf-8", "replace")
    if source != b"LOCAL":
        if len(source) > 255 or not beside.is_file():  # a list of files, or one that is missing: ITK says so itself
            return
        data = beside.read_bytes()
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip
    try:
        unpacked = len(stream.decompress(data, expected + 1))
    except zlib.error as error:
        raise refusals.damaged(path, error) from error
    if unpacked > expected:
        raise refusals.damaged(path, "it holds more bytes than its header says")
    if not stream.eof:
        raise refusals.damaged(path, "its compressed data has no end")


def _reason(error: RuntimeError) -> str:
    """What went wrong: the last of SimpleITK's C++ lines, where that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    last = re.sub(r"^(Reason:|\[nrrd\] \w+:)\s*", "", lines[-1])
    return "" if last.rstrip(".") in ("", "Success") else last
