"""Masks with a palette: seen in a viewer, and the same numbers to every verb that reads them back."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threshold_run import make_run, plan_2d

import ucseg
from ucseg.pictures.drawing import COLOURS


def test_coloured_masks_hold_the_same_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", plan_2d(), monkeypatch)
    (tmp_path / "scans").mkdir()
    for i in range(2):
        image = np.zeros((24, 20), np.uint8)
        image[: 8 + i, :10] = 255
        Image.fromarray(image).save(tmp_path / "scans" / f"a{i}.png")
    for name, colour in (("grey", False), ("coloured", True)):
        ucseg.predict(run, [tmp_path / "scans"], out=tmp_path / name, colour=colour, members=True)
    for file in sorted((tmp_path / "grey").glob("*.png")):
        grey, coloured = Image.open(file), Image.open(tmp_path / "coloured" / file.name)
        assert (grey.mode, coloured.mode) == ("L", "P")
        assert np.array_equal(np.asarray(coloured), np.asarray(grey))
        assert np.asarray(coloured).max() == 1
        shown = np.asarray(coloured.convert("RGB"))
        assert {tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()} == {(0, 0, 0), COLOURS[0]}
    assert Image.open(tmp_path / "coloured" / "members" / "low" / "a0.png").mode == "P"
    for one, other in (("grey", "coloured"), ("coloured", "grey")):
        references = tmp_path / f"{other}-references"
        references.mkdir()
        for file in (tmp_path / other).glob("*.png"):
            shutil.copy(file, references)
        measured = ucseg.evaluate(tmp_path / one, references, out=tmp_path / f"{one}-numbers")
        assert measured.mean("dice") == 1.0
    tables = [list(csv.DictReader((tmp_path / name / "cases.csv").open())) for name in ("grey", "coloured")]
    assert tables[0] == tables[1]


def test_a_dataset_of_coloured_masks_has_their_classes(tmp_path: Path) -> None:
    from ucseg.scans.address import Address
    from ucseg.scans.reading import read_scan
    from ucseg.scans.writing import write_like

    for i in range(6):
        mask = np.zeros((24, 20), np.uint8)
        mask[4:10, 3:9], mask[14:20, 8:15] = 1, 2
        file = tmp_path / "scans" / "images" / f"a{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 20), dtype=np.uint8)).save(file)
        write_like(mask, read_scan(Address.of(file)), tmp_path / "scans" / "masks" / f"a{i}.png", COLOURS)
    data = ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    assert list(data.config.classes) == [0, 1, 2]
    assert not data.config.values
    assert ucseg.check(data.folder) is not None
