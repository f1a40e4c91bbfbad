"""Masks find their images, cases get names that differ, and what does not fit is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusals import refused
from small_scans import blob, picture, save
from ucseg.folder.pairing import find_cases


def draw(folder: Path, *names: str) -> None:
    for name in names:
        if "mask" in name:
            save(folder / f"{name}.png", blob())
        else:
            picture(folder / f"{name}.png")


def test_a_mask_without_an_image_and_a_second_mask_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "images/a", "masks/a", "masks/lonely", "images/a_mask")
    found = find_cases(tmp_path)
    assert [case.mask.below(tmp_path) for case in found.cases if case.mask] == ["masks/a.png"]
    assert {item.file.name: "a.png" in item.reason for item in found.left_out} == {
        "a_mask.png": True,
        "lonely.png": False,
    }
    assert not any(item.rightly for item in found.left_out)


def test_a_mask_that_fits_several_images_belongs_to_none(tmp_path: Path) -> None:
    draw(tmp_path, "one/images/a", "two/images/a", "masks/a")
    found = find_cases(tmp_path)
    assert [(case.case, case.mask) for case in found.cases] == [("one_a", None), ("two_a", None)]
    (left,) = found.left_out
    assert left.file == tmp_path / "masks/a.png"
    assert " 2 images" in left.reason


def test_cases_of_one_name_get_their_folders_or_the_second_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "x/a", "y/a", "z_a")
    assert [case.case for case in find_cases(tmp_path).cases] == ["x_a", "y_a", "z_a"]
    draw(tmp_path, "x_a")
    found = find_cases(tmp_path)
    assert [case.case for case in found.cases] == ["x_a", "y_a", "z_a"]
    (left,) = found.left_out
    assert "'x_a'" in left.reason


@pytest.mark.parametrize("gap", [False, True])
def test_channels_are_one_case_if_their_numbers_have_no_gap(tmp_path: Path, gap: bool) -> None:
    draw(tmp_path, "images/a_0000", f"images/a_000{1 + gap}", "masks/a_mask", "images/b_0007")
    found = find_cases(tmp_path)
    if gap:
        assert [item.file.name for item in found.left_out][:2] == ["a_0000.png", "a_0002.png"]
    else:
        case = next(case for case in found.cases if case.case == "a")
        assert case.image.several and case.mask is not None


def test_own_folders_are_splits_and_names_stay_apart(tmp_path: Path) -> None:
    for split in ("train", "val", "TestDataset/clinic"):
        draw(tmp_path, *(f"{split}/{kind}/{i}" for kind in ("images", "masks") for i in range(3)))
    cases = find_cases(tmp_path).cases
    assert [(case.case, case.split) for case in cases if case.case.endswith("_0")] == [
        ("TestDataset_clinic_0", "test"),
        ("train_0", "train"),
        ("val_0", "validation"),
    ]
    assert all(case.mask is not None and case.mask.parent.parent == case.image.parent.parent for case in cases)


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    with refused("folder-missing", naming=tmp_path / "gone"):
        find_cases(tmp_path / "gone")
    (tmp_path / "notes.txt").touch()
    with refused("no-image", naming=[tmp_path, ".nii.gz"]):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p{}/scan.png", "p{}/scan_seg.png"),
        ("p{}/visit1/scan.png", "p{}/visit1/scan_seg.png"),
        ("images/a/p{}/scan.png", "labels/b/p{}/scan.png"),
    ],
)
def test_a_mask_whose_image_is_lost_finds_no_other_one(tmp_path: Path, image: str, mask: str) -> None:
    for i in range(8):
        if i != 5:
            picture(tmp_path / image.format(i))
        if i != 3:
            save(tmp_path / mask.format(i), blob())
    found = find_cases(tmp_path)
    pairs = {case.image.below(tmp_path): case.mask and case.mask.below(tmp_path) for case in found.cases}
    expected = {image.format(i): mask.format(i) for i in range(8) if i != 5}
    assert pairs == expected | {image.format(3): None}
    assert [one.file.relative_to(tmp_path).as_posix() for one in found.left_out] == [mask.format(5)]


@pytest.mark.parametrize(
    ("others", "image", "mask"),
    [
        ("images/p{}/visit0/scan.png", "images/p{}/visit1/scan.png", "labels/p{}/visit1/scan.png"),
        ("train/images/{}.png", "test/images/{}.png", "test/masks/{}.png"),
    ],
)
def test_nor_the_image_of_another_visit_or_split(tmp_path: Path, others: str, image: str, mask: str) -> None:
    for i in range(8):
        picture(tmp_path / others.format(i))
        save(tmp_path / mask.format(i), blob())
        if i < 4:
            picture(tmp_path / image.format(i))
    found = find_cases(tmp_path)
    pairs = {case.image.below(tmp_path): case.mask.below(tmp_path) for case in found.cases if case.mask is not None}
    assert pairs == {image.format(i): mask.format(i) for i in range(4)}
    assert len(found.cases) == 12
    assert len(found.left_out) == 4
