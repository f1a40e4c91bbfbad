"""Four modalities in as many formats in one folder: a dataset of the commonest kind, other files named with why."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from PIL import Image

import ucseg
from dicom_files import save, save_series, segmentation
from ucseg.dataset.masks import read_label
from ucseg.scans.reading import read_scan


def test_a_mixed_folder_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, random = tmp_path / "scans", np.random.default_rng(0)
    inside = np.zeros((6, 5, 7), np.uint8)
    inside[2:4, 1:4, 2:5] = 1
    for k in range(4):
        values = random.integers(0, 500, inside.shape).astype(np.int16)
        (scans / "mr").mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), scans / f"mr/mr{k}.nii.gz")
        nib.save(nib.Nifti1Image(inside, np.eye(4)), scans / f"mr/mr{k}_seg.nii.gz")
        save_series(scans / f"ct{k}", values - np.int16(1000), f"1.4.{k}", PatientID=f"ct{k}")
        frames, places = inside.transpose(2, 0, 1)[2:5], [(10, 20, 30 + 2 * z) for z in (2, 3, 4)]
        seg = segmentation(frames, places, [1] * 3, {1: "foreground"}, f"1.4.{k}")
        seg.PatientID = f"ct{k}"
        save(seg, scans / f"ct{k}" / "mask.dcm")
        (scans / "pet").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(scans / f"pet/pet{k}.mha"))
    for folder, channels, ending in (("us", 1, "png"), ("skin", 3, "jpg")):
        (scans / folder).mkdir()
        for k in range(2):
            picture = random.integers(0, 255, (20, 24, channels)).astype(np.uint8).squeeze()
            Image.fromarray(picture).save(scans / folder / f"{folder}{k}.{ending}")
    dataset = ucseg.init(scans, out=tmp_path / "data", validation="1", test="1")
    said = capsys.readouterr().out
    assert (dataset.config.dims, dataset.config.channels, len(dataset.cases)) == (3, 1, 12)
    assert sum(case.mask is not None for case in dataset.cases) == 8
    assert "subjects  12: " in said, "only those of the dataset"
    for name in ("us/us0.png", "us/us1.png", "skin/skin0.jpg", "skin/skin1.jpg"):
        assert f"  {name}: " in said
    for case in dataset.cases:
        if case.mask is not None:
            scan = read_scan(case.image)
            label = read_label(case.mask, scan.array.shape[1:], dataset.config, scan.geometry)
            expected = inside.transpose(1, 0, 2) if "ct" in case.case else inside
            np.testing.assert_array_equal(label, expected)
