"""Results as DICOM: where they lie, what they refer to, what they say of the patient; and what is refused.

What is written by highdicom is read by pydicom frame by frame, by SimpleITK, and by highdicom itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.valuerep import DSfloat
from test_geometry import ORIENTATIONS, PLANS, name, oriented, phantom
from threshold_run import BRIGHT, DARK, make_run, plan_2d, plan_3d

from dicom_files import save, save_series, slice_of
from refusals import refused
from ucseg.cli.predict import predict
from ucseg.scans.address import Address
from ucseg.scans.dicom.codes import CODES_FILE
from ucseg.scans.dicom.results import Algorithm, segmentation, source_of
from ucseg.scans.reading import read_mask, read_scan, segment_names

FRAME_OF_REFERENCE = "1.2.3.99"
PATIENT = {
    "PatientName": "Müller^Änne", "PatientID": "someone", "PatientBirthDate": "19500102", "PatientSex": "F",
    "PatientAge": "070Y", "PatientWeight": "60", "PatientComments": "secret", "OtherPatientIDs": "secret",
    "InstitutionName": "secret", "OperatorsName": "secret", "StudyDescription": "secret", "StudyID": "7",
    "SpecificCharacterSet": "ISO_IR 100", "ReferringPhysicianName": "Doe^J", "StudyDate": "20200101",
    "AdmittingDiagnosesDescription": "secret", "StationName": "secret", "ProtocolName": "secret",
}  # fmt: skip


def body(rows: int = 12, columns: int = 10, slices: int = 9) -> Any:
    """An L-shaped bright body, rows x columns x slices, that no turn or mirror maps to itself."""
    volume = np.random.default_rng(0).integers(0, 200, (rows, columns, slices)).astype(np.int16)
    volume[2:6, 3:7, 2:5] = 900
    volume[2:9, 3:5, 3:7] = 900
    volume[0, 0, 0], volume[-1, -1, -1] = 0, 1000
    return volume


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield make_run(tmp_path_factory.mktemp("run") / "run", plan_3d(spacing=(0.5, 0.75, 2.0)), patch)


def by_place(path: Path) -> dict[tuple[float, ...], Any]:
    """Position in the patient -> rows x columns, by pydicom alone."""
    ds = pydicom.dcmread(path)
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    groups = ds.PerFrameFunctionalGroupsSequence
    places = [tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient)) for group in groups]
    assert len(set(places)) == len(frames)
    return dict(zip(places, frames, strict=True))


def test_masks_and_maps_lie_on_their_series_and_refer_to_it(run: Path, tmp_path: Path) -> None:
    volume = body()
    series = save_series(tmp_path / "scan", volume, FrameOfReferenceUID=FRAME_OF_REFERENCE, **PATIENT)
    predict(run, [series], out=tmp_path / "out", device="cpu", dicom_seg=True)
    bright = volume > 500
    seg_file, map_file = tmp_path / "out/dicom/scan.dcm", tmp_path / "out/dicom/uncertainty/scan.dcm"
    places = [(10.0, 20.0, 30.0 + 2 * k) for k in range(9)]

    found = by_place(seg_file)
    for k, place in enumerate(places):
        np.testing.assert_array_equal(found[place], bright[..., k])
    doubt = by_place(map_file)
    for k, place in enumerate(places):
        np.testing.assert_allclose(doubt[place], np.where(bright[..., k], BRIGHT, DARK), atol=1e-5)

    sources = {str(pydicom.dcmread(file).SOPInstanceUID) for file in series.iterdir()}
    for file in (seg_file, map_file):
        ds = pydicom.dcmread(file)
        assert ds.FrameOfReferenceUID == FRAME_OF_REFERENCE
        assert ds.StudyInstanceUID == "1.2.3"
        assert ds.SeriesInstanceUID != "1.2.3.4"
        (referred,) = ds.ReferencedSeriesSequence
        assert referred.SeriesInstanceUID == "1.2.3.4"
        assert {str(one.ReferencedSOPInstanceUID) for one in referred.ReferencedInstanceSequence} == sources
        for group in ds.PerFrameFunctionalGroupsSequence:  # each frame refers to the very slice it lies on
            (origin,) = group.DerivationImageSequence[0].SourceImageSequence
            (slice_file,) = [
                one
                for one in series.iterdir()
                if pydicom.dcmread(one).SOPInstanceUID == origin.ReferencedSOPInstanceUID
            ]
            place = pydicom.dcmread(slice_file).ImagePositionPatient
            assert place == group.PlanePositionSequence[0].ImagePositionPatient

    scan = read_by_itk(series)
    image = highdicom.imread(map_file).get_volume()
    assert image.array.shape == (9, 12, 10)
    sure = image.affine @ np.column_stack([np.argwhere(image.array < 0.5), np.ones(bright.sum())]).T
    assert {tuple(place) for place in np.round(sure[:3].T, 3)} == bright_places(scan)
    assert_itk_places_it(sitk.ReadImage(str(seg_file)), scan)

    whole = highdicom.seg.segread(seg_file).get_volume(combine_segments=True, allow_missing_positions=True)
    assert whole.array.sum() == bright.sum()
    again = read_mask(seg_file, (read_scan(series).array.shape[1:], read_scan(series).geometry))
    np.testing.assert_array_equal(again.array[0], bright.transpose(1, 0, 2))


def read_by_itk(series: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    return reader.Execute()


def assert_itk_places_it(mask: sitk.Image, scan: sitk.Image) -> None:
    inside = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1]
    places = {tuple(np.round(mask.TransformIndexToPhysicalPoint(tuple(map(int, at))), 3)) for at in inside}
    assert places == bright_places(scan)


def bright_places(scan: sitk.Image) -> set[tuple[float, ...]]:
    bright = np.argwhere(sitk.GetArrayFromImage(scan) > 500)[:, ::-1]
    return {tuple(np.round(scan.TransformIndexToPhysicalPoint(tuple(map(int, at))), 3)) for at in bright}


def test_in_every_orientation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One body in one place of the world, oblique, in voxels of three different edges, stored with its rows, columns
    and slices along every axis and direction."""
    affine = phantom()[1]
    image = np.zeros((6, 5, 4))
    image[1:3, 1:4, 1:2] = image[1:5, 1:2, 1:3] = 0.9
    image[-1, -1, -1] = 1
    run = make_run(tmp_path / "run", PLANS["same"], monkeypatch)
    for order, signs in ORIENTATIONS:
        stored, place = oriented((image * 1000).astype(np.int16), affine, order, signs)
        write_series(tmp_path / "scans" / name(order, signs), stored, place)
    predict(run, [tmp_path / "scans"], out=tmp_path / "out", device="cpu", dicom_seg=True)
    for order, signs in ORIENTATIONS:
        case = name(order, signs)
        stored, place = oriented(image > 0.5, affine, order, signs)
        found, doubt = (
            by_place(tmp_path / f"out/dicom/{case}.dcm"),
            by_place(tmp_path / f"out/dicom/uncertainty/{case}.dcm"),
        )
        for k in range(stored.shape[2]):
            at = tuple((place @ [0, 0, k, 1])[:3] * RAS)
            np.testing.assert_array_equal(nearest(found, at), stored[..., k].T)
            np.testing.assert_array_equal(nearest(doubt, at) < 0.5, stored[..., k].T)
        mask, scan = sitk.ReadImage(str(tmp_path / f"out/dicom/{case}.dcm")), read_by_itk(tmp_path / "scans" / case)
        assert_itk_places_it(mask, scan)


RAS = np.array([-1, -1, 1])


def nearest(frames: dict[tuple[float, ...], Any], at: Any) -> Any:
    """The frame at a place that was written in decimal digits."""
    place = min(frames, key=lambda one: np.linalg.norm(np.subtract(one, at)))
    np.testing.assert_allclose(place, at, atol=1e-4)
    return frames[place]


def write_series(folder: Path, stored: Any, affine: Any) -> None:
    """Columns x rows x slices and a RAS affine as DICOM: directions, edges and positions are read off the affine."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    directions = (affine[:3, :3] / edges).T * RAS
    for k in range(stored.shape[2]):
        turned = {
            "ImageOrientationPatient": [DSfloat(v, auto_format=True) for v in (*directions[0], *directions[1])],
            "PixelSpacing": [edges[1], edges[0]],
            "SliceThickness": edges[2],
            "FrameOfReferenceUID": FRAME_OF_REFERENCE,
        }
        position = [DSfloat(v, auto_format=True) for v in (affine @ [0, 0, k, 1])[:3] * RAS]
        save(
            slice_of(stored[..., k].T, position, f"1.2.{int.from_bytes(folder.name.encode())}", **turned),
            folder / f"{k}.dcm",
        )


def test_of_the_patient_only_what_the_standard_demands(run: Path, tmp_path: Path) -> None:
    series = save_series(tmp_path / "scan", body(), FrameOfReferenceUID=FRAME_OF_REFERENCE, **PATIENT)
    save_series(tmp_path / "odd", body(), "1.8", FrameOfReferenceUID=FRAME_OF_REFERENCE, PatientName="SOMEONE_0001")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # highdicom's on unlikely names would print them
        predict(run, [series, tmp_path / "odd"], out=tmp_path / "out", device="cpu", dicom_seg=True)
    for file in (tmp_path / "out/dicom/scan.dcm", tmp_path / "out/dicom/uncertainty/scan.dcm"):
        ds = pydicom.dcmread(file)
        assert str(ds.PatientName) == PATIENT["PatientName"]  # whatever character set the source has
        assert (ds.PatientID, ds.PatientBirthDate, ds.PatientSex) == ("someone", "19500102", "F")
        assert "secret" not in str(ds)
        assert "PatientAge" not in ds
        assert ds.Manufacturer == "ucseg"


def test_codes_and_algorithm(run: Path, tmp_path: Path) -> None:
    series = save_series(tmp_path / "scan", body(), FrameOfReferenceUID=FRAME_OF_REFERENCE)
    (run / CODES_FILE).unlink(missing_ok=True)
    predict(run, [series], out=tmp_path / "plain", device="cpu", dicom_seg=True)
    (segment,) = pydicom.dcmread(tmp_path / "plain/dicom/scan.dcm").SegmentSequence
    assert (segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType) == (1, "organ", "AUTOMATIC")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    (run / CODES_FILE).write_text(
        "codes:\n  1:\n    category: {value: 91723000, scheme: SCT, meaning: Anatomical Structure}\n"
        "    type: {value: 5366008, scheme: SCT, meaning: Hippocampus}\n    laterality: left\n"
        "    region: {value: 12738006, scheme: SCT, meaning: Brain}\n"
    )
    predict(run, [series], out=tmp_path / "out", device="cpu", dicom_seg=True)
    (run / CODES_FILE).unlink()
    (segment,) = pydicom.dcmread(tmp_path / "out/dicom/scan.dcm").SegmentSequence
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("5366008", "SCT", "Hippocampus")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == segment.SegmentAlgorithmName == "ucseg"
    assert "method=threshold" in algorithm.AlgorithmParameters


def test_an_empty_mask_is_a_valid_segmentation(run: Path, tmp_path: Path) -> None:
    series = save_series(tmp_path / "scan", np.zeros((8, 8, 3), np.int16), FrameOfReferenceUID=FRAME_OF_REFERENCE)
    predict(run, [series], out=tmp_path / "out", device="cpu", dicom_seg=True)
    assert pydicom.dcmread(tmp_path / "out/dicom/scan.dcm").pixel_array.sum() == 0


def test_an_empty_mask_of_several_classes_is_not_told_in_the_words_of_a_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    series = save_series(tmp_path / "scan", np.zeros((8, 8, 3), np.int16), FrameOfReferenceUID=FRAME_OF_REFERENCE)
    source = source_of(read_scan(series))
    classes = {0: "background", 1: "liver", 2: "spleen"}
    made = segmentation(np.zeros((8, 8, 3), np.uint8), source, classes, {}, Algorithm("uc_seg", "0" * 8))
    assert made.pixel_array.sum() == 0
    assert not caplog.records


def enhanced(volume: Any, series: str) -> Any:
    """An enhanced MR image of several frames, stored from the last slice to the first."""
    ds = slice_of(volume[..., 0], (0, 0, 0), series, FrameOfReferenceUID=FRAME_OF_REFERENCE)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    ds.NumberOfFrames = volume.shape[2]
    order = range(volume.shape[2])[::-1]
    ds.PixelData = np.ascontiguousarray(volume[..., order].transpose(2, 0, 1)).tobytes()
    frames = []
    for k in order:
        frame, place, turned, measures = (pydicom.Dataset() for _ in range(4))
        place.ImagePositionPatient, turned.ImageOrientationPatient = [10, 20, 30 + 2 * k], [1, 0, 0, 0, 1, 0]
        measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2.0
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turned]
        frame.PixelMeasuresSequence = [measures]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    return ds


def test_frames_of_one_file_and_a_single_slice(run: Path, tmp_path: Path) -> None:
    volume = body()
    many = save(enhanced(volume, "1.5"), tmp_path / "scans" / "many.dcm")
    one = save(
        slice_of(volume[..., 3], (10, 20, 36), "1.6", FrameOfReferenceUID=FRAME_OF_REFERENCE),
        tmp_path / "scans/one.dcm",
    )
    predict(run, [many, one], out=tmp_path / "out", device="cpu", dicom_seg=True)
    found = by_place(tmp_path / "out/dicom/many.dcm")
    for k in range(volume.shape[2]):
        np.testing.assert_array_equal(found[10.0, 20.0, 30.0 + 2 * k], volume[..., k] > 500)
    ds = pydicom.dcmread(tmp_path / "out/dicom/many.dcm")
    for group in ds.PerFrameFunctionalGroupsSequence:
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        assert group.PlanePositionSequence[0].ImagePositionPatient[2] == 30 + 2 * (9 - number)
    assert set(by_place(tmp_path / "out/dicom/one.dcm")) == {(10.0, 20.0, 36.0)}
    assert set(by_place(tmp_path / "out/dicom/uncertainty/one.dcm")) == {(10.0, 20.0, 36.0)}


def test_other_inputs_are_one_message_and_a_bad_series_stops_no_other(run: Path, tmp_path: Path) -> None:
    good = save_series(tmp_path / "scans/good", body(), FrameOfReferenceUID=FRAME_OF_REFERENCE)
    save_series(tmp_path / "scans/nowhere", body(), "1.9")
    for k in range(2):
        sitk.WriteImage(sitk.GetImageFromArray(body()), str(tmp_path / f"scans/other{k}.nii.gz"))
    with refused("scans-failed", naming=["1 of 2", tmp_path / "out"]):
        predict(run, [tmp_path / "scans"], out=tmp_path / "out", device="cpu", dicom_seg=True)
    table = (tmp_path / "out/cases.csv").read_text()
    assert "have no FrameOfReferenceUID" in table
    assert (tmp_path / "out/dicom/good.dcm").exists()
    assert "nii.gz," not in table.replace("good.nii.gz", "")
    with refused("not-dicom", naming=["2 inputs", "other0.nii.gz", "--dicom-seg"]) as caught:
        predict(run, sorted((tmp_path / "scans").glob("*.gz")), out=tmp_path / "none", device="cpu", dicom_seg=True)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "none").exists()
    predict(run, [good], out=tmp_path / "later", device="cpu", dicom_seg=True)
    with refused("resume-differs", naming="'dicom_seg'"):
        predict(run, [good], out=tmp_path / "later", device="cpu", resume=True)


@pytest.mark.parametrize("place", [None, "1.2.3.98"], ids=["placeless", "reference-without-position"])
def test_a_colour_image_without_a_place_gets_a_segmentation_that_claims_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    """An ultrasound image: on its own pixels, referring to it, and to no place in the patient. No map is to be had."""
    shape = (22, 30)
    bright = np.zeros(shape, bool)
    bright[3:9, 4:20] = bright[3:18, 4:9] = True
    pixels = np.repeat(np.where(bright, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    colours: dict[str, Any] = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    image = slice_of(pixels, (0, 0, 0), "1.8", SliceThickness=None, **colours)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    image.Modality, image.SamplesPerPixel, image.PhotometricInterpretation = "US", 3, "RGB"
    image.PlanarConfiguration = 0
    if place is not None:
        image.FrameOfReferenceUID = place
    file = save(image, tmp_path / "us.dcm")
    run = make_run(tmp_path / "run", plan_2d(channels=3), monkeypatch)
    predict(run, [file], out=tmp_path / "out", device="cpu", dicom_seg=True)
    written = tmp_path / "out/dicom/us.dcm"
    found = pydicom.dcmread(written)
    assert found.SegmentSequence[0].SegmentLabel == "organ"
    assert "FrameOfReferenceUID" not in found
    groups = [*found.SharedFunctionalGroupsSequence, *found.PerFrameFunctionalGroupsSequence]
    assert not any(name in group for group in groups for name in ("PlanePositionSequence", "PixelMeasuresSequence"))
    seg = highdicom.seg.segread(written)
    again = seg.get_pixels_by_source_instance([image.SOPInstanceUID], segment_numbers=[1])
    np.testing.assert_array_equal(again[0, ..., 0] == 1, bright)
    assert not (tmp_path / "out/dicom/uncertainty").exists()
    assert list((tmp_path / "out/uncertainty").iterdir()), "the map is there in the image's own kind of format"


def test_a_label_map_and_contours_on_request(run: Path, tmp_path: Path) -> None:
    volume = body()
    series = save_series(tmp_path / "scan", volume, FrameOfReferenceUID=FRAME_OF_REFERENCE, **PATIENT)
    scan, bright = read_scan(series), volume > 500
    predict(run, [series], out=tmp_path / "out", device="cpu", dicom_seg=True, labelmap=True, rtstruct=True)
    files = [tmp_path / "out/dicom/scan.dcm", tmp_path / "out/dicom/rtstruct/scan.dcm"]
    for file, uid in zip(files, ("1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.3"), strict=True):
        ds = pydicom.dcmread(file)
        assert (ds.SOPClassUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (uid, "1.2.3", FRAME_OF_REFERENCE)
        assert (ds.PatientID, "secret" in str(ds)) == ("someone", False)
        again = read_mask(file, (scan.array.shape[1:], scan.geometry))
        np.testing.assert_array_equal(again.array[0], bright.transpose(1, 0, 2))
        assert segment_names(Address.of(file)) == {1: "organ"}
    whole = highdicom.seg.segread(files[0]).get_volume(combine_segments=True)
    assert whole.array.sum() == bright.sum()

    predict(run, [series], out=tmp_path / "alone", device="cpu", rtstruct=True)
    assert [path.name for path in (tmp_path / "alone/dicom").iterdir()] == ["rtstruct"]
    with refused("labelmap-without-seg", naming="--dicom-seg"):
        predict(run, [series], out=tmp_path / "none", device="cpu", labelmap=True)
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    photo = save(slice_of(volume[..., 0], (0, 0, 0), "1.8", **bare, FrameOfReferenceUID="1.2.9"), tmp_path / "p.dcm")
    with refused("scans-failed", naming=["1 of 2", str(tmp_path / "two")]):
        predict(run, [series, photo], out=tmp_path / "two", device="cpu", rtstruct=True)
    assert "--rtstruct" in (tmp_path / "two/cases.csv").read_text()
