"""Layouts of large public sets: a folder a case, a file a class, a file a sequence, a file an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from small_scans import blob, label, picture, save, volume
from ucseg.dataset.masks import read_label
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.understanding import ImportOptions, understand
from ucseg.scans.address import Address
from ucseg.scans.reading import read_header


def pairs(found: Found, folder: Path) -> set[tuple[str, str]]:
    return {(case.image.below(folder), case.mask.below(folder) if case.mask else "") for case in found.cases}


def draw(folder: Path, *names: str) -> None:
    for i in range(3):
        for name in names:
            mask = any(word in name.lower() for word in ("seg", "msk", "mask"))
            volume(folder / name.format(i), label() if mask else None)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("case_0000{}/imaging.nii.gz", "case_0000{}/segmentation.nii.gz"),  # KiTS
        ("part_1/volume-{}.nii", "part_1/segmentation-{}.nii"),  # LiTS
        ("p{0}/ct_{0}.nii.gz", "p{0}/tumour_seg.nii.gz"),
    ],
)
def test_the_image_of_a_folder_finds_its_mask(tmp_path: Path, image: str, mask: str) -> None:
    draw(tmp_path, image, mask)
    assert pairs(find_cases(tmp_path), tmp_path) == {(image.format(i), mask.format(i)) for i in range(3)}


@pytest.mark.parametrize(
    ("files", "images", "masks", "first"),
    [
        (
            ["p{}/2004/CT.nii.gz", "p{}/2004/SUV.nii.gz", "p{}/2004/SEG.nii.gz"],  # autoPET
            "*/{CT,SUV}.nii.gz",
            "*/SEG.nii.gz",
            ("p0/2004/{CT,SUV}.nii.gz", "p0/2004/SEG.nii.gz"),
        ),
        (
            ["B{0}/B{0}_flair.nii", "B{0}/B{0}_t1.nii", "B{0}/B{0}_t2.nii", "B{0}/B{0}_seg.nii"],  # BraTS
            "*_{t1,flair}.nii",
            "*_seg.nii",
            ("B0/B0_{t1,flair}.nii", "B0/B0_seg.nii"),
        ),
        (
            ["raw/sub-v{0}/sub-v{0}_dir-sag_ct.nii.gz", "der/sub-v{0}/sub-v{0}_dir-sag_seg-vert_msk.nii.gz"],  # VerSe
            "*_ct.nii.gz",
            "*_seg-vert_msk.nii.gz",
            ("raw/sub-v0/sub-v0_dir-sag_ct.nii.gz", "der/sub-v0/sub-v0_dir-sag_seg-vert_msk.nii.gz"),
        ),
    ],
)
def test_patterns_say_which_files_are_channels(
    tmp_path: Path, files: list[str], images: str, masks: str, first: tuple[str, str]
) -> None:
    draw(tmp_path, *files)
    found = find_cases(tmp_path, images, masks)
    assert len(found.cases) == 3
    assert first in pairs(found, tmp_path)
    image = next(case.image for case in found.cases if case.image.below(tmp_path) == first[0])
    assert read_header(image)[2] == ("{" in images) + 1


def test_several_images_or_masks_of_a_case_are_a_question(tmp_path: Path) -> None:
    draw(tmp_path / "pet", "p{}/CT.nii.gz", "p{}/SUV.nii.gz", "p{}/SEG.nii.gz")
    with refused("case-several-images", naming=["--images", "CT", "SUV", "{CT,SUV}.nii.gz"]):
        find_cases(tmp_path / "pet")
    draw(tmp_path / "total", "s{}/ct.nii.gz", "s{}/segmentations/liver.nii.gz", "s{}/segmentations/spleen.nii.gz")
    with refused("case-several-masks", naming=["--masks", "'*/segmentations/{liver,spleen}.nii.gz'"]):
        find_cases(tmp_path / "total")
    for i in range(2):
        picture(tmp_path / f"cells/{i}/images/{i}.png")
        for j in range(3):
            save(tmp_path / f"cells/{i}/masks/{7 * i + j}x.png", blob())
    with refused("case-several-masks", naming="--parts '*/masks/*.png'"):
        find_cases(tmp_path / "cells")
    with refused("pattern-braces", naming="--masks"):
        find_cases(tmp_path / "total", masks_glob="{a,b}/{c,d}.nii.gz")
    (tmp_path / "pet/p0/CT.nii.gz").unlink()
    found = find_cases(tmp_path / "pet", "*/{CT,SUV}.nii.gz")
    assert len(found.cases) == 2
    assert any("CT" in item.reason for item in found.left_out if item.file.name == "SUV.nii.gz")


def test_one_file_a_class_is_a_mask_of_named_classes(tmp_path: Path) -> None:
    draw(tmp_path, "s{}/ct.nii.gz")
    organs = {"liver": slice(0, 3), "spleen": slice(5, 8)}
    for i in range(3):
        for organ, where in organs.items():
            array = np.zeros((8, 9, 10), np.uint8)
            array[where] = 255
            if (i, organ) != (0, "liver"):  # not every case has every organ
                volume(tmp_path / f"s{i}/segmentations/{organ}.nii.gz", array)
    options = ImportOptions(masks="*/segmentations/{liver,spleen}.nii.gz")
    found = understand(tmp_path, options, str(tmp_path))
    assert found.config.classes == {0: "background", 1: "liver", 2: "spleen"}
    for case in found.cases:
        assert case.mask is not None
        assert Address.of(case.mask.path) == case.mask
        seen = read_label(case.mask, (8, 9, 10), found.config)
        assert (seen[5:] == 2).all()
        assert (seen[:3] == (0 if "s0" in case.case else 1)).all()
    array = np.zeros((8, 9, 10), np.uint8)
    array[2:7] = 1
    volume(tmp_path / "s1/segmentations/liver.nii.gz", array)
    with refused("mask-classes-overlap", naming=["spleen.nii.gz", "liver"]):
        read_label(next(case.mask for case in found.cases if case.mask and "s1" in case.case), (8, 9, 10), found.config)


@pytest.mark.parametrize("order", ["disc,cup", "cup,disc"])
def test_of_a_class_inside_another_the_inner_one_counts(tmp_path: Path, order: str) -> None:
    draw(tmp_path, "s{}/photo.nii.gz")
    for i in range(3):
        for name, where in {"disc": slice(1, 7), "cup": slice(3, 5)}.items():
            array = np.zeros((8, 9, 10), np.uint8)
            array[where] = 255
            volume(tmp_path / f"s{i}/masks/{name}.nii.gz", array)
    found = understand(tmp_path, ImportOptions(masks=f"*/masks/{{{order}}}.nii.gz"), str(tmp_path))
    assert any("cup lies inside disc" in note for note in found.notes)
    number = {name: index for index, name in found.config.classes.items()}
    for case in found.cases:
        assert case.mask is not None
        seen = read_label(case.mask, (8, 9, 10), found.config)
        assert [int(row.max()) for row in seen] == [
            number[name] for name in ("background", *["disc"] * 2, *["cup"] * 2, *["disc"] * 2, "background")
        ]


def test_parts_of_a_mask_are_joined(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"busi/{name}.png")
        for part in ("", "_1", "_2")[: 3 if name == "a" else 1]:
            save(tmp_path / f"busi/{name}_mask{part}.png", blob(255, where=2 * len(part) + part.count("2")))
    found = understand(tmp_path / "busi", ImportOptions(), str(tmp_path / "busi"))
    assert pairs(found, tmp_path / "busi") == {("a.png", "a_mask{,_1,_2}.png"), ("b.png", "b_mask.png")}
    assert any("a_mask{" in note for note in found.notes)
    assert found.cases[0].mask is not None
    whole = read_label(found.cases[0].mask, blob().shape, found.config)
    assert np.array_equal(whole, blob() | blob(where=4) | blob(where=5))


def test_one_file_an_object_is_joined_by_a_pattern(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}abc/images/{i}abc.png")
        for j in range(40):  # names longer together than the name of a file may be
            save(tmp_path / f"{i}abc/masks/{i}{j:02d}{'f' * 40}.png", blob(255, where=j))
    found = understand(tmp_path, ImportOptions(parts="*/masks/*.png"), str(tmp_path))
    assert len(found.cases) == 3
    for case in found.cases:
        assert case.mask is not None
        assert len(Address.of(str(case.mask.path)).files) == 40
        expected = np.max([blob(where=j) for j in range(40)], axis=0)
        assert np.array_equal(read_label(case.mask, expected.shape, found.config), expected)
