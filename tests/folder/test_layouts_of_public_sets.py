"""Layouts of public sets, with drawn scans: every image finds its own mask, and no option is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dicom_files import save_series
from small_scans import blob, picture, save, volume
from ucseg.dataset.case import Case
from ucseg.folder.answers import find_cases_unasked
from ucseg.types import Array


def mask(path: Path, number: int) -> None:
    label = np.zeros((8, 9, 10), np.uint8)
    label[2:5, 3:6, number % 8] = 1
    if path.name.endswith((".mhd", ".nrrd")):
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(label), str(path))
    else:
        volume(path, label)


def scan(path: Path) -> None:
    array: Array = np.random.default_rng(len(path.name)).normal(0, 20, (8, 9, 10)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def etis(folder: Path, number: int) -> None:
    picture(folder / f"images/{number}.tif")
    save(folder / f"masks/p{number}.tif", blob(255, number))


def sliver(folder: Path, number: int) -> None:
    scan(folder / f"liver-orig{number:03d}.mhd")
    mask(folder / f"liver-seg{number:03d}.mhd", number)


def channels_in_folders(folder: Path, number: int) -> None:
    for channel in range(2):
        scan(folder / f"Images/BREAST_MRI_{number:03d}/Breast_MRI_{number:03d}_{channel:04d}.nii.gz")
    mask(folder / f"Segs/Breast_MRI_{number:03d}.nii.gz", number)


def verse(folder: Path, number: int) -> None:
    name = f"sub-verse{number:03d}"
    scan(folder / f"rawdata/{name}/{name}_ct.nii.gz")
    mask(folder / f"derivatives/{name}/{name}_seg-vert_msk.nii.gz", number)
    picture(folder / f"derivatives/{name}/{name}_seg-vert_snp.png", number, 3)


def tn3k(folder: Path, number: int) -> None:
    for split in ("trainval", "test"):
        picture(folder / f"{split}-image/{split}{number}.jpg", number)
        save(folder / f"{split}-mask/{split}{number}.jpg", blob(255, number), quality=95)


def bkai(folder: Path, number: int) -> None:
    picture(folder / f"train/train/a{number}x.png", number, 3)
    save(folder / f"train_gt/train_gt/a{number}x.png", blob(255, number))
    picture(folder / f"test/test/b{number}x.png", number, 3)


def isic(folder: Path, number: int) -> None:
    picture(folder / f"Data/ISIC_{7 * number}.jpg", number, 3)
    picture(folder / f"Data/ISIC_{7 * number}_superpixels.png", number, 3)
    save(folder / f"GroundTruth/ISIC_{7 * number}_segmentation.png", blob(255, number))


def number_in(case: Case) -> tuple[str, str]:
    """The digits of an image's name and of its mask's."""
    assert case.mask is not None
    return tuple(
        "".join(filter(str.isdigit, name.stem.partition("_0000")[0])).lstrip("0") for name in (case.image, case.mask)
    )  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("layout", "masked", "without", "channels"),
    [
        (etis, 9, 0, 1),
        (sliver, 9, 0, 1),
        (channels_in_folders, 9, 0, 2),
        (verse, 9, 9, 1),
        (tn3k, 18, 0, 1),
        (bkai, 9, 9, 1),
        (isic, 9, 0, 1),
    ],
)
def test_each_image_finds_its_mask(tmp_path: Path, layout, masked: int, without: int, channels: int) -> None:
    for number in range(3, 12):
        layout(tmp_path, number)
    found, _ = find_cases_unasked(tmp_path)
    with_mask = [case for case in found.cases if case.mask is not None]
    assert (len(with_mask), len(found.cases) - len(with_mask)) == (masked, without)
    assert {len(case.image.files) for case in with_mask} == {channels}
    assert all(number == other != "" for number, other in map(number_in, with_mask))


def test_folders_that_name_a_split_and_a_role_do_both(tmp_path: Path) -> None:
    tn3k(tmp_path, 1)
    bkai(tmp_path, 2)
    picture(tmp_path / "images_val/c.png")
    save(tmp_path / "labels_val/c.png", blob())
    found = {case.image.name: (case.split, case.mask is not None) for case in find_cases_unasked(tmp_path)[0].cases}
    assert found == {
        "trainval1.jpg": ("train", True),
        "test1.jpg": ("test", True),
        "a2x.png": ("train", True),
        "b2x.png": ("test", False),
        "c.png": ("validation", True),
    }


@pytest.mark.parametrize("names", ["images/{}.png masks/{:04d}.png", "images/a{}.png masks/a{:03d}.png"])
def test_zeros_before_a_number_do_not_count(tmp_path: Path, names: str) -> None:
    image, mask_ = names.split()
    for number in range(1, 13):
        picture(tmp_path / image.format(number), number)
        save(tmp_path / mask_.format(number), blob(255, number))
    cases = find_cases_unasked(tmp_path)[0].cases
    assert {case.image.name: case.mask and case.mask.name for case in cases} == {
        Path(image.format(number)).name: Path(mask_.format(number)).name for number in range(1, 13)
    }


@pytest.mark.parametrize("labels", ["labels-02-05-2017/label{:04d}.nii.gz", "Training/PANCREAS-{:04d}.nrrd"])
def test_masks_find_dicom_series_by_a_number_in_their_path(tmp_path: Path, labels: str) -> None:
    """The Pancreas-CT and the prostates of NCI-ISBI: the series itself has another number."""
    for number in range(3, 12):
        patient = tmp_path / f"Scans/PANCREAS-{number:04d}/11-24-2015-{number * 3719:05d}"
        save_series(patient / f"{number * 7117:05d}", np.ones((8, 9, 10)), f"1.2.{number}")
        mask(tmp_path / labels.format(number), number)
    found, _ = find_cases_unasked(tmp_path)
    assert len(found.cases) == 9
    for case in found.cases:
        assert case.mask is not None
        assert f"PANCREAS-{''.join(filter(str.isdigit, case.mask.stem))}" in case.image.path.as_posix()


def test_of_numbered_raters_the_first_counts(tmp_path: Path) -> None:
    """The grey matter of SCGM: four masks of each spinal cord, as r1 to r4."""
    for number in range(40):
        name = f"site{1 + number % 4}-sc{1 + number // 4:02d}"
        scan(tmp_path / f"{name}-image.nii.gz")
        for rater in range(1, 5):
            label = np.zeros((8, 9, 10), np.uint8)
            label[2:6, 1 + rater : 6 + rater, number % 8] = 1
            volume(tmp_path / f"{name}-mask-r{rater}.nii.gz", label)
    found, _ = find_cases_unasked(tmp_path)
    assert {case.mask and case.mask.name for case in found.cases} == {
        case.image.name.replace("-image", "-mask-r1") for case in found.cases
    }
    assert len(found.cases) == 40


def test_files_beside_some_images_alone_stay_images(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / f"a{number}.png", number)
        save(tmp_path / f"a{number}_mask.png", blob(255, number))
        if number < 6:
            picture(tmp_path / f"a{number}_later.png", number)
    assert len(find_cases_unasked(tmp_path)[0].cases) == 18
