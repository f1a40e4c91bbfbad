"""Images that a folder holds twice are one case each; what only looks like a copy stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import ucseg
from small_scans import SIZE, blob, label, picture, save, volume
from ucseg.dataset.manifest import Dataset
from ucseg.types import Array

NUMBERS = range(6)


def pictures(root: Path, masks: str = "masks") -> Path:
    for i in NUMBERS:
        picture(root / "images" / f"s{i}.png", i)
        save(root / masks / f"s{i}.png", blob(255, i))
    return root


def saved_again(folder: Path, into: Path, ending: str) -> None:
    for file in sorted(folder.rglob("*.png")):
        to = into / file.relative_to(folder).with_suffix(ending)
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(to)


def images(data: Dataset, root: Path) -> list[str]:
    return sorted(case.image.below(root.absolute()) for case in data.cases)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("where", ["copy", "again/as_it_was"])
def test_one_of_each_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str, where: str) -> None:
    root = tmp_path / "scans"
    pictures(root / "all")
    saved_again(root / "all", root / where, ending)
    data = ucseg.init(root, out=tmp_path / "data")
    assert images(data, root) == [f"all/images/s{i}.png" for i in NUMBERS]
    assert all(case.mask is not None and "all/masks" in case.mask.path.as_posix() for case in data.cases)
    printed = capsys.readouterr().out
    assert "6 images are copied in the folder" in printed
    assert f"{where}/images/s0{ending}: it is a copy of all/images/s0.png" in printed
    assert f"{where}/masks/s0{ending}: its image is a copy of all/images/s0.png" in printed


def test_volumes_of_two_formats(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    for i in NUMBERS:
        volume(root / "NIFTI" / "images" / f"p{i}.nii.gz")
        volume(root / "NIFTI" / "labels" / f"p{i}.nii.gz", label())
        for kind in ("images", "labels"):
            (root / "MHA" / kind).mkdir(parents=True, exist_ok=True)
            scan = SimpleITK.ReadImage(root / "NIFTI" / kind / f"p{i}.nii.gz")
            SimpleITK.WriteImage(scan, root / "MHA" / kind / f"p{i}.mha", True)
    data = ucseg.init(root, out=tmp_path / "data")
    assert images(data, root) == [f"MHA/images/p{i}.mha" for i in NUMBERS]


def test_of_a_copy_with_a_mask_and_one_without_the_first_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    pictures(root / "labelled" / "more")
    for i in NUMBERS:
        (root / "all" / "images").mkdir(parents=True, exist_ok=True)
        (root / "all" / "images" / f"s{i}.png").write_bytes(
            (root / "labelled" / "more" / "images" / f"s{i}.png").read_bytes()
        )
    for i in range(6, 20):
        picture(root / "all" / "images" / f"s{i}.png", i)
    data = ucseg.init(root, out=tmp_path / "data")
    assert len(data.cases) == 20
    assert sum(case.mask is not None for case in data.cases) == 6


@pytest.mark.parametrize("other", [np.roll(blob(255), 4, 1), np.zeros(SIZE, np.uint8)])
def test_masks_that_differ_are_not_copies(tmp_path: Path, other: Array) -> None:
    root = tmp_path / "scans"
    pictures(root / "one")
    saved_again(root / "one", root / "two", ".png")
    for i in NUMBERS:
        save(root / "two" / "masks" / f"s{i}.png", np.roll(other, i + 1, 0))
    assert len(ucseg.init(root, out=tmp_path / "data").cases) == 12


def test_copies_in_training_and_test_stay_for_check_to_report(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    pictures(root / "train")
    saved_again(root / "train", root / "test", ".png")
    data = ucseg.init(root, out=tmp_path / "data")
    assert len(data.training) + len(data.validation) == len(data.test) == 6


def test_other_images_of_one_name_stay_as_do_black_slices_of_two_patients(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    for patient in ("p1", "p2", "p3"):
        pictures(root / patient)
        save(root / patient / "images" / "s0.png", np.zeros(SIZE, np.uint8))
        save(root / patient / "masks" / "s0.png", np.zeros(SIZE, np.uint8))
    assert len(ucseg.init(root, out=tmp_path / "data").cases) == 18


def test_masks_in_colours_are_copied_too(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    for i in NUMBERS:
        picture(root / "all" / "images" / f"s{i}.png", i)
        save(root / "all" / "masks" / f"s{i}.png", np.stack([blob(255, i), blob(0, i), blob(1, i)], -1))
    saved_again(root / "all", root / "copy", ".tif")
    assert len(ucseg.init(root, out=tmp_path / "data", palette="polyp=#ff0001").cases) == 6
