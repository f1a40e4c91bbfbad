"""Results as DICOM objects, by highdicom: a mask as a segmentation (SEG), a map as a Parametric Map.

Both refer to the images of the source series, frame by frame, and lie in its frame of reference. An image without a
place in the patient (ultrasound, photographs) gets a segmentation without one, on the image's pixels. highdicom makes
no Parametric Map without a place.

Results carry what the standard demands of the patient (its types 1 and 2), so that an archive files them with the
images, and nothing else. So highdicom only gets a reduced copy of the source's header.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucseg import __version__
from ucseg.errors import UserError
from ucseg.machine.writing import whole_file
from ucseg.scans.dicom.codes import UNKNOWN, Code, SegmentCodes
from ucseg.scans.dicom.image import DicomHeader
from ucseg.scans.dicom.series import dataset, quiet_pydicom
from ucseg.scans.refusals import damage_of, first_line
from ucseg.scans.scan import Scan
from ucseg.types import Array

PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
_REST = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Laterality",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    # How a source was anonymised is no patient data, and archives ask for it.
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
_LATERALITY = {
    "left": Code(value="7771000", scheme="SCT", meaning="Left"),
    "right": Code(value="24028007", scheme="SCT", meaning="Right"),
    "both": Code(value="51440002", scheme="SCT", meaning="Right and left"),
}
_AI = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")
_NO_UNITS = Code(value="1", scheme="UCUM", meaning="no units")


@dataclass(frozen=True)
class Algorithm:
    """Who made the results: a method of segmentation, and a short name for exactly these weights."""

    method: str
    weights: str


@dataclass(frozen=True)
class Source:
    """The headers of a scan's images as highdicom wants them, and how a volume's slices become their frames.

    Attributes:
        images: one a slice, or one of several frames.
        order: index of the slice that each frame shows; None: an image without a place in the patient.
    """

    images: list[Any]
    order: list[int] | None

    def frames(self, volume: Array) -> Array:
        """Columns x rows x slices or rows x columns, as scans are read, to frames x rows x columns."""
        if self.order is None:
            return np.ascontiguousarray(volume[None])
        return np.ascontiguousarray(volume[..., self.order].transpose(2, 1, 0))


def source_of(scan: Scan) -> Source:
    """The reduced headers of a scan that was read from DICOM.

    Raises:
        UserError: the scan is not from DICOM, or its headers do not hold what a result has to refer to.
    """
    if not isinstance(scan.header, DicomHeader):
        raise UserError(
            "result-not-dicom",
            f"{scan.source}: only DICOM gets results in DICOM; leave out this scan, --dicom-seg and --rtstruct.",
        )
    slices, plain = scan.header.slices, scan.header.plain
    files = [plain] if plain else list(dict.fromkeys(one.file for one in slices))
    if len(files) > 1 and len(files) < len(slices):
        raise UserError(
            "result-many-files",
            f"{scan.source}: a result refers to one file of many frames, not to {len(files)}; "
            "name the files one by one, or leave out --dicom-seg and --rtstruct.",
        )
    with quietly(scan.source):
        images = [_reduced(file) for file in files]
        for image in images:
            if plain:
                image.pop("FrameOfReferenceUID", None)  # without a position it places nothing
            else:
                _alike(image, images[0], float(scan.geometry.spacing[2]))
    place = () if plain else ("FrameOfReferenceUID",)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", *place):
        values = {str(image.get(name) or "") for image in images}
        if "" in values or (len(values) > 1 and name != "SOPInstanceUID"):
            what = "some of its files have no" if "" in values else "its files differ in their"
            raise UserError(
                "result-reference",
                f"{scan.source}: {what} {name}; export the series again, or leave out --dicom-seg and --rtstruct.",
            )
    if plain:
        return Source(images, None)
    order = sorted(range(len(slices)), key=lambda index: slices[index].frame) if len(files) == 1 else range(len(slices))
    return Source(images, list(order))


def _alike(image: Any, first: Any, gap: float) -> None:
    """Orientation and pixel size where highdicom looks for them, once for all slices.

    Reading has checked that they are alike up to rounding; highdicom wants them alike to the last digit.
    """
    if "PerFrameFunctionalGroupsSequence" not in image:
        image.ImageOrientationPatient, image.PixelSpacing = first.ImageOrientationPatient, first.PixelSpacing
        image.SliceThickness = image.get("SliceThickness") or round(gap, 6)
        return
    shared = (image.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frame = image.PerFrameFunctionalGroupsSequence[0]
    kept = quiet_pydicom().Dataset()
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        found = frame.get(name) or shared.get(name)
        if found:
            setattr(kept, name, found)
    if "PixelMeasuresSequence" in kept:
        kept.PixelMeasuresSequence[0].SliceThickness = kept.PixelMeasuresSequence[0].get("SliceThickness") or gap
    image.SharedFunctionalGroupsSequence = [kept]


def segmentation(
    mask: Array,
    source: Source,
    classes: Mapping[int, str],
    codes: Mapping[int, SegmentCodes],
    algorithm: Algorithm,
    kind: Literal["BINARY", "LABELMAP"] = "BINARY",
) -> Any:
    """A SEG with one segment a foreground class, whose number is the class index.

    Args:
        mask: columns x rows x slices, or rows x columns; class indices.
        codes: class index -> codes; `UNKNOWN` for those that have none.

    Raises:
        UserError: the source's headers hold what the standard forbids.
    """
    import highdicom

    identity = highdicom.AlgorithmIdentificationSequence(
        name="ucseg",
        family=concept(_AI),
        version=__version__,
        source="ucseg",
        parameters={"method": algorithm.method, "weights": algorithm.weights},
    )
    described = [_described(i, name, codes.get(i, UNKNOWN), identity) for i, name in classes.items() if i]
    return _built(
        highdicom.seg.Segmentation,
        source,
        mask.astype(np.uint8 if len(classes) <= 256 else np.uint16, copy=False),
        algorithm,
        "Segmentation",
        number=1000,
        segmentation_type=kind,
        segment_descriptions=described,
        # SimpleITK takes a file's frames for the slices of one volume: right only if there is one segment and no gap.
        omit_empty_frames=len(described) > 1 and kind == "BINARY",
    )


def parametric_map(values: Array, source: Source, algorithm: Algorithm) -> Any:
    """Uncertainty, columns x rows x slices in 0..1, as a Parametric Map of 32-bit floating point.

    SimpleITK's reader (GDCM) knows no Parametric Map of any type; pydicom, highdicom and dcmqi do.

    Raises:
        UserError: the source's headers hold what the standard forbids.
    """
    import highdicom

    meaning = highdicom.pm.RealWorldValueMapping(
        lut_label="UNCERTAINTY",
        lut_explanation="Uncertainty of the segmentation: 0 sure, 1 knows nothing",
        unit=concept(_NO_UNITS),
        value_range=(0.0, 1.0),
    )
    made = _built(
        highdicom.pm.ParametricMap,
        source,
        values.astype(np.float32, copy=False),
        algorithm,
        "Uncertainty",
        number=2000,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)],
    )
    made.Laterality = source.images[0].get("Laterality") or None  # of paired body parts: the standard wants it said
    return made


def write(made: Any, path: Path) -> None:
    """Write an object, whole or not at all; a UserError if the place cannot be written."""
    with whole_file(path, ".dcm") as part:
        made.save_as(part, enforce_file_format=True)


def _built(
    kind: Any, source: Source, volume: Array, algorithm: Algorithm, what: str, number: int, **values: Any
) -> Any:
    import highdicom

    first = source.images[0]
    with quietly(Path(first.filename)):
        return kind(
            source_images=source.images,
            pixel_array=source.frames(volume),
            series_instance_uid=highdicom.UID(),
            series_number=number + max(0, int(first.get("SeriesNumber") or 0)),
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="ucseg",
            manufacturer_model_name=f"ucseg {algorithm.method}",
            software_versions=__version__,
            device_serial_number=algorithm.weights,
            specific_character_set="ISO_IR 192",
            content_label=what.upper(),
            content_description=f"{what} by ucseg, for research use",
            series_description=f"{what} by ucseg",
            **values,
        )


@contextmanager
def quietly(path: Path) -> Iterator[None]:
    """A header that breaks the standard can break pydicom and highdicom anywhere: then the file is named.

    Their warnings are not shown: the source is as it is, and the warnings name the patient. `ucseg predict` itself
    reports an empty mask.
    """
    logging.getLogger("highdicom").setLevel(logging.ERROR)
    with warnings.catch_warnings(), damage_of(path, _refused):
        warnings.simplefilter("ignore")
        yield


def _refused(path: Path, error: Exception) -> UserError:
    return UserError(
        "result-refused",
        f"{path}: no DICOM object can be made for this series ({first_line(error, path)}); "
        "export the series again, or leave out --dicom-seg and --rtstruct.",
    )


def _described(index: int, name: str, codes: SegmentCodes, identity: Any) -> Any:
    import highdicom

    described = highdicom.seg.SegmentDescription(
        segment_number=index,
        segment_label=name[:64],
        segmented_property_category=concept(codes.category),
        segmented_property_type=concept(codes.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identity,
        anatomic_regions=[concept(codes.region)] if codes.region is not None else None,
    )
    if codes.laterality is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(_LATERALITY[codes.laterality])]
    return described


def concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _reduced(file: Path) -> Any:
    """A header of what a result needs. What is missing but may be empty by the standard is there, and empty."""
    header = dataset(file, [*PATIENT, *STUDY, *_REST])
    for name in (*PATIENT, *STUDY):
        if name not in header and name != "StudyInstanceUID":
            setattr(header, name, None)
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = None
    return header
