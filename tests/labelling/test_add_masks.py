"""`ucseg add-masks`: an expert's masks come into a dataset by their names, whole or not at all."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.manifest import load_dataset
from ucseg.labelling.shortlist import ABOUT, START

SHAPE = (20, 24)


def mask(path: Path, value: int = 255, shape: tuple[int, int] = SHAPE) -> None:
    array = np.zeros(shape, np.uint8)
    array[5:12, 6:14] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images; a and b have masks of 0 and 255."""
    (tmp_path / "scans" / "images").mkdir(parents=True)
    for number, name in enumerate("abcdef"):
        noise = np.random.default_rng(number).integers(0, 255, SHAPE, dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "scans" / "images" / f"{name}.png")
    for name in "ab":
        mask(tmp_path / "scans" / "masks" / f"{name}.png")
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", validation="0", test="0", modality="other")
    return tmp_path / "data"


def masks_of(data: Path) -> dict[str, str]:
    with (data / "cases.csv").open(newline="") as file:
        return {row["case"]: row["mask"] for row in csv.DictReader(file)}


def test_masks_are_named_where_they_lie(data: Path, tmp_path: Path, said: list[tuple[str, str]]) -> None:
    done = tmp_path / "done"
    mask(done / "c.png")
    mask(done / "d_mask.png")
    mask(done / "stranger.png")
    hidden = "case,mask\ne,masks/a.png\n"
    (data / "hidden.csv").write_text(hidden)
    found = ucseg.add_masks(data, done)
    assert (found.added, found.strangers) == (["c", "d"], ["stranger.png"])
    assert masks_of(data) == {
        **{"a": "masks/a.png", "b": "masks/b.png", "c": str(done / "c.png"), "d": str(done / "d_mask.png")},
        **{"e": "", "f": ""},
    }
    assert [case.case for case in load_dataset(data).labelled] == ["a", "b", "c", "d"]
    assert (data / "hidden.csv").read_text() == hidden
    assert ("masks-of-no-case", "stranger.png") in [(kind, "stranger.png") for kind, text in said if "stranger" in text]
    again = ucseg.add_masks(data, done)
    assert (again.added, again.kept) == ([], ["c", "d"])


def test_nothing_changes_where_one_mask_does_not_fit(data: Path, tmp_path: Path) -> None:
    before = masks_of(data)
    mask(tmp_path / "done" / "c.png")
    mask(tmp_path / "done" / "d.png", shape=(50, 10))
    mask(tmp_path / "done" / "e.png", value=1)  # class numbers, where the dataset's masks have 255
    with refused("mask-aspect", "mask-coding", naming=["d.png", "10 x 50 px", "24 x 20 px", "e.png"]):
        ucseg.add_masks(data, tmp_path / "done")
    assert masks_of(data) == before


def test_a_square_part_of_an_image_is_not_taken_for_a_squeezed_mask(data: Path, tmp_path: Path) -> None:
    mask(tmp_path / "done" / "c.png", shape=(20, 20))
    with refused("mask-aspect", naming=["c.png", "20 x 20 px", "24 x 20 px"]):
        ucseg.add_masks(data, tmp_path / "done")


@pytest.mark.parametrize("shape", [(10, 12), (40, 48)], ids=["half", "twice"])
def test_a_mask_of_another_size_and_the_same_shape_fits_and_is_named(
    data: Path, tmp_path: Path, said: list[tuple[str, str]], shape: tuple[int, int]
) -> None:
    mask(tmp_path / "done" / "c.png", shape=shape)
    mask(tmp_path / "done" / "d.png")
    found = ucseg.add_masks(data, tmp_path / "done")
    sizes = f"{shape[1]} x {shape[0]} px on 24 x 20 px"
    assert (found.added, found.stretched) == (["c", "d"], {"c.png": sizes})
    assert f"1 of {sizes} (e.g. c.png)" in dict(said)["masks-stretched"]


def test_a_mask_without_any_class_is_named_where_all_others_hold_one(
    data: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    mask(tmp_path / "done" / "c.png", value=0)
    mask(tmp_path / "done" / "d.png")
    found = ucseg.add_masks(data, tmp_path / "done")
    assert (found.added, found.empty) == (["c", "d"], ["c"])
    assert "(c)" in dict(said)["masks-empty"]
    mask(tmp_path / "more" / "e.png", value=0)
    assert ucseg.add_masks(data, tmp_path / "more").empty == [], "another one is empty too"


def test_another_mask_needs_overwrite(data: Path, tmp_path: Path) -> None:
    mask(tmp_path / "done" / "a.png")
    with refused("mask-there", naming=["a.png", "--overwrite"]):
        ucseg.add_masks(data, tmp_path / "done")
    assert ucseg.add_masks(data, tmp_path / "done", overwrite=True).replaced == ["a"]
    assert masks_of(data)["a"] == str(tmp_path / "done" / "a.png")


def test_names_with_accents_apart_are_those_of_their_cases(tmp_path: Path) -> None:
    """As macOS writes them: both look alike."""
    apart, together = (unicodedata.normalize(form, "F\u00e4ll") for form in ("NFD", "NFC"))
    for name in (together, "b", "c"):
        (tmp_path / "scans/images").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).integers(0, 255, SHAPE, dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"scans/images/{name}.png")
    mask(tmp_path / "scans/masks/b.png")
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", validation="0", test="0", modality="other")
    mask(tmp_path / f"done/{apart}_mask.png")
    assert ucseg.add_masks(tmp_path / "data", tmp_path / "done").added == [together]


def test_a_folder_without_masks_of_cases(data: Path, tmp_path: Path) -> None:
    mask(tmp_path / "done" / "other.png")
    with refused("no-finished-mask", naming=tmp_path / "done"):
        ucseg.add_masks(data, tmp_path / "done")
    with refused("finished-no-folder", naming=tmp_path / "done/other.png"):
        ucseg.add_masks(data, tmp_path / "done/other.png")
    (tmp_path / "empty").mkdir()
    with refused("finished-empty", naming=tmp_path / "empty"):
        ucseg.add_masks(data, tmp_path / "empty")


def test_two_masks_of_one_case(data: Path, tmp_path: Path) -> None:
    mask(tmp_path / "done" / "c.png")
    mask(tmp_path / "done" / "c_mask.png")
    with refused("masks-of-one-case", naming=["c.png", "c_mask.png"]):
        ucseg.add_masks(data, tmp_path / "done")


def test_masks_that_are_still_the_models_own_are_named(data: Path, tmp_path: Path, said: list[tuple[str, str]]) -> None:
    listed = tmp_path / "next"
    for case, value in (("c", 255), ("d", 255)):
        mask(listed / START / f"{case}.png", value)
        mask(listed / "finished" / f"{case}.png", value)
    (listed / ABOUT).write_text('{"run": "/runs/first"}')
    corrected = np.zeros(SHAPE, np.uint8)
    corrected[2:9, 3:9] = 255
    Image.fromarray(corrected).save(listed / "finished" / "d.png")
    found = ucseg.add_masks(data, listed / "finished")
    assert (found.added, found.uncorrected) == (["c", "d"], ["c"])
    assert "(c)" in dict(said)["masks-uncorrected"]
    assert dict(said)["next"].endswith(f"ucseg train {data} --out RUN2 --init /runs/first")
