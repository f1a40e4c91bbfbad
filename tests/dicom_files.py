"""Small DICOM series for tests, made with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ucseg.types import Array

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_of(array: Array, position: Any, series: str, **values: Any) -> Dataset:
    """A CT slice: rows x columns, int16, 0.5 mm between columns and 0.75 mm between rows."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID, ds.StudyInstanceUID = series, "1.2.3"
    ds.PatientID, ds.PatientName, ds.Modality = "someone", "Some^One", "CT"
    ds.ImageOrientationPatient, ds.ImagePositionPatient = list(AXIAL), list(position)
    ds.PixelSpacing, ds.SliceThickness = [0.75, 0.5], 2.0
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * array.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(array.dtype.kind == "i")
    ds.PixelData = np.ascontiguousarray(array).tobytes()
    for name, value in values.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """Write it with a preamble."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def save_series(folder: Path, volume: Array, series: str = "1.2.3.4", step: float = 2.0, **values: Any) -> Path:
    """Slices of a volume, rows x columns x slices, under names that do not sort as they lie."""
    order = np.random.default_rng(0).permutation(volume.shape[-1])
    for name, index in enumerate(order):
        ds = slice_of(volume[..., index], (10.0, 20.0, 30.0 + step * index), series, **values)
        save(ds, folder / f"{name:03d}.dcm")
    return folder


def segmentation(frames: Array, positions: Any, segments: list[int], names: dict[int, str], series: str) -> Dataset:
    """A binary SEG that refers to a series: frames x rows x columns, each with its position and segment."""
    ds = slice_of(np.zeros(frames.shape[1:], np.uint8), (0, 0, 0), generate_uid())
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, name)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    ds.Modality, ds.SegmentationType, ds.NumberOfFrames = "SEG", "BINARY", len(frames)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.ReferencedSeriesSequence = [item(SeriesInstanceUID=series)]
    ds.SegmentSequence = [item(SegmentNumber=number, SegmentLabel=name) for number, name in names.items()]
    measures = item(PixelSpacing=[0.75, 0.5], SliceThickness=2.0)
    ds.SharedFunctionalGroupsSequence = [
        item(PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))], PixelMeasuresSequence=[measures])
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=segment)],
        )
        for position, segment in zip(positions, segments, strict=True)
    ]
    bits = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
    ds.PixelData = bits + b"\0" * (len(bits) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def item(**values: Any) -> Dataset:
    """An item of a sequence."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
