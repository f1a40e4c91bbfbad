"""Files that look like labels are never images: one kind are the masks, two kinds are a question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from small_scans import SIZE, blob, picture, save
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
            ["training/mask/*", "*_manual1.png"],
        ),
        ("Original/{}.png", ["Ground Truth/{}.png", "GT-1/{}.png"], ["Ground Truth/*", "GT-1/*"]),
        ("images/{}.png", ["masks/{}.png", "annotations/{}.png"], ["masks/*", "annotations/*"]),
        ("us/1{0}/us_1.png", ["seg/1{}-1.png", "bbox/1{}-1.png"], ["seg/*", "bbox/*"]),
        ("1{}0/t1.png", ["1{}0/t1_seg.png", "1{}0/brain.png"], ["*_seg.png", "**/brain.png"]),
        ("c_{}.jpg", ["c_{}_ah.png", "c_{}_vk.png"], ["*_ah.png", "*_vk.png"]),
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


@pytest.mark.parametrize(
    ("images", "masks", "pattern"),
    [
        ("set/{}.png", "edges/{}.png", "edges/*"),
        ("train_{}.bmp", "train_{}_outline.bmp", "*_outline.bmp"),
        ("P{0}00/P{0}00_Photo/P{0}00.bmp", "P{0}00/P{0}00_lesion/P{0}00_lesion.bmp", "*_lesion.bmp"),  # PH2
        ("{0}A{0}F9/lgemri.tif", "{0}A{0}F9/laendo.tif", "**/laendo.tif"),  # left atria
        ("set/a/g00{}.jpg", "drawn/discs/a/g00{}.bmp", "drawn/discs/a/*"),  # REFUGE
        ("ct_scans/cases_org_00{}.png", "infection/cases_00{}.png", "infection/*"),
        ("photo/{}.png", "drawn [final]/{}.png", "drawn [[]final]/*"),
        ("{0}00/photo.png", "{0}00/drawn [a].png", "**/drawn [[]a].png"),
        ("c{}.png", "c{} drawn [a].png", "* drawn [[]a].png"),
    ],
)
def test_one_kind_of_files_that_look_like_labels_are_the_masks(
    tmp_path: Path, images: str, masks: str, pattern: str
) -> None:
    draw(tmp_path, images, masks)
    found = find_cases(tmp_path)
    assert {(case.image.below(tmp_path), case.mask.below(tmp_path) if case.mask else "") for case in found.cases} == {
        (images.format(i), masks.format(i)) for i in range(4)
    }
    assert f"--masks '{pattern}'" in found.notes[0]
    assert not found.left_out


def test_numbers_of_several_hospitals_do_not_mix(tmp_path: Path) -> None:
    for place in ("berlin", "paris", "rom"):
        draw(tmp_path, f"{place}/bmode_{{}}.png", f"{place}/{{}} outline.png", count=5)
    (tmp_path / "paris/bmode_3.png").unlink()
    (tmp_path / "rom/3 outline.png").unlink()  # the outline of paris is not that of rom
    found = find_cases(tmp_path)
    assert {(case.image.below(tmp_path), case.mask.below(tmp_path) if case.mask else "") for case in found.cases} == {
        (f"{place}/bmode_{i}.png", "" if (place, i) == ("rom", 3) else f"{place}/{i} outline.png")
        for place in ("berlin", "paris", "rom")
        for i in range(5)
        if (place, i) != ("paris", 3)
    }


def test_a_mask_whose_image_is_not_there_finds_no_other_side(tmp_path: Path) -> None:
    draw(tmp_path, "xray/p{}_left_xr.png", "bones/p{}_left_bone.png", count=8)
    draw(tmp_path, "xray/p{}_right_xr.png", count=8)
    (tmp_path / "xray/p5_left_xr.png").unlink()
    found = find_cases(tmp_path)
    assert {case.image.name: case.mask.name for case in found.cases if case.mask} == {
        f"p{i}_left_xr.png": f"p{i}_left_bone.png" for i in range(8) if i != 5
    }


def test_few_masks_beside_other_files_that_look_like_labels_are_a_question(tmp_path: Path) -> None:
    draw(tmp_path, "p{}0/t2.png", "p{}0/ai.png", count=9)
    for i in range(3):
        save(tmp_path / f"p{i}0/lesion.png", blob(255, where=i + 2))
    with refused("label-candidates", naming=["'**/ai.png' (9)", "'**/lesion.png' (3)"]):
        find_cases(tmp_path)


def test_channels_of_the_user_are_paired_by_words_too(tmp_path: Path) -> None:
    draw(tmp_path, "t1/p{}_x.png", "drawn/lesion of p{}.png")
    draw(tmp_path, "t2/p{}_x.png")
    found = find_cases(tmp_path, images_glob="{t1,t2}/*", masks_glob="drawn/*")
    assert {(case.image.below(tmp_path), case.mask.below(tmp_path)) for case in found.cases if case.mask} == {
        (f"{{t1,t2}}/p{i}_x.png", f"drawn/lesion of p{i}.png") for i in range(4)
    }


def test_a_pattern_that_would_take_other_images_is_a_question(tmp_path: Path) -> None:
    draw(tmp_path, "{}a.png", "{}as.png")
    for name in ("hans", "klaus"):
        picture(tmp_path / f"{name}.png", channels=3)
    with refused("label-candidates", naming="'*s.png'"):
        find_cases(tmp_path)


def test_a_field_of_view_beside_the_labels_is_no_label(tmp_path: Path) -> None:
    draw(tmp_path, "images/{}_h.png", "manual1/{}_h.png")
    for i in range(4):
        inside = np.zeros(SIZE, np.uint8)
        inside[1:-1, 1 + i % 2 :] = 255
        save(tmp_path / f"mask/{i}_h_mask.png", inside)
    with refused("label-candidates", naming=["'mask/*' (4)", "'manual1/*' (4)"]):  # the images are not dark outside
        find_cases(tmp_path)
    for i in range(4):
        bright = np.random.default_rng(i).integers(90, 256, (*SIZE, 3), dtype=np.uint8)
        bright[0] = bright[-1] = bright[:, : 1 + i % 2] = 3
        save(tmp_path / f"images/{i}_h.png", bright)
    found = find_cases(tmp_path)
    assert {case.mask.below(tmp_path) for case in found.cases if case.mask} == {f"manual1/{i}_h.png" for i in range(4)}
    assert "'mask/*'" in found.notes[0] and "'manual1/*'" in found.notes[0]


def test_several_kinds_of_images_for_a_mask_are_a_question(tmp_path: Path) -> None:
    for images in ("T1/{}.png", "T2/{}.png"):
        draw(tmp_path, images)
    draw(tmp_path, "labels/{}.png")
    with refused("mask-fits-several", naming=["'T1/*' (4)", "'T2/*' (4)", "--images '{T1,T2}/*'"]):
        find_cases(tmp_path)
    assert len(find_cases(tmp_path, images_glob="T2/*").cases) == 4


@pytest.mark.parametrize(
    ("code", "images", "masks", "said"),
    [
        ("mask-fits-several", ["s-{}-T1.png", "s-{}-T2.png"], ["s-{}-label.png"], "--images '*-{T1,T2}.png'"),
        (
            "mask-fits-several",
            ["m_1{}_C0.png", "m_1{}_DE.png"],
            ["gd/m_1{}_gd.png"],
            "--images '*_{C0,DE}.png' --masks '*_gd.png'",
        ),
        (
            "mask-fits-several",
            ["{}/pre/F.png", "{}/raw/F.png"],
            ["{}/wmh.png"],
            "--images '**/{pre,raw}/*' --masks '**/wmh.png'",
        ),
        (
            "image-fits-several",
            ["x/d_{}.png"],
            ["GT/d_{0}/m/d_{0}_disc.png", "GT/d_{0}/m/d_{0}_cup.png"],
            "--masks '*_{cup,disc}.png'",
        ),
        (
            "label-candidates",
            ["x/I_{}.png"],
            ["t/1. M/I_{}_MA.png", "t/2. H/I_{}_HE.png"],
            "if they are different classes, --masks '*_{MA,HE}.png'",
        ),
        (
            "label-candidates",
            ["all/I_{}.png"],
            ["left/I_{}.png", "right/I_{}.png"],
            "if they are different classes, --masks '{left,right}/*'",
        ),
    ],
)
def test_a_question_names_the_option_by_which_it_is_answered(
    tmp_path: Path, code: str, images: list[str], masks: list[str], said: str
) -> None:
    draw(tmp_path, images[0], *masks)
    for image in images[1:]:
        draw(tmp_path, image)
    with refused(code, naming=said):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("a_{}_1stHO.png", "a_{}_2ndHO.png"), ("1st_manual/{}_manual1.png", "2nd_manual/{}_manual2.png")],
)
def test_of_numbered_observers_the_first_counts(tmp_path: Path, first: str, second: str) -> None:
    draw(tmp_path, "a_{}.png" if "a_" in first else "images/{}_test.png", first)
    for i in range(3):  # the second drew fewer
        save(tmp_path / second.format(i), np.roll(blob(255, where=i), 2, 0))
    found = find_cases(tmp_path)
    assert {case.mask.below(tmp_path) for case in found.cases if case.mask} == {first.format(i) for i in range(4)}
    assert "several observers" in found.notes[0] and "--masks" in found.notes[0]
    assert {item.file.name for item in found.left_out} == {Path(second.format(i)).name for i in range(3)}


@pytest.mark.parametrize(
    ("names", "shift", "missing"),
    [(("expert1", "expert2"), 15, 0), (("rater1", "rater2"), 2, 1), (("ah", "vk"), 2, 0), (("layer1", "layer2"), 2, 0)],
)
def test_masks_that_are_not_surely_of_numbered_observers_are_a_question(
    tmp_path: Path, names: tuple[str, str], shift: int, missing: int
) -> None:
    """They hold other structures, the second observer drew more, or no number says who is the first."""
    draw(tmp_path, "a_{}.jpg", f"a_{{}}_{names[0]}.png")
    for i in range(4):
        save(tmp_path / f"a_{i}_{names[1]}.png", np.roll(blob(255, where=i), shift, 0))
    for i in range(missing):
        (tmp_path / f"a_{i}_{names[0]}.png").unlink()
    with refused("label-candidates", naming="--masks"):
        find_cases(tmp_path)


def test_numbered_masks_of_which_one_lies_inside_the_other_are_a_question(tmp_path: Path) -> None:
    draw(tmp_path, "images/{}.png", "expert1/{}.png")
    for i in range(4):
        save(tmp_path / f"expert2/{i}.png", np.where(np.arange(SIZE[1]) < 24, blob(255, where=i), 0).astype(np.uint8))
    with refused("label-candidates", naming=["'expert1/*'", "'expert2/*'"]):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("folders", "pattern"),
    [(("train_lesion", "test_lesion"), "*_lesion/*"), (("smith", "jones"), "")],
)
def test_drawn_files_in_two_folders_that_share_no_image(tmp_path: Path, folders: tuple[str, str], pattern: str) -> None:
    for i in range(12):
        picture(tmp_path / f"pictures/{i:03}.png", i, channels=3)
        save(tmp_path / f"{folders[i // 8]}/{i:03}.png", blob(255, where=i))
    if not pattern:
        with refused("label-candidates", naming=["'smith/*' (8)", "'jones/*' (4)"]):
            find_cases(tmp_path)
        return
    found = find_cases(tmp_path)
    assert all(case.mask is not None for case in found.cases)
    assert f"--masks '{pattern}'" in found.notes[0]


def test_masks_called_alike_in_the_folder_of_each_case_are_named_so(tmp_path: Path) -> None:
    draw(tmp_path, "c1{}0/ct.png", "c1{}0/seg.png", "c1{}0/drawn.png")
    with refused("label-candidates", naming=["--masks '**/seg.png'", "--masks '**/drawn.png'"]):
        find_cases(tmp_path)
    assert all(case.mask for case in find_cases(tmp_path, masks_glob="**/seg.png").cases)
