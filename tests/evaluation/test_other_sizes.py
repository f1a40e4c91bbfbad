"""References of another size than the predictions: pictures fit as they do in `ucseg init`, nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from refusals import refused
from ucseg.cli.evaluate import evaluate
from ucseg.types import Array

MASK = np.zeros((20, 24), np.uint8)
MASK[5:12, 6:14] = 1
TWICE = np.kron(MASK, np.ones((2, 2), np.uint8))


def save(array: Array, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    else:
        Image.fromarray(array).save(path)
    return path


def test_references_of_another_size_are_stretched_and_reported_once(
    tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    for case, reference in (("a", 255 * TWICE), ("b", MASK), ("c", 255 * TWICE)):
        save(MASK, tmp_path / "p" / f"{case}.png")
        save(reference, tmp_path / "r" / f"{case}_segmentation.png")
    result = evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n")
    assert [row["dice"] for case in result.cases for row in case.rows] == [1, 1, 1]
    assert {case.worst_distance for case in result.cases} == {float(np.hypot(*MASK.shape))}
    (text,) = [text for kind, text in said if kind == "references-stretched"]
    assert text.startswith("2 of 3 references") and "2 of 48 x 40 px on 24 x 20 px (e.g. a)" in text
    assert "48 x 40 px" in (tmp_path / "n" / "cases.csv").read_text()
    alone = evaluate(tmp_path / "p/a.png", tmp_path / "r/a_segmentation.png", out=tmp_path / "alone")
    assert alone.mean("dice") == 1


def test_a_picture_that_was_squeezed_into_a_square_fits(tmp_path: Path) -> None:
    square = MASK[:, 2:22]
    save(square, tmp_path / "p" / "a.png")
    save(np.kron(square, np.ones((3, 4), np.uint8)), tmp_path / "r" / "a.png")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n").mean("dice") == 1


def test_what_is_not_annotated_is_stretched_too(tmp_path: Path) -> None:
    true = TWICE.copy()
    true[:, 40:] = 255
    wrong = MASK.copy()
    wrong[:, 20:] = 1
    save(wrong, tmp_path / "p" / "a.png")
    (tmp_path / "p/prediction.json").write_text(
        json.dumps({"classes": {0: "background", 1: "x"}, "not_annotated": [255]})
    )
    save(true, tmp_path / "r" / "a.png")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n").mean("dice") == 1


def test_lines_are_filled_before_they_are_stretched(tmp_path: Path) -> None:
    disc = np.hypot(*(np.indices((96, 96)) - 47.5)) < 30
    inside = np.hypot(*(np.indices((96, 96)) - 47.5)) < 29
    save(255 * (disc & ~inside).astype(np.uint8), tmp_path / "r" / "a.png")
    save(disc[2::4, 2::4].astype(np.uint8), tmp_path / "p" / "a.png")
    assert evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n", fill_outlines=True).mean("dice") > 0.95


def test_other_pictures_and_volumes_of_another_size_are_refused(tmp_path: Path) -> None:
    save(MASK, tmp_path / "p" / "a.png")
    save(np.zeros((20, 50), np.uint8), tmp_path / "r" / "a.png")
    with refused("no-case-evaluated", "mask-aspect", naming=["r/a.png", "50 x 20 px", "24 x 20 px", "belong together"]):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n")
    save(np.stack([MASK] * 4), tmp_path / "pv" / "a.nii.gz")
    save(np.stack([TWICE] * 4), tmp_path / "rv" / "a.nii.gz")
    with refused("no-case-evaluated", "grids-differ", naming=["pv/a.nii.gz", "4 x 20 x 24", "4 x 40 x 48"]) as caught:
        evaluate(tmp_path / "pv", tmp_path / "rv", out=tmp_path / "n")
    assert "dataset" not in str(caught.value), "a folder of references belongs to none"


def test_a_stack_is_no_reference_of_a_picture(tmp_path: Path) -> None:
    save(MASK, tmp_path / "p" / "a.png")
    pages = [Image.fromarray(MASK) for _ in range(3)]
    (tmp_path / "r").mkdir()
    pages[0].save(tmp_path / "r" / "a.tif", save_all=True, append_images=pages[1:])
    with refused("no-case-evaluated", "mask-shape", naming="r/a.tif"):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n")


def test_a_class_that_would_be_lost_and_a_stated_spacing_are_refused(tmp_path: Path) -> None:
    line = np.zeros_like(TWICE)
    line[4] = 1
    save(MASK, tmp_path / "p" / "a.png")
    save(line, tmp_path / "r" / "a.png")
    with refused("no-case-evaluated", "reference-lost", naming=["r/a.png", "class 1"]):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n")
    save(TWICE, tmp_path / "r" / "a.png")
    with refused("no-case-evaluated", "grids-differ", naming="p/a.png"):
        evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "n", spacing="0.5,0.5")
