"""DICOM files sorted into series: what the header of each says.

One file may hold one slice or (multi-frame) many; either way a slice is a `Slice`. Patient data is read for one purpose
only, to keep subjects apart, and leaves this module as a digest.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.machine.reading import is_regular
from ucseg.scans import refusals
from ucseg.scans.dicom.kinds import Kind, kind_of, name_of
from ucseg.types import Array

ENDINGS = (".dcm", ".dicom", ".ima")
_VOLUMES = ("CT Image", "MR Image", "Positron Emission", "Enhanced CT", "Enhanced MR", "Enhanced PET")
_MODALITIES = {"CT Image": "ct", "MR Image": "mri", "Ultrasound": "ultrasound"}
_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "PatientID", "Rows", "Columns",
    "SamplesPerPixel", "NumberOfFrames", "ImageType", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ModalityLUTSequence",
    "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "PhotometricInterpretation", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One frame of a file.

    Attributes:
        file, frame: where its pixels are.
        position: of the first pixel's centre, LPS mm.
        rows, columns: unit vectors along a row (to the next column) and along a column, LPS.
        spacing: mm between columns, between rows.
        thickness: mm, as stated; 0 if it is not.
        slope, intercept: from stored to real values.
        instance: SOPInstanceUID.
    """

    file: Path
    frame: int
    position: tuple[float, ...]
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float
    slope: float
    intercept: float
    instance: str

    @property
    def normal(self) -> Array:
        """Unit vector from slice to slice, LPS."""
        return np.cross(self.rows, self.columns)


@dataclass(frozen=True)
class DicomFile:
    """What the header of one file says.

    Attributes:
        is_volume: part of a volume; otherwise an image by itself, as ultrasound, X-ray and photographs are.
        slices: empty where the file has no place in the patient.
        refers: the series that a segmentation was drawn on.
        negative: of a picture whose lowest value is white (MONOCHROME1): a stored value v means `negative` - v.
            None where black is lowest, and where values are real ones (CT, MR, PET), which no display changes.
        modality: ct, mri or ultrasound, by the class of the file; "" where it is another.
    """

    file: Path
    series: str
    number: str
    subject: str
    kind: Kind
    is_volume: bool
    localiser: bool
    shape: tuple[int, int]
    channels: int
    frames: int
    slices: tuple[Slice, ...]
    refers: str
    negative: int | None
    modality: str

    @property
    def is_segmentation(self) -> bool:
        """Whether it is a mask: a segmentation, or a structure set, which holds contours."""
        return self.kind in ("segmentation", "structures")


def quiet_pydicom() -> Any:
    """pydicom, without its hundreds of warnings about harmless oddities."""
    import pydicom
    import pydicom.config

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\..*")
    return pydicom


def dataset(path: Path, tags: Sequence[str] | None = None, pixels: bool = False) -> Any:
    """A file as pydicom has it: all of it or some tags, with or without its pixels; a UserError if it is damaged."""
    with refusals.damage_of(path):
        wanted = None if tags is None else list(tags)
        return quiet_pydicom().dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted, force=True)


def is_dicom(path: Path) -> bool:
    """By its ending, or by its content where the name has no known ending (scanners often give none)."""
    name = path.name.lower()
    if name.endswith(ENDINGS):
        return True
    if not is_regular(path):
        return False
    if name == "dicomdir" or (path.suffix and not path.suffix[1:].isdigit()):
        return False  # "IM.0001" and "1.2.840.113" have no ending to speak of
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_file(path: Path) -> DicomFile:
    """The header of one file; a UserError if it is no DICOM file, damaged, or no image."""
    stat = path.stat()
    return _read_file(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=20_000)
def _read_file(path: Path, size: int, changed: int) -> DicomFile:
    if size == 0:
        raise refusals.empty(path)
    with refusals.damage_of(path):
        return _understood(path, dataset(path, _TAGS))


def _understood(path: Path, header: Any) -> DicomFile:
    if "SOPClassUID" not in header:
        raise refusals.other_content(path, "DICOM, or damaged at its start", "copy it again")
    uid = str(header.SOPClassUID)
    kind, name = kind_of(uid), name_of(uid)
    if kind == "other":
        raise UserError("dicom-kind", f"{path}: this is no image but DICOM of the kind '{name}'; leave it out.")
    if kind != "structures" and not (header.get("Rows") and header.get("Columns")):
        raise UserError("dicom-size", f"{path}: the file states no rows and columns, so no pixels; export it again.")
    if header.get("ModalityLUTSequence") and name.startswith(_VOLUMES):
        raise UserError(
            "dicom-table", f"{path}: its values need a Modality LUT, which is not read; export it rescaled."
        )
    image_type = [str(word).upper() for word in header.get("ImageType") or ()]
    patient = str(header.get("PatientID") or "")
    slices = () if kind == "structures" else tuple(_slices(path, header))
    return DicomFile(
        file=path,
        series=str(header.get("SeriesInstanceUID") or ""),
        number=str(header.get("SeriesNumber") or ""),
        subject="patient-" + hashlib.blake2b(patient.encode(), digest_size=4).hexdigest() if patient else "",
        kind=kind,
        is_volume=bool(slices) or name.startswith(_VOLUMES),
        localiser="LOCALIZER" in image_type,
        shape=(int(header.get("Rows") or 0), int(header.get("Columns") or 0)),
        channels=int(header.get("SamplesPerPixel") or 1),
        frames=int(header.get("NumberOfFrames") or 1),
        slices=slices,
        refers=_referred(header),
        negative=None if name.startswith(_VOLUMES) else _negative(header),
        modality=next((ours for theirs, ours in _MODALITIES.items() if theirs in name), ""),
    )


def _negative(header: Any) -> int | None:
    """The least and the greatest value that can be stored, added; None where black is the least."""
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        return None
    return -1 if header.get("PixelRepresentation") else int(2 ** int(header.get("BitsStored") or 16)) - 1


def _referred(header: Any) -> str:
    """SeriesInstanceUID of the images on which a mask was drawn, the first that it names; "" where it names none."""
    found = list(header.get("ReferencedSeriesSequence") or [])
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            found += study.get("RTReferencedSeriesSequence") or []
    return next((uid for one in found if (uid := str(one.get("SeriesInstanceUID") or ""))), "")


def _slices(path: Path, header: Any) -> Iterable[Slice]:
    frames = int(header.get("NumberOfFrames") or 1)
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = header.get("PerFrameFunctionalGroupsSequence") or [None] * frames
    if len(each) != frames:
        raise UserError("dicom-frames", f"{path}: has {frames} frames but describes {len(each)}; export it again.")
    for number, group in enumerate(each):
        groups = [group, shared]
        where = _of(groups, "PlanePositionSequence", "ImagePositionPatient", header)
        turned = _of(groups, "PlaneOrientationSequence", "ImageOrientationPatient", header)
        edges = _of(groups, "PixelMeasuresSequence", "PixelSpacing", header)
        if where is None or turned is None or edges is None or (frames > 1 and group is None):
            return
        turned = np.array(turned, float)
        if len(where) != 3 or turned.shape != (6,) or len(edges) != 2 or min(edges) <= 0:
            raise UserError(
                "dicom-incomplete",
                f"{path}: its position, orientation or pixel spacing is incomplete; export it again.",
            )
        rows, columns = turned[:3], turned[3:]
        lengths = np.linalg.norm(rows), np.linalg.norm(columns)
        if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(rows @ columns) > 1e-2:
            raise UserError(
                "dicom-orientation",
                f"{path}: its orientation {turned.tolist()} is no pair of directions; export it again.",
            )
        thickness = _of(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", header)
        thickness = thickness or _of(groups, "PixelMeasuresSequence", "SliceThickness", header)
        slope = _of(groups, "PixelValueTransformationSequence", "RescaleSlope", header)
        yield Slice(
            path, number, tuple(map(float, where)), tuple(rows / lengths[0]), tuple(columns / lengths[1]),
            (float(edges[1]), float(edges[0])), abs(float(thickness or 0)), 1.0 if slope is None else float(slope),
            float(_of(groups, "PixelValueTransformationSequence", "RescaleIntercept", header) or 0),
            str(header.get("SOPInstanceUID") or ""),
        )  # fmt: skip


def _of(groups: Sequence[Any], sequence: str, name: str, header: Any) -> Any:
    """A value from the frame's own group, else from the shared one, else from the file's top level."""
    for group in groups:
        if group is not None and group.get(sequence) and group[sequence].value[0].get(name) is not None:
            return group[sequence].value[0].get(name)
    return header.get(name)


def series_of(files: Iterable[Path]) -> tuple[dict[str, list[DicomFile]], dict[Path, UserError]]:
    """DICOM files by SeriesInstanceUID, in the order given; and those that are no images, with the reason."""
    series: dict[str, list[DicomFile]] = defaultdict(list)
    refused: dict[Path, UserError] = {}
    for path in files:
        try:
            found = read_file(path)
        except UserError as error:
            refused[path] = error
            continue
        series[found.series].append(found)
    return dict(series), refused


def files_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    return [folder / name for name in names if is_dicom(folder / name)]
