"""DICOM images, by pydicom: a series in a folder, one of several (`folder#SeriesInstanceUID`), or a file.

A series is a volume in mm, columns x rows x slices, in real values (rescale slope and intercept). A file without a
place in the patient (ultrasound, X-ray, photographs) is a plain image, C x rows x columns in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.dicom.series import DicomFile, Slice, dataset, files_in, read_file, series_of
from ucseg.scans.dicom.volume import in_order
from ucseg.scans.refusals import check_size, damage_of, damaged
from ucseg.scans.scan import Geometry, Scan, native
from ucseg.types import Array

_KIND = "PhotometricInterpretation"


@dataclass(frozen=True)
class DicomHeader:
    """The slices of a volume in the order of its last axis; or the file of an image without a place in the patient."""

    slices: tuple[Slice, ...] = ()
    plain: Path | None = None


def read(address: Address) -> Scan:
    """1 x columns x rows x slices, or C x rows x columns of a plain image."""
    files = _files(address)
    file = files[0]
    if not file.is_volume:
        return Scan(_plain(address.path, file), Geometry(np.eye(3), "px"), address.path, DicomHeader(plain=file.file))
    slices, geometry = in_order(address.path, files)
    check_size(address, address.said, (*file.shape, len(slices)))
    pixels = [
        _real_values(array, one)
        for path, group in groupby(slices, key=lambda one: one.file)
        for array, one in _frames(path, list(group), file)
    ]
    kind = np.result_type(*{array.dtype for array in pixels})
    volume = np.empty((*file.shape[::-1], len(pixels)), kind)
    for index, array in enumerate(pixels):
        volume[..., index] = array.T
    return Scan(volume[None], geometry, address.path, DicomHeader(tuple(slices)))


def read_header(address: Address) -> tuple[tuple[int, ...], Geometry, int]:
    files = _files(address)
    rows, columns = files[0].shape
    if not files[0].is_volume:
        palette = dataset(files[0].file, [_KIND]).get(_KIND) == "PALETTE COLOR"
        return (rows, columns), Geometry(np.eye(3), "px"), 3 if palette or files[0].channels == 3 else 1
    slices, geometry = in_order(address.path, files)
    return (columns, rows, len(slices)), geometry, 1


def files_of(address: Address) -> list[Path]:
    """The files whose content the scan is."""
    return [file.file for file in _files(address)]


def series_uid(address: Address) -> str:
    """SeriesInstanceUID of an image; "" where it cannot be read."""
    first = _first(address)
    return first.series if first else ""


def slices_beside(address: Address) -> int:
    """How many files of its series lie in the folder of a DICOM file of one slice, itself included; else 1."""
    first = _first(address)
    if first is None or len(first.slices) != 1:
        return 1
    return len(series_of(files_in(address.file.parent))[0].get(first.series, [first]))


def is_plain(address: Address) -> bool:
    """Whether the scan is an image without a place in the patient; False also where it cannot be read."""
    first = _first(address)
    return first is not None and not first.is_volume


def modality_of(address: Address) -> str:
    """ct, mri or ultrasound, as the file says; "" where it says another, or cannot be read."""
    first = _first(address)
    return first.modality if first is not None else ""


def stored_frames(file: Path) -> Array:
    """Pixels as stored, frames x rows x columns; a UserError if they cannot be decoded."""
    array = _pixels(file, dataset(file, pixels=True), raw=True)
    return array[None] if array.ndim == 2 else array


def _first(address: Address) -> DicomFile | None:
    try:
        return _files(address)[0]
    except (UserError, OSError):
        return None


def _files(address: Address) -> list[DicomFile]:
    """The image files of an address, all of one series.

    Raises:
        UserError: there is no image, or none that can be used; or there are several series and none is named.
    """
    place, uid = address.file, address.part
    if place.is_file():
        files = [read_file(place)]
    else:
        series, refused = series_of(files_in(place))
        series = {key: found for key, found in series.items() if not found[0].is_segmentation}
        if uid and uid not in series:
            raise UserError("series-missing", f"{address}: the folder holds no series {uid}; run 'ucseg init' again.")
        if not series:
            example = f" ({_why_refused(refused)})" if refused else ""
            raise UserError(
                "series-none", f"{address}: there is no DICOM image in this folder{example}; name another folder."
            )
        if len(series) > 1 and not uid:
            listed = ", ".join(f"#{key} ({len(found)} files)" for key, found in list(series.items())[:4])
            raise UserError(
                "series-several", f"{address}: the folder holds {len(series)} series; add the one you mean: {listed}."
            )
        files = series[uid] if uid else next(iter(series.values()))
        broken = {file: error for file, error in refused.items() if error.code in ("scan-damaged", "scan-content")}
        if broken and not uid:  # it may be a slice of this very series
            raise UserError(
                "series-damaged", f"{address}: a file cannot be read, {_why_refused(broken)}; copy or export it again."
            )
    _usable(address.path, files)
    return files


def _why_refused(refused: Mapping[Path, UserError]) -> str:
    """The first file and what is wrong with it, without what to do."""
    file, error = next(iter(refused.items()))
    return f"{file.name}: {str(error).removeprefix(f'{file}: ').partition('; ')[0]}"


def _usable(path: Path, files: list[DicomFile]) -> None:
    first = files[0]
    if first.is_segmentation:
        what = "an RT Structure Set" if first.kind == "structures" else "a DICOM segmentation"
        raise UserError("dicom-seg-as-image", f"{path}: this is {what}, not an image; use it as a mask.")
    if first.is_volume and any(file.channels != 1 for file in files):
        raise UserError(
            "volume-colour", f"{path}: volumes in colour are not supported; export the grey images it was made from."
        )
    if not first.is_volume and first.frames > 1:
        raise UserError(
            "dicom-film",
            f"{path}: {first.frames} frames without a place in the patient are a film; save each frame as a file.",
        )
    if not first.is_volume and len(files) > 1:
        raise UserError(
            "series-no-volume", f"{path}: the {len(files)} images of this series are no volume; name them file by file."
        )
    if first.is_volume and not first.slices:
        raise UserError(
            "dicom-no-place",
            f"{path}: does not say where it lies (position, orientation, pixel spacing); export it with its geometry.",
        )


def _frames(file: Path, slices: list[Slice], first: DicomFile) -> list[tuple[Array, Slice]]:
    """Stored pixels, rows x columns, of slices that lie in one file."""
    array = stored_frames(file)
    if array.shape[1:] != first.shape or max(one.frame for one in slices) >= len(array):
        raise UserError(
            "dicom-pixels", f"{file}: holds {array.shape} pixels, which its header does not state; export it again."
        )
    return [(_positive(array[one.frame], first), one) for one in slices]


def _real_values(array: Array, one: Slice) -> Array:
    if one.slope == 1 and float(one.intercept).is_integer():
        low, high = (int(value) + int(one.intercept) for value in (array.min(), array.max()))
        kind = np.int16 if low >= -32768 and high <= 32767 else np.int32
        if array.dtype.itemsize <= 4 and np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max:
            return (array.astype(np.int64) + int(one.intercept)).astype(kind)
    return array.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)


def _plain(path: Path, file: DicomFile) -> Array:
    """C x rows x columns: grey with black as the lowest value, or RGB."""
    header = dataset(file.file, pixels=True)
    kind = str(header.get(_KIND) or "")
    array = _pixels(file.file, header, raw=False)
    if kind == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        array = apply_color_lut(array, header)
        array = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return np.ascontiguousarray(np.moveaxis(array[..., :3], -1, 0))
    if array.ndim != 2:
        raise UserError("dicom-shape", f"{path}: holds {array.shape} pixels, which is no image; export it again.")
    return np.ascontiguousarray(_positive(array, file))[None]


def _positive(array: Array, file: DicomFile) -> Array:
    """Stored values with black as the lowest, alike for all slices of a series and all images of a device."""
    if file.negative is None or array.dtype.kind == "f":
        return array
    turned = file.negative - array.astype(np.int64)
    return turned.astype(array.dtype if turned.min() >= np.iinfo(array.dtype).min else np.int32)


def _pixels(file: Path, header: Any, raw: bool) -> Array:
    """Rows x columns (x samples), frames before them; colours as RGB unless `raw`."""
    from pydicom.pixels.utils import pixel_array

    with damage_of(file, lambda path, error: _undecoded(path, header, error)):
        return native(np.asarray(pixel_array(file, raw=raw) if "file_meta" in header else header.pixel_array))


def _undecoded(file: Path, header: Any, error: Exception) -> UserError:
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    text = str(error)
    if syntax is not None and syntax.is_compressed and ("missing dependencies" in text or "plugin" in text.lower()):
        return UserError(
            "dicom-codec", f"{file}: nothing here decompresses {syntax.name}; run pip install 'ucseg[dicom-codecs]'."
        )
    if "PixelData" not in header and "FloatPixelData" not in header and "DoubleFloatPixelData" not in header:
        return UserError("dicom-no-pixels", f"{file}: the file has no pixels; export it again.")
    return damaged(file, error)
