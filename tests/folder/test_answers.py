"""Questions about a folder that answer themselves: sequences become channels, structures classes, pieces one mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from small_scans import SIZE, blob, label, picture, save, volume
from ucseg.dataset.masks import read_label
from ucseg.folder.answers import find_cases_unasked
from ucseg.folder.questions import Question
from ucseg.folder.understanding import ImportOptions, understand
from ucseg.scans.reading import read_header
from ucseg.types import Array

APART = [np.pad(np.ones((8, 8), np.uint8), ((at, SIZE[0] - 8 - at), (at, SIZE[1] - 8 - at))) for at in (2, 12, 22)]
"""Three squares that share no pixel."""


def cases(folder: Path, images: list[str], masks: dict[str, Array], count: int = 4) -> Path:
    """Draw `count` cases; masks are given by name."""
    for i in range(count):
        for name in images:
            picture(folder / name.format(i), i)
        for name, mask in masks.items():
            save(folder / name.format(i), mask * np.uint8(255))
    return folder


@pytest.mark.parametrize(
    ("images", "mask", "pattern"),
    [
        (
            ["B{0}/B{0}_flair.png", "B{0}/B{0}_t1.png", "B{0}/B{0}_t1ce.png"],
            "B{0}/B{0}_seg.png",
            "*_{flair,t1,t1ce}.png",
        ),
        (["p{}/CT.png", "p{}/SUV.png"], "p{}/SEG.png", "**/{CT,SUV}.png"),
        (["s-{}-T1.png", "s-{}-T2.png"], "s-{}-label.png", "*-{T1,T2}.png"),
        (["m_1{}_C0.png", "m_1{}_DE.png"], "gd/m_1{}_gd.png", "*_{C0,DE}.png"),
        (["T1/{}.png", "T2/{}.png"], "labels/{}.png", "**/{T1,T2}/*"),
        (["MR_T1/p{}_T1.png", "MR_T2/p{}_T2.png"], "masks/p{}_mask.png", "*_{T1,T2}.png"),
    ],
)
def test_files_of_different_sequences_are_channels(tmp_path: Path, images: list[str], mask: str, pattern: str) -> None:
    cases(tmp_path, images, {mask: APART[0]})
    found, used = find_cases_unasked(tmp_path)
    assert used == pattern
    assert len(found.cases) == 4
    assert {read_header(case.image)[2] for case in found.cases} == {len(images)}
    assert {case.mask.below(tmp_path) for case in found.cases if case.mask} == {mask.format(i) for i in range(4)}
    assert any(f"--images '{pattern}'" in note for note in found.notes)
    assert understand(tmp_path, ImportOptions(), ".").config.images == pattern


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("case-several-images", ["p{}/T1.png", "p{}/T1_raw.png"]),  # one sequence twice
        ("case-several-images", ["p{}/before.png", "p{}/after.png"]),
    ],
)
def test_images_that_no_name_says_to_be_sequences_stay_a_question(tmp_path: Path, code: str, names: list[str]) -> None:
    cases(tmp_path, names, {"p{}/seg.png": APART[0]})
    with refused(code, naming="--images"):
        find_cases_unasked(tmp_path)


def test_sequences_on_two_grids_stay_a_question(tmp_path: Path) -> None:
    for i in range(3):
        volume(tmp_path / f"p{i}/CT.nii.gz")
        volume(tmp_path / f"p{i}/PT.nii.gz", np.random.default_rng(i).normal(size=(4, 4, 4)).astype(np.float32))
        volume(tmp_path / f"p{i}/seg.nii.gz", label())
    with refused("case-several-images", naming="{CT,PT}"):
        find_cases_unasked(tmp_path)
    found, used = find_cases_unasked(tmp_path, images="*/CT.nii.gz")
    assert (used, len(found.cases)) == ("*/CT.nii.gz", 3)


@pytest.mark.parametrize(
    ("image", "masks", "classes"),
    [
        (
            "s{}/ct.png",
            {f"s{{}}/segmentations/{organ}.png": APART[i] for i, organ in enumerate("abc")},
            ["a", "b", "c"],
        ),
        ("x/d_{}.png", {"GT/d_{0}/m/d_{0}_cup.png": APART[0], "GT/d_{0}/m/d_{0}_disc.png": APART[1]}, ["cup", "disc"]),
        ("all/I_{}.png", {"left/I_{}.png": APART[0], "right/I_{}.png": APART[1]}, ["left", "right"]),
        ("CXR/I_{}.png", {"lung masks/I_{}.png": blob(), "infection masks/I_{}.png": np.tril(blob(), -8)}, None),
    ],
)
def test_masks_of_different_structures_are_classes(
    tmp_path: Path, image: str, masks: dict[str, Array], classes: list[str] | None
) -> None:
    cases(tmp_path, [image], masks)
    found = understand(tmp_path, ImportOptions(), ".")
    assert sorted(found.config.classes.values()) == sorted(["background", *(classes or ["infection", "lung"])])
    number = {name: index for index, name in found.config.classes.items()}
    mask = found.cases[0].mask
    assert mask is not None
    read = read_label(mask, SIZE, found.config)
    assert set(np.unique(read)) == set(number.values())
    assert found.notes[0].startswith("several masks of an image are taken as classes")


OBSERVERS = {"a_{}_ah.png": blob(), "a_{}_vk.png": np.roll(blob(), 2, 0)}
SMALLER = {"a_{}_ai.png": np.tril(blob(), 8), "a_{}_lesion.png": blob()}
LINES = {"a_{}_gland.png": APART[0], "a_{}_edge.png": APART[1]}


@pytest.mark.parametrize("masks", [OBSERVERS, SMALLER, LINES])
def test_masks_that_may_be_of_one_structure_stay_a_question(tmp_path: Path, masks: dict[str, Array]) -> None:
    cases(tmp_path, ["a_{}.jpg"], masks)
    with refused("label-candidates", naming=["--masks", "different classes"]):
        find_cases_unasked(tmp_path)


def test_masks_of_several_values_each_stay_a_question(tmp_path: Path) -> None:
    for i in range(4):
        volume(tmp_path / f"o{i}/norm.nii.gz")
        for name in ("seg4", "seg35"):
            volume(tmp_path / f"o{i}/aligned_{name}.nii.gz", label((0, 1, 2, 3)))
    with refused("label-candidates", naming="--masks"):
        find_cases_unasked(tmp_path)


def test_pieces_in_files_without_repeated_names_are_one_mask(tmp_path: Path) -> None:
    for i in range(2):
        picture(tmp_path / f"c{i}/images/c{i}.png")
        for j, piece in enumerate(APART):
            save(tmp_path / f"c{i}/masks/{7 * i + j}x.png", piece * np.uint8(255))
    found, used = find_cases_unasked(tmp_path)
    assert used is None
    assert "--parts '*/masks/*.png'" in found.notes[0]
    mask = found.cases[0].mask
    assert mask is not None and len(mask.files) == 3


def test_numbered_pieces_beside_their_image_are_one_mask(tmp_path: Path) -> None:
    cases(tmp_path, ["c{}/ct.png"], {"c{}/lesion_0.png": APART[0], "c{}/lesion_1.png": APART[1]}, count=8)
    found, _ = find_cases_unasked(tmp_path)
    assert "--parts '**/lesion_*.png'" in found.notes[0]
    assert [len(case.mask.files) for case in found.cases if case.mask] == [2] * 8


def test_what_the_user_says_is_not_answered_otherwise(tmp_path: Path) -> None:
    cases(tmp_path, ["p{}/T1.png", "p{}/T2.png"], {"p{}/seg.png": APART[0]})
    found, used = find_cases_unasked(tmp_path, images="*/T2.png")
    assert used == "*/T2.png"
    assert not any("channels" in note for note in found.notes)


@pytest.mark.parametrize(
    "masks",
    [
        {"c{}/masks/{}_reader1.png": blob(), "c{}/masks/{}_reader2.png": np.roll(blob(), 2, 0)},
        {"c{}/masks/0.png": APART[0], "c{}/masks/1.png": APART[1]},
        {"c{}/seg_old.png": APART[0], "c{}/seg_corrected.png": APART[1]},
        {"c{}/tumour_manual.png": blob(), "c{}/tumour_auto.png": APART[2]},
        {"c{}/seg_tumour.png": APART[0], "c{}/seg_tumourContour.png": APART[1]},
    ],
)
def test_observers_versions_lines_and_numbered_pieces_are_no_classes(tmp_path: Path, masks: dict[str, Array]) -> None:
    for i in range(8):
        picture(tmp_path / f"c{i}/ct.png", i)
        for name, mask in masks.items():
            save(tmp_path / name.format(i, 20190 + i), mask * np.uint8(255))
    with pytest.raises(Question):
        find_cases_unasked(tmp_path)


@pytest.mark.parametrize("pieces", [("{}_liver.png", "{}_spleen.png"), ("x{}a.png", "x{}b.png")])
def test_organs_and_pieces_that_overlap_are_no_parts(tmp_path: Path, pieces: tuple[str, str]) -> None:
    for i in range(4):
        picture(tmp_path / f"c{i}/images/c{i}.png", i)
        for shift, name in enumerate(pieces):
            piece = APART[shift] if "liver" in pieces[0] else np.roll(blob(), shift, 0)
            save(tmp_path / f"c{i}/masks/{name.format(2019 + i)}", piece * np.uint8(255))
    with refused("case-several-masks", naming="--parts"):
        find_cases_unasked(tmp_path)


def test_a_class_that_the_first_case_lacks_is_a_class(tmp_path: Path) -> None:
    cases(tmp_path, ["s{}/ct.png"], {"s{}/segmentations/liver.png": APART[0], "s{}/segmentations/kidney.png": APART[1]})
    (tmp_path / "s0/segmentations/kidney.png").unlink()
    assert set(understand(tmp_path, ImportOptions(), ".").config.classes.values()) == {"background", "kidney", "liver"}


def test_a_mask_that_no_answer_takes_makes_it_a_question(tmp_path: Path) -> None:
    masks = {"s{}/seg_liver.png": APART[0], "s{}/seg_spleen.png": APART[1]}
    cases(tmp_path, ["s{}/ct.png"], masks, count=8)
    save(tmp_path / "s2/seg_rare.png", APART[2] * np.uint8(255))
    with pytest.raises(Question):
        find_cases_unasked(tmp_path)


def test_a_hundred_organs_are_classes(tmp_path: Path) -> None:
    organs = ["autochthon_left", "autochthon_right", "kidney_l", "kidney_r"]
    organs += [f"{part}_{'x' * (1 + i)}" for part in ("lobe", "muscle") for i in range(28)]
    organs += [f"rib_left_{i}" for i in range(1, 41)]
    for i in range(2):
        picture(tmp_path / f"s{i}/ct.png", i)
        for at, organ in enumerate(organs):
            mask = np.zeros(SIZE, np.uint8)
            mask[at // 40, at % 40] = 255
            save(tmp_path / f"s{i}/segmentations/{organ}.png", mask)
    found = understand(tmp_path, ImportOptions(), ".")
    assert len(found.config.classes) == 101
    assert all(case.mask is not None for case in found.cases)


@pytest.mark.parametrize(
    ("labelled", "others"),
    [
        ("T1/P{}.png", "T1/P{}.png"),
        ("imagesTr/P{}_T1.png", "imagesTs/P{}_T1.png"),
        ("train/T1/P{}.png", "unlabelled/T1/P{}.png"),
    ],
)
def test_unlabelled_images_have_channels_too(tmp_path: Path, labelled: str, others: str) -> None:
    for i in range(10):
        for word in ("T1", "T2"):
            picture(tmp_path / (labelled if i < 4 else others).format(i).replace("T1", word), i)
    for i in range(4):
        save(tmp_path / f"labelsTr/P{i}.png", blob(255))
    found, used = find_cases_unasked(tmp_path)
    assert used is not None and "{T1,T2}" in used
    assert (len(found.cases), sum(case.mask is not None for case in found.cases)) == (10, 4)
    assert all(len(case.image.files) == 2 for case in found.cases)


def test_bids_visits_find_their_masks(tmp_path: Path) -> None:
    for subject in range(1, 4):
        for visit in range(1, 4):
            name = f"sub-0{subject}/ses-0{visit}/anat/sub-0{subject}_ses-0{visit}"
            for word in ("T1w", "FLAIR"):
                picture(tmp_path / f"{name}_{word}.png", subject)
            save(tmp_path / f"{name}_label-lesion_mask.png", blob(255))
    found, _ = find_cases_unasked(tmp_path)
    pairs = {(case.image.files[0].parent, case.mask.parent) for case in found.cases if case.mask}
    assert len(pairs) == 9
    assert all(image == mask for image, mask in pairs)


def test_channels_that_many_unlabelled_cases_lack_stay_a_question(tmp_path: Path) -> None:
    cases(tmp_path, ["p{}/T1.png", "p{}/T2.png"], {"p{}/seg.png": APART[0]}, count=6)
    for i in range(6, 12):
        picture(tmp_path / f"p{i}/T1.png", i)
    with refused("case-several-images", naming="--images"):
        find_cases_unasked(tmp_path)


@pytest.mark.parametrize("words", [("t1", "t2", "pat"), ("ct", "pet", "subject")])
def test_a_name_may_hold_the_word_for_a_channel(tmp_path: Path, words: tuple[str, str, str]) -> None:
    first, second, name = words
    cases(
        tmp_path, [f"{first}/{name}{{}}.png", f"{second}/{name}{{}}.png"], {f"labels/{name}{{}}.png": blob()}, count=12
    )
    found, used = find_cases_unasked(tmp_path)
    assert used == f"**/{{{first},{second}}}/*"
    assert len(found.cases) == 12
    assert all(len(case.image.files) == 2 for case in found.cases)


def test_a_word_in_braces_that_no_file_has_is_refused(tmp_path: Path) -> None:
    cases(tmp_path, ["p{}/t1.png"], {"p{}/lesion.png": APART[0], "p{}/prostate.png": APART[1]})
    with refused("pattern-no-file", naming="'prostat'"):
        find_cases_unasked(tmp_path, masks="*/{lesion,prostat}.png")


def test_each_class_may_have_a_folder_for_itself(tmp_path: Path) -> None:
    """IDRiD: another folder and another end of the name for each lesion, and images without one of them."""
    masks = {"a/1. Exudates/I_{}_EX.png": APART[0], "a/2. Disc/I_{}_OD.png": APART[1]}
    cases(tmp_path, ["images/I_{}.png"], masks)
    (tmp_path / "a/1. Exudates/I_2_EX.png").unlink()
    found = understand(tmp_path, ImportOptions(), ".")
    assert found.config.classes == {0: "background", 1: "EX", 2: "OD"}
    by_name = {case.case: case for case in found.cases}
    assert len(by_name) == 4 and all(case.mask is not None for case in found.cases)
    for name, expected in (("I_1", APART[0] + 2 * APART[1]), ("I_2", 2 * APART[1])):
        mask = by_name[name].mask
        assert mask is not None
        assert np.array_equal(read_label(mask, SIZE, found.config), expected)


def test_channels_in_folders_of_two_hospitals_are_not_joined(tmp_path: Path) -> None:
    """One has T1, the other one T2: images of one number are two patients."""
    cases(tmp_path, ["north/p{}_T1.png", "south/p{}_T2.png"], {"north/p{}_T1_mask.png": APART[0]})
    assert not [case for case in find_cases_unasked(tmp_path)[0].cases if case.image.several]
    with refused("no-image", naming="--images"):
        find_cases_unasked(tmp_path, images="*_{T1,T2}.png")
