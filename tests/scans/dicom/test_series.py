"""What the header of a DICOM file says, how files become series, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_files import AXIAL, item, save, save_series, segmentation, slice_of
from refusals import refused
from ucseg.scans.dicom.kinds import kind_of, name_of
from ucseg.scans.dicom.series import files_in, is_dicom, read_file, series_of

PIXELS = np.arange(30, dtype=np.int16).reshape(6, 5)
NO_PLACE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def frames(heights: list[float], **values: Any) -> Dataset:
    """A multi-frame CT whose orientation and spacing are shared by all frames."""
    ds = slice_of(PIXELS, (0, 0, 0), "1.2", **NO_PLACE, SliceThickness=None, NumberOfFrames=len(heights), **values)
    ds.PixelData = PIXELS.tobytes() * len(heights)
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
            PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=3.0)],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[1, 2, height])]) for height in heights
    ]
    return ds


def test_a_slice_says_where_it_lies(tmp_path: Path) -> None:
    values = {"SeriesNumber": 7, "RescaleSlope": 2.0, "RescaleIntercept": -24.0, "SpacingBetweenSlices": -2.5}
    found = read_file(save(slice_of(PIXELS, (1, 2, 3), "1.2.3", **values), tmp_path / "a.dcm"))
    assert (found.series, found.number, found.shape, found.channels, found.frames) == ("1.2.3", "7", (6, 5), 1, 1)
    assert (found.is_volume, found.localiser, found.refers) == (True, False, "")
    (one,) = found.slices
    assert (one.position, one.rows, one.columns) == ((1, 2, 3), (1, 0, 0), (0, 1, 0))
    assert (one.spacing, one.thickness) == ((0.5, 0.75), 2.5), "between columns, between rows; the distance goes first"
    assert (one.slope, one.intercept) == (2.0, -24.0)
    assert one.normal.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("uid", "kind", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "image", "CT Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.1.1.1", "image", "Digital X-Ray Image Storage - For Processing"),
        ("1.2.840.10008.5.1.4.1.1.6.2", "image", "Enhanced US Volume Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation", "Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "segmentation", "Label Map Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "structures", "RT Structure Set Storage"),
        ("1.2.840.10008.5.1.4.1.1.30", "other", "Parametric Map Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.8", "other", "Height Map Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.5", "other", "Surface Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.81.1", "other", "Ophthalmic Thickness Map Storage"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "other", "RT Dose Storage"),
        ("1.2.826.0.1.3680043.99", "other", "1.2.826.0.1.3680043.99"),
    ],
)
def test_only_image_classes_are_images_and_the_rest_has_a_name(tmp_path: Path, uid: str, kind: str, name: str) -> None:
    assert (kind_of(uid), name_of(uid)) == (kind, name)
    path = save(slice_of(PIXELS, (0, 0, 0), "1.2", SOPClassUID=uid), tmp_path / "a.dcm")
    if kind == "other":  # although it has pixels and a place
        with refused("dicom-kind", naming=[path, name]):
            read_file(path)
    else:
        assert read_file(path).kind == kind


def test_the_patient_leaves_as_a_digest(tmp_path: Path) -> None:
    one, other, nobody = (
        read_file(save(slice_of(PIXELS, (0, 0, 0), "1", PatientID=name), tmp_path / f"{index}.dcm"))
        for index, name in enumerate(("Jane Doe", "John Doe", ""))
    )
    assert one.subject.startswith("patient-")
    assert one.subject != other.subject
    assert nobody.subject == ""
    assert "Doe" not in repr([one, other])


def test_a_file_of_many_frames_is_many_slices(tmp_path: Path) -> None:
    found = read_file(save(frames([0, 3, 6]), tmp_path / "a.dcm"))
    assert [(one.frame, one.position[2]) for one in found.slices] == [(0, 0), (1, 3), (2, 6)]
    assert {(one.rows, one.spacing, one.thickness) for one in found.slices} == {((1, 0, 0), (0.5, 0.75), 3.0)}
    unplaced = frames([0, 3])
    del unplaced.PerFrameFunctionalGroupsSequence
    assert read_file(save(unplaced, tmp_path / "b.dcm")).slices == ()


def test_images_without_a_place_are_no_volume(tmp_path: Path) -> None:
    photograph = slice_of(PIXELS, (0, 0, 0), "1", **NO_PLACE, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert not read_file(save(photograph, tmp_path / "photo.dcm")).is_volume
    lost = read_file(save(slice_of(PIXELS, (0, 0, 0), "1", **NO_PLACE), tmp_path / "ct.dcm"))
    assert (lost.slices, lost.is_volume) == ((), True), "CT is a volume that lost its place"


def test_a_segmentation_names_its_images(tmp_path: Path) -> None:
    made = segmentation(PIXELS[None] > 3, [(0, 0, 0)], [1], {1: "liver"}, "1.2.77")
    found = read_file(save(made, tmp_path / "seg.dcm"))
    assert (found.is_segmentation, found.refers) == (True, "1.2.77")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = save(slice_of(PIXELS, (0, 0, 0), "1.2"), tmp_path / "a.dcm")
    assert read_file(path) is read_file(path)
    assert read_file(save(slice_of(PIXELS, (0, 0, 0), "1.2.3.4"), path)).series == "1.2.3.4"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("dicom-size", {"Rows": None, "Columns": None}),
        ("dicom-size", {"Columns": 0}),
        ("dicom-kind", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}),  # RT Dose
        ("dicom-kind", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Rows": None}),  # a report
        ("dicom-table", {"ModalityLUTSequence": [item(LUTExplanation="x")]}),
        ("dicom-incomplete", {"PixelSpacing": [0.0, 0.5]}),
        ("dicom-incomplete", {"ImagePositionPatient": [0.0, 0.5]}),
        ("dicom-orientation", {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}),
        ("dicom-orientation", {"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}),
    ],
)
def test_headers_that_say_too_little_are_refused(tmp_path: Path, kind: str, values: dict[str, Any]) -> None:
    path = save(slice_of(PIXELS, (0, 0, 0), "1.2", **values), tmp_path / "a.dcm")
    with refused(kind, naming=path):
        read_file(path)


def test_frames_that_are_not_all_described_are_refused(tmp_path: Path) -> None:
    made = frames([0, 3, 6])
    made.NumberOfFrames = 4
    with refused("dicom-frames", naming=["a.dcm", 4, 3]):
        read_file(save(made, tmp_path / "a.dcm"))


def test_a_folder_is_sorted_into_series_and_refused_files(tmp_path: Path) -> None:
    save_series(tmp_path, np.stack([PIXELS] * 2, -1), "1.5")
    save(slice_of(PIXELS, (0, 0, 0), "1.4"), tmp_path / "lone.IMA")
    save(slice_of(PIXELS, (0, 0, 0), "1.4"), tmp_path / "scanner" / "below.dcm")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("no scan " * 40)
    (tmp_path / "notes.txt").write_text("no scan " * 40)
    (tmp_path / ".hidden.dcm").write_text("no scan")
    files = files_in(tmp_path)
    assert [file.name for file in files] == ["000.dcm", "001.dcm", "empty.dcm", "lone.IMA", "text.dcm"]
    series, wrong = series_of(files)
    names = {uid: [one.file.name for one in found] for uid, found in series.items()}
    assert names == {"1.5": ["000.dcm", "001.dcm"], "1.4": ["lone.IMA"]}
    codes = {file.name: error.code for file, error in wrong.items()}
    assert codes == {"empty.dcm": "scan-empty", "text.dcm": "scan-content"}


@pytest.mark.parametrize(
    ("name", "marked", "expected"),
    [
        ("a.dcm", False, True),
        ("A.IMA", False, True),
        ("scout0", True, True),
        ("scout0", False, False),
        ("IM.0001", True, True),
        ("1.2.840.113", True, True),
        ("DICOMDIR", True, False),
        ("a.nii", True, False),
    ],
)
def test_a_file_is_dicom_by_its_ending_or_its_content(tmp_path: Path, name: str, marked: bool, expected: bool) -> None:
    (tmp_path / name).write_bytes(bytes(128) + (b"DICM" if marked else b"NONE"))
    assert is_dicom(tmp_path / name) is expected
    assert not is_dicom(tmp_path / "gone")
