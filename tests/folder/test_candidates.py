"""Files that look like labels are never images unasked, and two candidates for the label are a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusals import refused
from small_scans import blob, picture, save
from ucseg.folder.pairing import find_cases


def draw(folder: Path, images: str, *masks: str, count: int = 4) -> None:
    for i in range(count):
        picture(folder / images.format(i), i, channels=3)
        for mask in masks:
            save(folder / mask.format(i), blob(255, where=i))


@pytest.mark.parametrize(
    ("images", "masks", "patterns"),
    [
        ("Imgs/{}.jpg", ["GT/{}.png", "Edge/{}.png", "Prior/{}.png"], ["GT/*", "Edge/*", "Prior/*"]),
        (
            "training/images/{}1_training.png",
            ["training/mask/{}1_training_mask.png", "training/1st_manual/{}1_manual1.png"],
            ["training/mask/*", "training/1st_manual/*"],
        ),
        ("Original/{}.png", ["Ground Truth/{}.png", "GT-1/{}.png"], ["Ground Truth/*", "GT-1/*"]),
        ("set/{}.png", ["edges/{}.png"], ["edges/*"]),
        ("images/{}.png", ["masks/{}.png", "annotations/{}.png"], ["masks/*", "annotations/*"]),
        ("c_{}.jpg", ["c_{}_1stHO.png", "c_{}_2ndHO.png"], ["*_1stHO.png", "*_2ndHO.png"]),
        ("{}a.png", ["{}a_mask.png", "{}a_outline.png"], ["*_mask.png", "*_outline.png"]),
    ],
)
def test_two_candidates_are_a_question_and_a_pattern_answers_it(
    tmp_path: Path, images: str, masks: list[str], patterns: list[str]
) -> None:
    draw(tmp_path, images, *masks)
    with refused("label-candidates", naming=["--masks", *(f"'{pattern}'" for pattern in patterns)]):
        find_cases(tmp_path)
    for mask, pattern in zip(masks, patterns, strict=True):
        found = find_cases(tmp_path, masks_glob=pattern)
        assert {
            (case.image.below(tmp_path), case.mask.below(tmp_path) if case.mask else "") for case in found.cases
        } == {(images.format(i), mask.format(i)) for i in range(4)}


def test_a_candidate_of_images_without_a_mask_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "a{}.png", "a{}_mask.png")
    draw(tmp_path, "b{}.png", "b{}_outline.png", count=2)
    found = find_cases(tmp_path)
    assert {case.image.name for case in found.cases} == {f"a{i}.png" for i in range(4)} | {"b0.png", "b1.png"}
    assert {item.file.name for item in found.left_out if not item.rightly} == {"b0_outline.png", "b1_outline.png"}


def test_another_kind_of_image_beside_stays_an_image(tmp_path: Path) -> None:
    draw(tmp_path, "T1/{}.png")
    draw(tmp_path, "T2/{}.png")
    draw(tmp_path, "labels/{}.png")
    assert {case.image.parent.name for case in find_cases(tmp_path).cases} == {"T1", "T2"}


def test_files_that_the_user_calls_images_are_images(tmp_path: Path) -> None:
    draw(tmp_path, "set/{}.png", "edges/{}.png")
    assert len(find_cases(tmp_path, images_glob="*.png").cases) == 8
