"""Several files as the channels of one case."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from PIL import Image

from refusals import refused
from ucseg.cli.init import init
from ucseg.folder.inputs import find_inputs
from ucseg.folder.like_training import Wanted
from ucseg.scans.address import Address
from ucseg.scans.channels import missing_channels
from ucseg.scans.reading import files_of, read_header, read_mask, read_scan

IMAGE = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def test_channels_of_one_grid_are_one_case(tmp_path):
    for i in range(10):
        image = np.roll(IMAGE, i, 0)
        for channel in range(2):
            save(tmp_path / "imagesTr" / f"c{i}_{channel:04d}.nii.gz", image + channel)
        if i < 9:
            save(tmp_path / "labelsTr" / f"c{i}.nii.gz", (image > 0.5).astype(np.uint8))
    dataset = init(tmp_path, out=tmp_path / "data")
    assert (dataset.config.channels, len(dataset.cases)) == (2, 10)
    case = next(case for case in dataset.cases if case.case == "c9")
    assert case.image.name == "c9_{0000,0001}.nii.gz"
    assert case.mask is None
    scan = read_scan(case.image)
    assert np.array_equal(scan.array, [np.roll(IMAGE, 9, 0), np.roll(IMAGE, 9, 0) + 1])
    assert read_header(case.image)[2] == 2
    assert len(files_of(case.image)) == 2
    items = find_inputs([tmp_path / "imagesTr"], tmp_path / "out", wanted=Wanted(channels=2)).scans
    assert sorted(item.case for item in items) == [f"c{i}" for i in range(10)]


def test_channels_that_part_are_refused(tmp_path):
    save(tmp_path / "a_0000.nii", IMAGE)
    save(tmp_path / "a_0001.nii", IMAGE, np.diag([1, 1, 1.5, 1]))
    save(tmp_path / "b_0000.nii", IMAGE)
    save(tmp_path / "b_0001.nii", IMAGE[1:])
    save(tmp_path / "c_0000.nii", IMAGE)
    save(tmp_path / "d_0000.nii", IMAGE)
    save(tmp_path / "d_0001.nii", IMAGE, np.diag([1, 1, 1 + 0.1 / 7, 1]))  # a corner is off by less than a tenth
    for name, kind in {"a": "channel-place", "b": "channel-shape", "c": "scan-missing"}.items():
        for reader in (read_scan, read_header):
            with refused(kind, naming=f"{name}_0001.nii"):
                reader(tmp_path / f"{name}_{{0000,0001}}.nii")
    assert read_header(tmp_path / "d_{0000,0001}.nii")[2] == 2
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "e_0001.png")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "e_0000.png")
    with refused("channel-colours", naming=["e_0001.png", 3]):
        read_scan(tmp_path / "e_{0000,0001}.png")


def test_parts_of_a_mask_are_one_mask(tmp_path):
    first, second = np.zeros((2, 4, 5), np.uint8)
    first[0], second[:2, 1] = 255, 7
    for name, array in {"m.png": first, "m_1.png": second, "wide.png": first[:, :4], "red.png": None}.items():
        picture = np.stack([first, first * 0, first], -1) if array is None else array
        Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / "m{,_1}.png").array[0], np.maximum(first, second))
    with refused("mask-parts", naming=["wide.png", (4, 4), "m.png", (4, 5)]):
        read_mask(tmp_path / "{m,wide}.png")
    with refused("mask-colours", naming="red.png"):
        read_mask(tmp_path / "{m,red}.png")


def test_a_mask_may_have_one_channel_a_class(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    planes = np.stack([labels == value for value in range(4)], axis=-1)
    for name, array in (("classes", planes[..., 1:]), ("with_background", planes), ("bytes", 255 * planes[..., 1:])):
        nib.save(nib.Nifti1Image(array.astype(np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
        assert np.array_equal(read_mask(tmp_path / f"{name}.nii.gz#channels").array[0], labels), name
    both = planes[..., 1:].copy()
    both[0, :3] = True
    nib.save(nib.Nifti1Image(both.astype(np.uint8), np.eye(4)), tmp_path / "both.nii.gz")
    with refused("segments-overlap", naming="both.nii.gz"):
        read_mask(tmp_path / "both.nii.gz#channels")
    regions = np.stack([labels == 0, labels >= 1, labels >= 2, labels >= 3], axis=-1).astype(np.uint8)
    for name, array in (("regions", regions[..., 1:]), ("regions_and_background", regions)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
        assert np.array_equal(read_mask(tmp_path / f"{name}.nii.gz#channels").array[0], labels), name
    nib.save(nib.Nifti1Image(planes * np.float32(0.5) + planes[::-1] * 0.25, np.eye(4)), tmp_path / "soft.nii.gz")
    with refused("mask-channel-values", naming=["soft.nii.gz", "0.25"]):
        read_mask(tmp_path / "soft.nii.gz#channels")


def test_a_channel_that_is_not_there_is_named(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "c.nii.gz"):
        (tmp_path / name).touch()
    assert missing_channels(Address.of(tmp_path / "b_0001.nii.gz"), 2).endswith("b_0000.nii.gz is not there")
    assert "b_0000.nii.gz and b_0002.nii.gz are" in missing_channels(Address.of(tmp_path / "b_0001.nii.gz"), 3)
    assert missing_channels(Address.of(tmp_path / "a_{0000,0001}.nii.gz"), 2) == ""
    assert missing_channels(Address.of(tmp_path / "c.nii.gz"), 2) == ""
