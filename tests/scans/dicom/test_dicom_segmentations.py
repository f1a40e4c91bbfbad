"""DICOM segmentations and .seg.nrrd as masks: placed on their image, classes by the segments' names."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_files import save, save_series, segmentation, slice_of
from refusals import refused
from ucseg.cli.check import check
from ucseg.cli.init import init
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.scans.address import Address
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


def test_what_does_not_lie_on_the_image_or_overlaps_is_refused(tmp_path):
    scan = read_scan(save_series(tmp_path / "image", VOLUME))
    names = {1: "liver", 2: "spleen"}
    frames, places, numbers = frames_of((0, 1))
    bad = {
        "segments-overlap": segmentation(frames[[0, 0]] | True, places[:2], [1, 2], names, "1"),
        "seg-outside": segmentation(frames, [(10, 20, z) for z in (300, 300, 302, 302)], numbers, names, "1"),
        "seg-between": segmentation(frames, [(10, 20, 31), *places[1:]], numbers, names, "1"),
        "seg-not-binary": segmentation(frames, places, numbers, names, "1"),
        "seg-pixels": segmentation(frames, places, numbers, names, "1"),
    }
    bad["seg-not-binary"].SegmentationType = "FRACTIONAL"
    bad["seg-pixels"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    for kind, ds in bad.items():
        path = save(ds, tmp_path / "bad.dcm")
        with refused(kind, naming=path):
            read_label(path, scan.array.shape[1:], CONFIG, scan.geometry)


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
