"""Which files are images and which are masks, by the layouts and names that people have, and by patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusals import refused
from small_scans import blob, picture, save
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.roles import own_split


def pairs(found: Found, folder: Path) -> dict[str, tuple[str, str]]:
    """Case -> image and mask, below the folder."""
    return {case.case: (case.image.below(folder), case.mask.below(folder) if case.mask else "") for case in found.cases}


@pytest.mark.parametrize(
    ("image", "mask", "case"),
    [
        ("images/{}.png", "labels/{}.png", "{}"),
        ("image/{}.png", "mask/{}.png", "{}"),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png", "{}"),
        ("images/{}.jpg", "masks/{}_segmentation.png", "{}"),
        ("{}.png", "{}_mask.png", "{}"),
        ("images/{}.png", "images/{}_mask.png", "{}"),
        ("{}.png", "{}_seg.png", "{}"),
        ("{}.png", "{}_Annotation.png", "{}"),
        ("{}.png", "{} mask.png", "{}"),
        ("{}.png", "{}_lbl.png", "{}"),
        ("{}.png", "{}_roi.png", "{}"),
        ("{}.png", "mask_{}.png", "{}"),
        ("{}.png", "seg-{}.png", "{}"),
        ("image_{}.png", "mask_{}.png", "image_{}"),
        ("images/img_{}.png", "labels/label_{}.png", "img_{}"),
        ("images/{}.png", "images/label_{}.png", "{}"),
        ("images/{}_roi.png", "masks/{}_roi.png", "{}_roi"),
        ("images/label_{}.png", "masks/label_{}.png", "label_{}"),
        ("images/{}_seg.png", "masks/{}_seg.png", "{}_seg"),
        ("{}_image.png", "{}_label.png", "{}"),
        ("{}/image.png", "{}/mask.png", "{}"),
        ("{}/scan/{}_T1.png", "derivatives/labels/{}/{}_T1_seg-manual.png", "{}_T1"),
    ],
)
def test_usual_layouts_pair(tmp_path: Path, image: str, mask: str, case: str) -> None:
    for i, name in enumerate(("a", "b", "c")):
        picture(tmp_path / image.format(name, name), i)
        if name != "c":
            save(tmp_path / mask.format(name, name), blob(where=i))
    assert pairs(find_cases(tmp_path), tmp_path) == {
        case.format(name): (image.format(name, name), "" if name == "c" else mask.format(name, name))
        for name in ("a", "b", "c")
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a_roi", "b_roi", "mask_c", "seg_d"], []),  # nothing beside them that they could be masks of
        (["a", "a_roi", "b", "label_b"], ["a_mask", "b_mask"]),  # the images have their masks
        (["images/a", "images/a_roi", "images/seg_a"], ["masks/a", "masks/a_roi", "masks/seg_a"]),
        (["a", "a_roi"], ["a_roi_mask"]),
        (["images/a", "images/a_roi"], ["masks/a_roi"]),
    ],
)
def test_images_whose_names_hold_a_word_for_masks_stay_images(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    for name in images:
        picture(tmp_path / f"{name}.png")
    for name in masks:
        save(tmp_path / f"{name}.png", blob())
    cases = find_cases(tmp_path).cases
    assert {case.image.path.relative_to(tmp_path).with_suffix("").as_posix() for case in cases} == set(images)
    assert sum(case.mask is not None for case in cases) == len(masks)


def test_globs_say_which_is_which(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "all" / f"T1_{name}.png")
        picture(tmp_path / "all" / f"T2_{name}.png")
        save(tmp_path / "all" / f"{name}_lesion.png", blob())
    found = find_cases(tmp_path, "all/T1_*.png", "*_lesion.png")
    assert pairs(found, tmp_path) == {name: (f"all/T1_{name}.png", f"all/{name}_lesion.png") for name in ("a", "b")}
    assert [(item.file.name, item.rightly) for item in found.left_out] == [("T2_a.png", True), ("T2_b.png", True)]
    for option, patterns in (("--images", ("*.tif", None)), ("--masks", (None, "*.tif"))):
        with refused("pattern-no-file", naming=[option, "*.tif"]):
            find_cases(tmp_path, *patterns)


def test_stars_that_stand_for_other_parts_of_names_pair_by_the_names(tmp_path: Path) -> None:
    for number in range(10, 26):
        picture(tmp_path / f"{number}_HC.png")
        save(tmp_path / f"{number}_HC_Annotation.png", blob(where=number % 5))
    found = find_cases(tmp_path, "1*HC.png", "1*_Annotation.png")
    assert pairs(found, tmp_path) == {f"{n}_HC": (f"{n}_HC.png", f"{n}_HC_Annotation.png") for n in range(10, 20)}
    assert len(found.left_out) == 12


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/images/a.png", "train"),
        ("imagesTs/a.png", "test"),
        ("Validation/test/a.png", "validation"),
        ("trained/a.png", ""),
        ("test.png", ""),
    ],
)
def test_the_outermost_folder_of_a_split_counts(path: str, split: str) -> None:
    assert own_split(Path(path)) == split
