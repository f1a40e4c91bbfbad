"""DICOM images, by pydicom: a series in a folder, one of several (`folder#SeriesInstanceUID`), or a file.

A series is a volume in mm, columns x rows x slices, in real values (rescale slope and intercept). A file without a
place in the patient (ultrasound, X-ray, photographs) is a plain image, C x rows x columns in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.dicom.series import (
    SEGMENTATION,
    DicomFile,
    Slice,
    files_in,
    quiet_pydicom,
    read_file,
    series_of,
)
from ucseg.scans.dicom.volume import in_order
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array


@dataclass(frozen=True)
class DicomHeader:
    """The slices of a volume in the order of its last axis; or the file of an image without a place in the patient."""

    slices: tuple[Slice, ...] = ()
    plain: Path | None = None


def read(address: Address) -> Scan:
    """1 x columns x rows x slices, or C x rows x columns of a plain image."""
    files = _files(address)
    if not files[0].is_volume:
        return Scan(
            _plain(address.path, files[0]), Geometry(np.eye(3), "px"), address.path, DicomHeader(plain=files[0].file)
        )
    slices, geometry = in_order(address.path, files)
    pixels = [
        _real_values(array, one)
        for file, group in groupby(slices, key=lambda one: one.file)
        for array, one in _frames(file, list(group), files[0])
    ]
    kind = np.result_type(*{array.dtype for array in pixels})
    volume = np.empty((files[0].shape[1], files[0].shape[0], len(pixels)), kind)
    for index, array in enumerate(pixels):
        volume[..., index] = array.T
    return Scan(volume[None], geometry, address.path, DicomHeader(tuple(slices)))


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    """Shape, geometry and channels."""
    files = _files(address)
    rows, columns = files[0].shape
    if not files[0].is_volume:
        palette = _dataset(files[0].file).get("PhotometricInterpretation") == "PALETTE COLOR"
        return (rows, columns), Geometry(np.eye(3), "px"), 3 if palette or files[0].channels == 3 else 1
    slices, geometry = in_order(address.path, files)
    return (columns, rows, len(slices)), geometry, 1


def files_of(address: Address) -> list[Path]:
    """The files whose content the scan is."""
    return [file.file for file in _files(address)]


def series_uid(address: Address) -> str:
    """SeriesInstanceUID of an image; "" where it cannot be read."""
    try:
        return _files(address)[0].series
    except (UserError, OSError):
        return ""


def is_plain(address: Address) -> bool:
    """Whether the scan is an image without a place in the patient; False also where it cannot be read."""
    try:
        return not _files(address)[0].is_volume
    except (UserError, OSError):
        return False


def stored_pixels(file: Path) -> Array:
    """Pixels as stored, frames x rows x columns or rows x columns.

    Raises:
        UserError: they cannot be decoded.
    """
    return _pixels(file, raw=True)


def _files(address: Address) -> list[DicomFile]:
    """The image files of an address, all of one series.

    Raises:
        UserError: there is none, there are several series and none is named, or they are no image that can be used.
    """
    place, uid = address.file, address.part
    if place.is_file():
        files = [read_file(place)]
    else:
        series, refused = series_of(files_in(place))
        series = {key: found for key, found in series.items() if found[0].sop_class != SEGMENTATION}
        if uid and uid not in series:
            raise UserError("todo", f"{address}: the folder holds no series {uid}; run 'ucseg init' again.")
        if not series:
            reason = f" (e.g. {next(iter(refused)).name}: {next(iter(refused.values()))})" if refused else ""
            raise UserError("todo", f"{address}: there is no DICOM image in this folder{reason}; name another folder.")
        if len(series) > 1 and not uid:
            listed = ", ".join(f"#{key} ({len(found)} files)" for key, found in list(series.items())[:4])
            raise UserError(
                "todo",
                f"{address}: the folder holds {len(series)} series; add the one that is meant: {listed}.",
            )
        files = series[uid] if uid else next(iter(series.values()))
        if refused and not uid:
            broken = next(iter(refused))
            if "damaged" in refused[broken]:  # it may be a slice of this very series
                raise UserError("todo", f"{address}: one of its files cannot be read, {broken.name}: {refused[broken]}")
    _usable(address.path, files)
    return files


def _usable(path: Path, files: list[DicomFile]) -> None:
    first = files[0]
    if first.sop_class == SEGMENTATION:
        raise UserError("todo", f"{path}: this is a DICOM segmentation, not an image; use it as a mask.")
    if first.is_volume and any(file.channels != 1 for file in files):
        raise UserError(
            "todo",
            f"{path}: a volume in colour is not supported; export the grey images it was made from.",
        )
    if not first.is_volume and first.frames > 1:
        raise UserError(
            "todo",
            f"{path}: {first.frames} frames without a place in the patient are a film, not a scan; "
            "save the frames that are meant as files of their own.",
        )
    if not first.is_volume and len(files) > 1:
        raise UserError(
            "todo",
            f"{path}: the {len(files)} images of this series are no volume; name them file by file.",
        )
    if first.is_volume and not first.slices:
        raise UserError(
            "todo",
            f"{path}: the file says nowhere where it lies in the patient (position, orientation, pixel spacing); "
            "export it again with its geometry.",
        )


def _frames(file: Path, slices: list[Slice], first: DicomFile) -> list[tuple[Array, Slice]]:
    """Stored pixels, rows x columns, of slices that lie in one file."""
    array = _pixels(file, raw=True)
    if array.ndim == 2:
        array = array[None]
    if array.shape[1:] != first.shape or max(one.frame for one in slices) >= len(array):
        raise UserError(
            "todo",
            f"{file}: holds {array.shape} pixels, not those that its header tells of; export it again.",
        )
    return [(array[one.frame], one) for one in slices]


def _real_values(array: Array, one: Slice) -> Array:
    if one.slope == 1 and float(one.intercept).is_integer():
        low, high = (int(value) + int(one.intercept) for value in (array.min(), array.max()))
        kind = np.int16 if low >= -32768 and high <= 32767 else np.int32
        if array.dtype.itemsize <= 4 and np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max:
            return (array.astype(np.int64) + int(one.intercept)).astype(kind)
    return array.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)


def _plain(path: Path, file: DicomFile) -> Array:
    """C x rows x columns: grey with black as the lowest value, or RGB."""
    header = _dataset(file.file)
    kind = str(header.get("PhotometricInterpretation") or "")
    array = _pixels(file.file, raw=False)
    if kind == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        array = apply_color_lut(array, header)
        array = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return np.ascontiguousarray(np.moveaxis(array[..., :3], -1, 0))
    if array.ndim != 2:
        raise UserError("todo", f"{path}: holds {array.shape} pixels, which is no image; export it again.")
    if kind == "MONOCHROME1":  # stored white to black
        array = (int(array.max()) + int(array.min()) - array.astype(np.int64)).astype(array.dtype)
    return np.ascontiguousarray(array)[None]


def _pixels(file: Path, raw: bool) -> Array:
    """Rows x columns (x samples), frames before them; colours as RGB unless `raw`."""
    from pydicom.pixels.utils import pixel_array

    header = _dataset(file)
    try:
        array = np.asarray(pixel_array(file, raw=raw) if "file_meta" in header else header.pixel_array)
    except MemoryError:
        raise
    except Exception as error:  # a broken file can break pydicom and its decoders anywhere
        raise UserError("todo", _undecoded(file, header, error)) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _undecoded(file: Path, header: Any, error: Exception) -> str:
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    text = str(error)
    if syntax is not None and syntax.is_compressed and ("missing dependencies" in text or "plugin" in text.lower()):
        return (
            f"{file}: its pixels are compressed ({syntax.name}) and nothing here can decompress them; "
            "install the extra dicom-codecs: pip install 'ucseg[dicom-codecs]'."
        )
    if "PixelData" not in header and "FloatPixelData" not in header and "DoubleFloatPixelData" not in header:
        return f"{file}: the file has no pixels; export it again."
    reason = (text.splitlines() or [type(error).__name__])[0][:160].rstrip(".")
    return f"{file}: its pixels cannot be read, damaged or cut short ({reason}); copy or export it again."


def _dataset(file: Path) -> Any:
    try:
        return quiet_pydicom().dcmread(file, force=True)
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120].rstrip(".")
        raise UserError("todo", f"{file}: the file is damaged or cut short ({reason}); copy it again.") from error
