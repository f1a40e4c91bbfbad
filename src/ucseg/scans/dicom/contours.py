"""A mask as an RT Structure Set: a structure a class, its contours along the edges of voxels, slice by slice.

Planning systems read it. Holes are cut from outside, so that programs that know no holes read them too. Numbers are
rounded to a tenth of a micrometre.
"""

from __future__ import annotations

import colorsys
import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ucseg import __version__
from ucseg.errors import UserError
from ucseg.scans.dicom.codes import UNKNOWN, SegmentCodes
from ucseg.scans.dicom.image import DicomHeader
from ucseg.scans.dicom.results import PATIENT, STUDY, Algorithm, Source, concept, quietly
from ucseg.scans.dicom.series import Slice, quiet_pydicom
from ucseg.scans.polygons import outlines
from ucseg.scans.scan import Scan
from ucseg.types import Array

_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_GOLDEN = 0.618034


def structure_set(
    mask: Array,
    scan: Scan,
    source: Source,
    classes: Mapping[int, str],
    codes: Mapping[int, SegmentCodes],
    algorithm: Algorithm,
) -> Any:
    """An RT Structure Set with a structure for each foreground class, whose number is the class index.

    Args:
        mask: columns x rows x slices; class indices.
        scan: what was segmented; its slices are named, and say where the contours lie.

    Raises:
        UserError: the scan is no volume, or its headers hold what the standard forbids.
    """
    refuse_contours_without_place(scan, source)
    header: DicomHeader = scan.header
    with quietly(scan.source):
        return _built(mask, header.slices, source, classes, codes, algorithm)


def refuse_contours_without_place(scan: Scan, source: Source) -> None:
    """Raise a UserError if a scan has no slices to draw in."""
    if not isinstance(scan.header, DicomHeader) or source.order is None:
        raise UserError(
            "contours-no-place",
            f"{scan.source}: contours need a volume with a place; leave out this scan or --rtstruct.",
        )


def _built(
    mask: Array,
    slices: tuple[Slice, ...],
    source: Source,
    classes: Mapping[int, str],
    codes: Mapping[int, SegmentCodes],
    algorithm: Algorithm,
) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    first, now = source.images[0], datetime.datetime.now(datetime.UTC).astimezone()
    made = quiet_pydicom().Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = _STRUCTURE_SET
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in (*PATIENT, *STUDY):
        setattr(made, name, first.get(name))
    for name in ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        if name in first:
            setattr(made, name, first.get(name))
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    made.SeriesNumber, made.InstanceNumber = 3000 + max(0, int(first.get("SeriesNumber") or 0)), 1
    made.SeriesDescription, made.OperatorsName = "Contours by ucseg", None
    made.Manufacturer, made.ManufacturerModelName = "ucseg", f"ucseg {algorithm.method}"
    made.SoftwareVersions, made.DeviceSerialNumber = __version__, algorithm.weights
    made.StructureSetLabel, made.StructureSetName = "ucseg", "Contours by ucseg, for research use"
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = made.StructureSetDate, made.StructureSetTime
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = first.FrameOfReferenceUID, None
    made.ReferencedFrameOfReferenceSequence = [_referred(source)]
    drawn = [(index, name) for index, name in classes.items() if index]
    made.StructureSetROISequence = [
        _item(
            ROINumber=index,
            ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
            ROIName=name[:64],
            ROIGenerationAlgorithm="AUTOMATIC",
        )
        for index, name in drawn
    ]
    made.ROIContourSequence = []
    for place, (index, _) in enumerate(drawn):
        colour = [round(255 * part) for part in colorsys.hsv_to_rgb(place * _GOLDEN % 1, 0.8, 1)]
        one = _item(ReferencedROINumber=index, ROIDisplayColor=colour)
        contours = list(_contours(mask == index, slices, source))
        if contours:
            one.ContourSequence = contours
        made.ROIContourSequence.append(one)
    made.RTROIObservationsSequence = [_observed(index, codes.get(index, UNKNOWN)) for index, _ in drawn]
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _contours(mask: Array, slices: tuple[Slice, ...], source: Source) -> Iterator[Any]:
    """Of one class, columns x rows x slices bool."""
    for index in np.flatnonzero(mask.any(axis=(0, 1))):
        one = slices[index]
        right, down = np.array(one.rows) * one.spacing[0], np.array(one.columns) * one.spacing[1]
        for ring in outlines(mask[..., index].T):
            points = np.array(one.position) + ring[:, :1] * down + ring[:, 1:] * right
            yield _item(
                ContourImageSequence=[_image(source, one)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.4f}" for value in points.ravel()],
            )


def _image(source: Source, one: Slice) -> Any:
    found = _item(ReferencedSOPClassUID=source.images[0].SOPClassUID, ReferencedSOPInstanceUID=one.instance)
    if len(source.images) == 1 and source.order is not None and len(source.order) > 1:
        found.ReferencedFrameNumber = one.frame + 1
    return found


def _referred(source: Source) -> Any:
    first = source.images[0]
    images = [
        _item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)
        for one in source.images
    ]
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _observed(index: int, codes: SegmentCodes) -> Any:
    return _item(
        ObservationNumber=index,
        ReferencedROINumber=index,
        RTROIIdentificationCodeSequence=[concept(codes.type)],
        RTROIInterpretedType=None,
        ROIInterpreter=None,
    )


def _item(**values: Any) -> Any:
    item = quiet_pydicom().Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
