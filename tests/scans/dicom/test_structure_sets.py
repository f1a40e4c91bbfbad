"""RT Structure Sets in and out: shapes by hand, contours in the slices of their image, structures chosen by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline

from dicom_files import item, save, save_series, slice_of
from refusals import refused
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.folder.understanding import ImportOptions, understand
from ucseg.scans.address import Address
from ucseg.scans.dicom.codes import SegmentCodes
from ucseg.scans.dicom.contours import structure_set
from ucseg.scans.dicom.results import Algorithm, source_of, write
from ucseg.scans.reading import read_mask, read_scan, segment_names

VOLUME = np.random.default_rng(0).integers(0, 1000, (12, 10, 6)).astype(np.int16)
SERIES = "1.2.3.4"
GRID = {"FrameOfReferenceUID": "1.2.3.99"}


def points(rows_columns: Any, slice_: float) -> list[float]:
    """Rows and columns of the series as they lie in the patient, LPS mm."""
    return [v for row, column in rows_columns for v in (10 + 0.5 * column, 20 + 0.75 * row, 30 + 2.0 * slice_)]


def box(top: float, left: float, bottom: float, right: float) -> list[tuple[float, float]]:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def structures(contours: dict[str, list[list[float]]], series: str = SERIES, kind: str = "CLOSED_PLANAR") -> Any:
    ds = slice_of(np.zeros((2, 2), np.uint8), (0, 0, 0), "1.9.9")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "PixelData"):
        delattr(ds, name)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.Modality = "RTSTRUCT"
    referred = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series)])
    ds.ReferencedFrameOfReferenceSequence = [item(RTReferencedStudySequence=[referred])]
    named = list(enumerate(contours.items(), start=7))
    ds.StructureSetROISequence = [item(ROINumber=number, ROIName=name) for number, (name, _) in named]
    ds.ROIContourSequence = [
        item(
            ReferencedROINumber=number,
            ContourSequence=[item(ContourGeometricType=kind, ContourData=one) for one in lines],
        )
        for number, (_, lines) in named
    ]
    return ds


@pytest.fixture
def grid(tmp_path: Path) -> Any:
    scan = read_scan(save_series(tmp_path / "image", VOLUME, **GRID))
    return scan.array.shape[1:], scan.geometry


def test_shapes_by_hand(tmp_path: Path, grid: Any) -> None:
    expected = np.zeros(VOLUME.shape, np.uint8)
    expected[2:6, 3:7, 1:3] = 1
    expected[3:5, 4:6, 2] = 0
    expected[8:10, 1:9, 3] = 2
    edges = [points(box(1.5, 2.5, 5.5, 6.5), k) for k in (1, 2)] + [points(box(2.5, 3.5, 4.5, 5.5), 2)]  # a hole
    centres = [points(box(8, 1, 9, 8), 3)]  # through the centres of voxels: these belong
    path = save(structures({"Liver": edges, "spleen ": centres}), tmp_path / "rt.dcm")
    assert np.array_equal(read_mask(path, grid).array[0], expected.transpose(1, 0, 2))
    assert segment_names(Address.of(path)) == {1: "Liver", 2: "spleen"}
    with refused("mask-needs-image", naming=path):
        read_mask(path)
    with refused("dicom-seg-as-image", naming=[path, "RT Structure Set"]):
        read_scan(path)


def test_classes_choose_structures_and_later_ones_lie_on_top(tmp_path: Path, grid: Any) -> None:
    body, tumour = [points(box(0, 0, 11, 9), k) for k in range(6)], [points(box(4, 4, 6, 6), k) for k in (2, 3)]
    path = save(structures({"GTV": tumour, "BODY": body, "other": tumour}), tmp_path / "rt.dcm")
    config = DatasetConfig(
        name="d", root=".", dims=3, modality="ct", channels=1, classes={0: "background", 1: "body", 2: "gtv"}
    )
    label = read_label(path, grid[0], config, grid[1])
    expected = np.ones(VOLUME.shape, np.uint8)
    expected[4:7, 4:7, 2:4] = 2
    assert np.array_equal(label, expected.transpose(1, 0, 2))
    with refused("structures-overlap", naming=[path, "GTV", "BODY", "--classes"]):
        read_mask(path, grid)
    with refused("mask-no-class", naming=[path, "GTV", "kidney"]):
        read_label(path, grid[0], config.model_copy(update={"classes": {0: "background", 1: "kidney"}}), grid[1])


def test_what_does_not_lie_on_its_image_is_refused(tmp_path: Path, grid: Any) -> None:
    square = box(2, 2, 6, 6)
    for kind, lines in {
        "structures-between": [points(square, 1.5)],
        "structures-outside": [points(square, 9)],
        "structures-gaps": [points(square, k) for k in (0, 2, 4)],
        "structures-tilted": [[v + 3 * (i % 9 == 2) for i, v in enumerate(points(square, 1))]],
    }.items():
        path = save(structures({"liver": lines}), tmp_path / f"{kind}.dcm")
        with refused(kind, naming=[path, "'liver'"]):
            read_mask(path, grid)
    aside = save(structures({"liver": [points(np.array(square) + np.array([0, 99]), 1)]}), tmp_path / "aside.dcm")
    with refused("structures-outside", naming=aside):
        read_mask(aside, grid)
    path = save(structures({"marker": [points(square[:1], 1)]}, kind="POINT"), tmp_path / "points.dcm")
    with refused("structures-none", naming=path):
        read_mask(path, grid)


def test_studies_with_structure_sets_become_a_dataset(tmp_path: Path) -> None:
    for patient in range(3):
        save_series(tmp_path / f"s/p{patient}/ct", VOLUME, f"1.7.{patient}", PatientID=f"id{patient}")
        lines = {"External": [points(box(0, 0, 11, 9), k) for k in range(6)], "liver": [points(box(2, 2, 6, 6), 1)]}
        save(structures(lines, f"1.7.{patient}"), tmp_path / f"s/p{patient}/anything.dcm")
    found = understand(tmp_path / "s", ImportOptions(classes="liver"), ".")
    assert len(found.cases) == 3
    assert all(case.mask is not None for case in found.cases)
    assert found.config.classes == {0: "background", 1: "liver"}
    with refused("no-mask-usable", naming=["External", "liver", "--classes"]):
        understand(tmp_path / "s", ImportOptions(), ".")


@pytest.mark.parametrize("orientation", [(0, -1, 0, 0, 0, -1), (0.8, 0.6, 0, 0.6, -0.8, 0)])
def test_a_mask_comes_back_as_drawn_and_lies_where_its_slices_lie(tmp_path: Path, orientation: Any) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    for k in range(6):
        ds = slice_of(VOLUME[..., k], np.array([10.0, 20.0, 30.0]) + 2 * k * normal, SERIES, **GRID)
        ds.ImageOrientationPatient = list(orientation)
        save(ds, tmp_path / "image" / f"{k}.dcm")
    scan = read_scan(tmp_path / "image")
    mask = np.random.default_rng(1).choice([0, 1, 2], scan.array.shape[1:], p=[0.3, 0.4, 0.3]).astype(np.uint8)
    mask[..., [0, 4, 5]], mask[1:9, 1:9, 3], mask[3:5, 3:6, 3] = 0, 2, 0
    classes = {0: "background", 1: "one", 2: "two", 3: "never"}
    codes: dict[int, SegmentCodes] = {}
    path = tmp_path / "rt.dcm"
    write(structure_set(mask, scan, source_of(scan), classes, codes, Algorithm("m", "w")), path)
    read = read_mask(path, (scan.array.shape[1:], scan.geometry))
    assert np.array_equal(read.array[0], mask)
    assert segment_names(Address.of(path)) == {1: "one", 2: "two"}

    sources = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, (tmp_path / "image").iterdir())}
    ds, drawn = pydicom.dcmread(path), np.zeros_like(mask)
    centres = np.argwhere(np.ones(mask.shape[:2]))
    for one in ds.ROIContourSequence[:2]:
        for contour in one.ContourSequence:  # beside matplotlib, on the slice that it names
            corner = np.array(sources[contour.ContourImageSequence[0].ReferencedSOPInstanceUID].ImagePositionPatient)
            lines = np.array(contour.ContourData, float).reshape(-1, 3) - corner.astype(float)
            assert np.abs(lines @ normal).max() < 1e-3
            flat = np.stack([lines @ orientation[:3] / 0.5, lines @ orientation[3:] / 0.75], 1)
            inside = centres[Outline(flat, closed=False).contains_points(centres)]
            drawn[inside[:, 0], inside[:, 1], round((corner.astype(float) - [10, 20, 30]) @ normal / 2)] = (
                one.ReferencedROINumber
            )
    assert np.array_equal(drawn, mask)
