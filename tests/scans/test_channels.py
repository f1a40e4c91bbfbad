"""Several files as the channels of one case."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ucseg.cli.init import init
from ucseg.errors import UserError
from ucseg.folder.inputs import find_inputs
from ucseg.scans.address import Address
from ucseg.scans.reading import files_of, read_header, read_scan

IMAGE = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def test_addresses_there_and_back(tmp_path):
    files = [tmp_path / f"a_000{i}.nii.gz" for i in range(3)]
    address = Address.of_channels(files[::-1])
    assert address == Address.of(tmp_path / "a_{0000,0001,0002}.nii.gz")
    assert list(address.files) == files
    assert Address.of_channels([files[0], files[2]]) is None
    assert Address.of(tmp_path / "{t1,t2}" / "b.nii").files == (tmp_path / "t1" / "b.nii", tmp_path / "t2" / "b.nii")


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
    items = find_inputs([tmp_path / "imagesTr"], tmp_path / "out", channels=2).scans
    assert sorted(item.case for item in items) == [f"c{i}" for i in range(10)]


def test_channels_that_part_are_refused(tmp_path):
    save(tmp_path / "a_0000.nii", IMAGE)
    save(tmp_path / "a_0001.nii", IMAGE, np.diag([1, 1, 1.5, 1]))
    save(tmp_path / "b_0000.nii", IMAGE)
    save(tmp_path / "b_0001.nii", IMAGE[1:])
    save(tmp_path / "c_0000.nii", IMAGE)
    for name, word in (("a", "does not lie where"), ("b", "has shape"), ("c", "no such file")):
        for reader in (read_scan, read_header):
            with pytest.raises(UserError, match=word) as caught:
                reader(tmp_path / f"{name}_{{0000,0001}}.nii")
            assert f"{name}_0001.nii" in str(caught.value)
