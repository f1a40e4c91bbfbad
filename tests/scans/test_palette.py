"""Masks in colours: the user, or a file of labels, says which colour is which class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.manifest import load_dataset
from ucseg.dataset.masks import read_label
from ucseg.labelling.shortlist import as_class_indices, as_the_masks_of
from ucseg.scans.palette import palette_of

LIVER, TUMOUR = (255, 0, 0), (0, 128, 255)
CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nliver:255,0,0::\ntumour:0,128,255::\n"
CAMVID = "0 0 0\tbackground\n255 0 0\tliver\n\n0 128 255\ttumour\n"
TRUE = np.zeros((24, 32), np.uint8)
TRUE[4:16, 4:20], TRUE[6:10, 6:12] = 1, 2


def folder(tmp_path: Path, ending: str = "png") -> Path:
    for kind in ("images", "masks"):
        (tmp_path / "s" / kind).mkdir(parents=True)
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (24, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"s/images/{i}.png")
        Image.fromarray(np.array([(0, 0, 0), LIVER, TUMOUR], np.uint8)[TRUE]).save(tmp_path / f"s/masks/{i}.{ending}")
    return tmp_path / "s"


@pytest.mark.parametrize("said", ["liver=#ff0000,tumour=#0080ff", "tumour=#0080FF, liver=#FF0000", CVAT, CAMVID])
def test_a_text_and_files_of_other_programs(tmp_path: Path, said: str) -> None:
    if "\n" in said:
        (tmp_path / "labelmap.txt").write_text(said)
        said = str(tmp_path / "labelmap.txt")
    found = palette_of(said)
    assert next(iter(found.items())) == ("background", (0, 0, 0))
    assert (found["liver"], found["tumour"], len(found)) == (LIVER, TUMOUR, 3)


def test_colours_become_classes_and_stay_so(tmp_path: Path) -> None:
    ucseg.init(folder(tmp_path), out=tmp_path / "d", validation="1", test="1", palette="liver=#ff0000,tumour=#0080ff")
    dataset = load_dataset(tmp_path / "d")  # as later verbs read it
    assert dataset.config.classes == {0: "background", 1: "liver", 2: "tumour"}
    assert dataset.config.palette == ["#000000", "#ff0000", "#0080ff"]
    assert [case.case for case in dataset.cases if case.mask is None] == []
    for case in dataset.cases:
        assert case.mask is not None
        assert np.array_equal(read_label(case.mask, TRUE.shape, dataset.config), TRUE)
    numbers = tmp_path / "p"
    numbers.mkdir()
    for case in dataset.test:
        Image.fromarray(TRUE).save(numbers / f"{case.case}.png")
    assert ucseg.evaluate(numbers, tmp_path / "d", out=tmp_path / "e").mean("dice") == 1


def test_lossy_colours_are_the_nearest(tmp_path: Path) -> None:
    said = "liver=#ff0000,tumour=#0080ff"
    dataset = ucseg.init(folder(tmp_path, "jpg"), out=tmp_path / "d", validation="1", test="1", palette=said)
    mask = dataset.cases[0].mask
    assert mask is not None
    assert (read_label(mask, TRUE.shape, dataset.config) != TRUE).mean() < 0.05


def test_a_colour_may_mean_not_annotated(tmp_path: Path) -> None:
    said = "ignore=#ff0000,tumour=#0080ff"
    dataset = ucseg.init(folder(tmp_path), out=tmp_path / "d", validation="1", test="1", palette=said)
    assert dataset.config.classes == {0: "background", 1: "tumour"}
    mask = dataset.cases[0].mask
    assert mask is not None
    assert (read_label(mask, TRUE.shape, dataset.config) == np.array([0, 255, 1])[TRUE]).all()


def test_what_is_asked_and_refused(tmp_path: Path) -> None:
    data = folder(tmp_path)
    for file in (data / "masks").iterdir():  # on white: which colour is the background?
        Image.fromarray(np.array([(255, 255, 255), LIVER, TUMOUR], np.uint8)[TRUE]).save(file)
    with refused("no-mask-usable", naming=["#ffffff, #ff0000, #0080ff", "--palette"]):
        ucseg.init(data, out=tmp_path / "d")
    with refused("no-mask-usable", naming="#0080ff"):
        ucseg.init(data, out=tmp_path / "d", palette="liver=#ff0000")
    with refused("palette-and-classes"):
        ucseg.init(data, out=tmp_path / "d", palette="liver=#ff0000", classes="liver")
    for said, kind in (
        ("liver=#ff00", "palette-line"), ("=#ff0000", "palette-line"), ("a=#ff0000,b=#ff0000", "palette-twice"),
        ("a=#ff0000,a=#00ff00", "palette-twice"), ("background=#ffffff", "palette-empty"), ("none.txt", "palette-file"),
        ("a=#000000,b=#ff0000", "palette-background"),
    ):  # fmt: skip
        with refused(kind):
            palette_of(said)
    assert palette_of("a=#000000,background=#ffffff") == {"background": (255, 255, 255), "a": (0, 0, 0)}


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_the_colours_of_an_indexed_picture_count_where_they_are_said(tmp_path: Path, order: tuple[int, ...]) -> None:
    source, colours = folder(tmp_path), [(0, 0, 0), LIVER, TUMOUR]
    for file in (source / "masks").iterdir():
        picture = Image.fromarray(np.argsort(order).astype(np.uint8)[TRUE], "P")
        picture.putpalette([part for one in order for part in colours[one]])
        picture.save(file)
    said = "liver=#ff0000,tumour=#0080ff"
    dataset = ucseg.init(source, out=tmp_path / "d", validation="1", test="1", palette=said)
    mask = dataset.cases[0].mask
    assert mask is not None
    assert np.array_equal(read_label(mask, TRUE.shape, dataset.config), TRUE)
    picture = Image.fromarray(TRUE, "P")  # colours that nobody has named, as those of predicted masks: indices count
    picture.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6])
    picture.save(mask.file)
    assert np.array_equal(read_label(mask, TRUE.shape, dataset.config), TRUE)


@pytest.mark.parametrize(
    ("greys", "said"),
    [
        ((255, 0, 0), "tumour=#000000,background=#ffffff"),
        ((0, 255, 128), "liver=#ffffff,tumour=#808080"),
        ((0, 2, 1), "liver=#020202,tumour=#010101"),
        ((255, 0, 128), "liver=#000000,tumour=#808080,background=#ffffff,vessel=#ff0000"),
    ],
)
def test_a_picture_of_greys_shows_the_greys_of_the_palette(tmp_path: Path, greys: tuple[int, ...], said: str) -> None:
    source = folder(tmp_path)
    for file in (source / "masks").iterdir():
        Image.fromarray(np.array(greys, np.uint8)[TRUE]).save(file)
    if "vessel" in said:  # one of the masks is in colours
        Image.fromarray(np.full((24, 32, 3), LIVER, np.uint8)).save(source / "masks/4.png")
    dataset = ucseg.init(source, out=tmp_path / "d", validation="1", test="1", palette=said)
    mask = dataset.cases[0].mask
    assert mask is not None
    true = np.minimum(TRUE, len(dataset.config.classes) - 1)
    assert np.array_equal(read_label(mask, TRUE.shape, dataset.config), true)
    Image.fromarray(as_the_masks_of(dataset.config, np.zeros_like(true))).save(mask.file)  # where a model sees nothing
    assert not read_label(mask, TRUE.shape, dataset.config).any()
    Image.fromarray(values := as_the_masks_of(dataset.config, true)).save(mask.file)
    assert np.array_equal(read_label(mask, TRUE.shape, dataset.config), true)
    assert np.array_equal(as_class_indices(dataset.config, values), true)
