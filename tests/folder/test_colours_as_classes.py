"""Masks in flat colours are classes without an option; pictures, many colours and greys are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from small_scans import blob, picture, save
from ucseg.dataset.manifest import Dataset
from ucseg.dataset.masks import read_label
from ucseg.pictures.drawing import COLOURS
from ucseg.scans.address import Address
from ucseg.scans.palette import main_colours
from ucseg.scans.reading import read_header, read_scan
from ucseg.scans.writing import write_like
from ucseg.types import Array

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def coloured(where: int, colours: tuple[tuple[int, ...], ...]) -> Array:
    """Classes 1, 2, ... as rectangles in a row, in their colours."""
    label = blob(1, where)
    label[28:34, 4:20] = 2 * (len(colours) > 2)
    return np.array(colours, np.uint8)[label]


def folder_of(root: Path, ending: str, *masks: Array) -> Path:
    for i, mask in enumerate(masks):
        picture(root / "images" / f"s{i}.png", i, 3)
        save(root / "masks" / f"s{i}{ending}", mask, **({"quality": 95} if ending == ".jpg" else {}))
    return root


def labels(data: Dataset) -> list[Array]:
    return [
        read_label(case.mask, read_header(case.image)[0], data.config)
        for case in sorted(data.cases, key=lambda case: case.case)
        if case.mask is not None
    ]


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_colours_are_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    masks = [coloured(i, (BLACK, RED, GREEN)) for i in range(7)]
    data = ucseg.init(folder_of(tmp_path / "scans", ending, *masks, np.zeros_like(masks[0])), out=tmp_path / "data")
    assert data.config.classes == {0: "background", 1: "red", 2: "green"}
    for found, mask in zip(labels(data), [*masks, np.zeros_like(masks[0])], strict=True):
        true = (mask[..., 0] > 0) + 2 * (mask[..., 1] > 0)
        assert (found == true).mean() > (0.97 if ending == ".jpg" else 0.999)
    note = " ".join(capsys.readouterr().out.split()).partition("other names: ")[2]
    assert note.startswith("--palette red=#f" if ending == ".jpg" else "--palette red=#ff0000,green=#00ff00.")
    again = ucseg.init(
        tmp_path / "scans", out=tmp_path / "named", palette="polyp=#ff0000,tool=#00ff00" if ending == ".png" else None
    )
    assert all(map(np.array_equal, labels(again), labels(data)))


def test_a_colour_of_no_name_is_called_by_its_numbers(tmp_path: Path) -> None:
    scans = folder_of(tmp_path / "scans", ".png", *(coloured(i, (BLACK, (210, 140, 40))) for i in range(6)))
    assert ucseg.init(scans, out=tmp_path / "data").config.classes == {0: "background", 1: "colour_d28c28"}


@pytest.mark.parametrize("case", ["white", "many", "objects"])
def test_other_colours_are_asked_about(tmp_path: Path, case: str) -> None:
    """No black, a photograph as mask, a colour for each object."""
    rng = np.random.default_rng(0)
    masks = {
        "white": [coloured(i, ((255, 255, 255), RED)) for i in range(6)],
        "many": [rng.integers(0, 256, (40, 48, 3), np.uint8) for _ in range(6)],
        "objects": [coloured(i, (BLACK, (40 * i, 90, 7), (3, 30 * i, 200))) for i in range(6)],
    }[case]
    with refused("no-mask-usable", naming="colours"):
        ucseg.init(folder_of(tmp_path / "scans", ".png", *masks), out=tmp_path / "data")


def test_the_colours_around_which_a_picture_lies() -> None:
    flat = coloured(1, (BLACK, RED, GREEN)).transpose(2, 0, 1)
    noise = np.random.default_rng(0).integers(-20, 21, flat.shape)
    assert len(main_colours(np.clip(flat + noise, 0, 255).astype(np.uint8))) == 3
    assert main_colours(np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)) == []


def indexed(path: Path, label: Array, *colours: tuple[int, ...]) -> None:
    """A picture with a palette: number i is colours[i]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label, "P")
    image.putpalette([part for colour in colours for part in colour])
    image.save(path)


def of_two_orders(root: Path, *colours: tuple[int, ...]) -> list[Array]:
    """Masks of classes 0, 1, 2; in every second one the numbers of their colours are turned round."""
    true = []
    for i in range(8):
        picture(root / "images" / f"s{i}.png", i)
        true.append(blob(1, i))
        true[-1][28:34, 4:20] = 2
        turned = i % 2 == 1
        indexed(root / "masks" / f"s{i}.png", 2 - true[-1] if turned else true[-1], *colours[:: -1 if turned else 1])
    return true


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_where_a_number_is_another_colour_in_another_mask_the_colours_are_the_classes(tmp_path: Path) -> None:
    true = of_two_orders(tmp_path / "scans", BLACK, RED, GREEN)
    data = ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    assert data.config.classes == {0: "background", 1: "red", 2: "green"}
    for found, label in zip(labels(data), true, strict=True):
        assert (found == label).all()
    with refused("mask-numbers-differ", naming=["s1.png", "#00ff00", "--palette"]):
        ucseg.init(tmp_path / "scans", out=tmp_path / "data2", classes="vessel,lesion")


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_without_black_the_user_says_what_such_colours_are(tmp_path: Path) -> None:
    of_two_orders(tmp_path / "scans", (255, 255, 255), RED, GREEN)
    with refused("mask-numbers-differ", naming=["s1.png", "#00ff00", "s0.png", "--palette"]):
        ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    palette = "background=#ffffff,vessel=#ff0000,lesion=#00ff00"
    assert ucseg.init(tmp_path / "scans", out=tmp_path / "data", palette=palette).config.classes[2] == "lesion"


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_numbers_of_one_palette_are_the_classes(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "scans" / "images" / f"s{i}.png", i)
        indexed(tmp_path / "scans" / "masks" / f"s{i}.png", blob(1 + i % 2, i), BLACK, GREEN, RED)
    data = ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    assert data.config.classes == {0: "background", 1: "class_1", 2: "class_2"}
    assert not data.config.palette


def test_our_own_coloured_mask_has_class_numbers_whatever_its_colours_mean_elsewhere(tmp_path: Path) -> None:
    """A dataset whose masks have our colours the other way round, and a mask that `predict --colour` writes."""
    blue, orange = COLOURS[:2]
    masks = [coloured(i, (BLACK, blue, orange)) for i in range(6)]
    data = ucseg.init(folder_of(tmp_path / "scans", ".png", *masks), out=tmp_path / "data")
    assert [*data.config.classes.values()] == ["background", "colour_e69f00", "colour_56b4e9"]
    label = blob(1)
    label[28:34, 4:20] = 2
    write_like(label, read_scan(tmp_path / "scans" / "images" / "s0.png"), tmp_path / "ours.png", colours=COLOURS)
    mask = Address.of(tmp_path / "ours.png").as_said(data.config.said)
    assert (read_label(mask, label.shape, data.config) == label).all()
    Image.open(tmp_path / "ours.png").convert("RGB").save(tmp_path / "theirs.png")
    mask = Address.of(tmp_path / "theirs.png").as_said(data.config.said)
    assert (read_label(mask, label.shape, data.config) == np.array([0, 2, 1])[label]).all()
