"""DICOM segmentations and .seg.nrrd as masks: placed on their image, classes by the segments' names."""

from __future__ import annotations

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.sr.coding import CodedConcept

from dicom_files import save, save_series, segmentation, slice_of
from refusals import refused
from ucseg.cli.check import check
from ucseg.cli.init import init
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.folder.understanding import ImportOptions, understand
from ucseg.scans.address import Address
from ucseg.scans.dicom.results import Algorithm, source_of, write
from ucseg.scans.dicom.results import segmentation as segmentation_of
from ucseg.scans.reading import read_mask, read_scan, segment_names

VOLUME = np.random.default_rng(0).integers(-1000, 2000, (6, 5, 7)).astype(np.int16)
LIVER, SPLEEN = VOLUME > 1000, VOLUME < -500
CONFIG = DatasetConfig(
    name="d", root=".", dims=3, modality="ct", channels=1, classes={0: "background", 1: "liver", 2: "spleen"}
)
TRUE = (LIVER * 1 + SPLEEN * 2).transpose(1, 0, 2)


def frames_of(order, liver=1, spleen=2):
    frames = [mask[..., k] for k in order for mask in (LIVER, SPLEEN)]
    return np.array(frames), [(10, 20, 30 + 2 * k) for k in order for _ in range(2)], [liver, spleen] * len(order)


def test_frames_go_where_their_image_lies_and_names_are_classes(tmp_path):
    scan = read_scan(save_series(tmp_path / "image", VOLUME))
    names = {1: "spleen", 2: "Liver"}
    path = save(segmentation(*frames_of((4, 0, 2, 3), 2, 1), names, "1.2.3.4"), tmp_path / "seg.dcm")
    expected = np.where(np.isin(np.arange(7), (0, 2, 3, 4)), TRUE, 0)
    assert np.array_equal(read_label(path, scan.array.shape[1:], CONFIG, scan.geometry), expected)
    assert segment_names(Address.of(path)) == names
    assert read_mask(path).array.shape == (1, 5, 6, 5)
    with refused("dicom-seg-as-image", naming=path):
        read_scan(path)


def test_frames_of_one_slice_may_differ_by_a_millionth(tmp_path):
    """Beside half a digit two rounded heights would be two slices, and the grid a thousand times as long."""
    frames, places, numbers = frames_of((0, 1, 2))
    places = [(x, y, z + 0.0005 + (1e-6 if k % 2 else -1e-6)) for k, (x, y, z) in enumerate(places)]
    path = save(segmentation(frames, places, numbers, {1: "liver", 2: "spleen"}, "1.2.3.4"), tmp_path / "seg.dcm")
    assert read_mask(path).array.shape == (1, 5, 6, 3)


def test_what_does_not_lie_on_the_image_or_overlaps_is_refused(tmp_path):
    scan = read_scan(save_series(tmp_path / "image", VOLUME))
    names = {1: "liver", 2: "spleen"}
    frames, places, numbers = frames_of((0, 1))
    bad = {
        "segments-overlap": segmentation(frames[[0, 0]] | True, places[:2], [1, 2], names, "1"),
        "seg-outside": segmentation(frames, [(10, 20, z) for z in (300, 300, 302, 302)], numbers, names, "1"),
        "seg-between": segmentation(frames, [(10, 20, 31), *places[1:]], numbers, names, "1"),
        "seg-type": segmentation(frames, places, numbers, names, "1"),
        "seg-maximum": segmentation(frames, places, numbers, names, "1"),
        "seg-pixels": segmentation(frames, places, numbers, names, "1"),
    }
    bad["seg-type"].SegmentationType = "NEW"
    bad["seg-maximum"].SegmentationType = "FRACTIONAL"
    bad["seg-pixels"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    for kind, ds in bad.items():
        path = save(ds, tmp_path / "bad.dcm")
        with refused(kind, naming=path):
            read_label(path, scan.array.shape[1:], CONFIG, scan.geometry)


def by_highdicom(scan, pixels, kind, numbers, path, **more):
    """A SEG of a series as highdicom makes it: rows x columns x slices of numbers, or with a last axis of fractions."""
    tissue = CodedConcept("85756007", "SCT", "Tissue")
    described = [highdicom.seg.SegmentDescription(n, f"part {n}", tissue, tissue, "MANUAL") for n in numbers]
    made = highdicom.seg.Segmentation(
        source_of(scan).images, np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), kind, described, highdicom.UID(), 1,
        highdicom.UID(), 1, "x", "x", "1", "1", content_label="MASK", **more,
    )  # fmt: skip
    made.save_as(path)
    return path


def test_a_label_map_holds_the_numbers_of_its_segments(tmp_path):
    scan = read_scan(save_series(tmp_path / "image", VOLUME, FrameOfReferenceUID="1.2.3.99"))
    drawn = (LIVER * 300 + SPLEEN * 7).astype(np.uint16)
    path = by_highdicom(scan, drawn, "LABELMAP", (7, 300), tmp_path / "map.dcm")
    found = read_mask(path, (scan.array.shape[1:], scan.geometry))
    assert np.array_equal(found.array[0], drawn.transpose(1, 0, 2))
    assert segment_names(Address.of(path)) == {7: "part 7", 300: "part 300"}, "the background is no segment"
    low = by_highdicom(scan, (LIVER * 2).astype(np.uint8), "LABELMAP", (2,), tmp_path / "low.dcm")
    found = read_mask(low, (scan.array.shape[1:], scan.geometry))
    assert (found.array.dtype, np.array_equal(found.array[0], 2 * LIVER.transpose(1, 0, 2))) == (np.uint8, True)
    other = pydicom.dcmread(low)
    other.SegmentSequence[1].SegmentNumber = 9
    other.save_as(tmp_path / "other.dcm")
    with refused("seg-segments", naming=tmp_path / "other.dcm"):
        read_mask(tmp_path / "other.dcm", (scan.array.shape[1:], scan.geometry))


def test_of_fractions_half_and_more_count(tmp_path):
    scan = read_scan(save_series(tmp_path / "image", VOLUME, FrameOfReferenceUID="1.2.3.99"))
    grid = (scan.array.shape[1:], scan.geometry)
    whole = np.stack([LIVER, SPLEEN], -1).astype(np.float32)
    path = by_highdicom(scan, whole, "FRACTIONAL", (1, 2), tmp_path / "whole.dcm")
    assert np.array_equal(read_mask(path, grid).array[0], TRUE)
    parts = np.zeros((*VOLUME.shape, 2), np.float32)
    parts[0, 0, :5, 0], parts[0, 0, :5, 1] = (0.49, 0.5, 0.9, 0.5, 0.2), (0.5, 0.4, 0.1, 0.5, 0.1)
    path = by_highdicom(scan, parts, "FRACTIONAL", (1, 2), tmp_path / "parts.dcm", max_fractional_value=100)
    assert read_mask(path, grid).array[0, 0, 0].tolist() == [2, 1, 1, 1, 0, 0, 0]
    parts[0, 0, 0] = 0.6
    path = by_highdicom(scan, parts, "FRACTIONAL", (1, 2), tmp_path / "two.dcm")
    with refused("segments-overlap", naming=path):
        read_mask(path, grid)


def test_init_reports_fractions_and_leaves_out_what_is_no_image(tmp_path):
    for patient in range(4):
        scan = read_scan(
            save_series(tmp_path / f"s/p{patient}/ct", VOLUME, f"1.9.{patient}", FrameOfReferenceUID="1.2.3.99")
        )
        whole = LIVER[..., None].astype(np.float32)
        whole = whole if patient else LIVER.astype(np.uint8)
        by_highdicom(scan, whole, "FRACTIONAL" if patient else "LABELMAP", (1,), tmp_path / f"s/p{patient}/seg.dcm")
        dose = slice_of(VOLUME[..., 0], (0, 0, 0), f"1.8.{patient}", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2")
        save(dose, tmp_path / f"s/p{patient}/dose.dcm")
    found = understand(tmp_path / "s", ImportOptions(), ".")
    assert len(found.cases) == 4
    assert all(case.mask for case in found.cases)
    assert any(note.startswith("segmentations that state parts of voxels: 3") for note in found.notes)
    assert ([item.file.name for item in found.left_out], found.to_fix) == (["dose.dcm"] * 4, {})


def test_a_segmentation_without_a_place_lies_on_the_pixels_of_its_image(tmp_path):
    grey = (VOLUME[..., 0] > 0).astype(np.uint8)
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}
    scan = read_scan(save(slice_of(grey, (0, 0, 0), "1.2", **bare), tmp_path / "image.dcm"))
    path = tmp_path / "mask.dcm"
    write(segmentation_of(2 * grey, source_of(scan), {0: "b", 1: "one", 2: "two"}, {}, Algorithm("m", "w")), path)
    for grid in (None, (scan.array.shape[1:], scan.geometry)):
        assert np.array_equal(read_mask(path, grid).array[0], 2 * grey)
    with refused("seg-size", naming=path):
        read_mask(path, ((6, 6), scan.geometry))


def test_series_and_segmentations_of_one_folder_become_a_dataset(tmp_path):
    for patient in range(10):
        folder = tmp_path / "scans" / f"p{patient}"
        volume = VOLUME + np.int16(patient)
        for k in range(7):
            ds = slice_of(volume[..., k], (10, 20, 30 + 2 * k), f"1.9.{patient}", PatientID=f"id{patient}")
            save(ds, folder / f"i{k}.dcm")
        numbers = (1, 2) if patient % 2 else (2, 1)
        frames, places, segments = frames_of(range(7), *numbers)
        names = {numbers[0]: "liver", numbers[1]: "spleen"}
        if patient < 9:
            seg = segmentation(frames, places, segments, names, f"1.9.{patient}")
            seg.PatientID = f"id{patient}"
            save(seg, folder / "anything.dcm")
    dataset = init(tmp_path / "scans", out=tmp_path / "data", classes="liver,spleen", validation="1", test="1")
    assert sum(case.mask is not None for case in dataset.cases) == 9
    for case in dataset.cases[:2]:
        scan = read_scan(case.image)
        assert case.mask is not None
        label = read_label(case.mask, scan.array.shape[1:], dataset.config, scan.geometry)
        assert np.array_equal(label, TRUE)
    assert not [finding for finding in check(tmp_path / "data") if finding.severity == "error"]
    named = init(tmp_path / "scans", out=tmp_path / "named", validation="1", test="1")
    assert sorted(named.config.classes.values()) == ["background", "liver", "spleen"]


@pytest.mark.real
def test_the_names_of_a_real_seg_nrrd(shared_data):
    names = segment_names(Address.of(shared_data / "fixtures" / "ct" / "Segmentation.seg.nrrd"))
    assert len(names) > 1
    assert all(names.values())
