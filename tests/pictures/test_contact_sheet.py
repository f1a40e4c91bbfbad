"""The contact sheet: each case with its mask where it lies, whatever files are called, and whatever is broken."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from small_scans import SIZE, blob, picture, save
from ucseg.dataset.case import Case
from ucseg.pictures import contact_sheet
from ucseg.pictures.contact_sheet import ContactSheet, choose
from ucseg.pictures.drawing import COLOURS
from ucseg.types import Array

ODD = '<b>x<b>&"'
"""A name that would change a page if it were not escaped."""


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Eight pictures, six of them with a mask."""
    for i in range(8):
        name = ODD if i == 0 else f"scan_{i}"
        picture(tmp_path / "scans" / "images" / f"{name}.png", i)
        if i < 6:
            save(tmp_path / "scans" / "masks" / f"{name}.png", blob(255, i))
    return tmp_path / "scans"


def pixels(source: str) -> Array:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))


def test_init_ends_with_a_sheet_of_all_cases(scans: Path, tmp_path: Path, said: list[tuple[str, str]]) -> None:
    data = ucseg.init(scans, out=tmp_path / "data")
    sheet = tmp_path / "data" / "contact_sheet.html"
    assert said[-1][0] == "contact-sheet"
    assert said[-1][1].endswith(str(sheet))
    page = sheet.read_text()
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', page)) == len(data.cases) == 8
    assert html.escape(f"images/{ODD}.png") in page.replace("&#34;", "&quot;")
    assert "<b>x" not in page
    assert "://" not in re.sub(r'base64,[^"]+', "", page)
    assert page.count("no mask") == 2


def test_the_outline_lies_where_the_mask_does(scans: Path, tmp_path: Path) -> None:
    data = ucseg.init(scans, out=tmp_path / "data")
    sheet = ContactSheet(data)
    sheet.fill()
    tile = next(one for group in sheet.tiles().values() for one in group if one.case == "scan_1")
    drawn = pixels(tile.source).astype(int)
    blue = np.argwhere(np.abs(drawn - np.array(COLOURS[0])).max(axis=2) < 40)
    scale = drawn.shape[1] / SIZE[1]
    assert np.allclose(blue.min(axis=0), [11 * scale, 12 * scale], atol=2)
    assert np.allclose(blue.max(axis=0), [26 * scale, 30 * scale], atol=2)


def test_a_broken_case_costs_its_own_picture(scans: Path, tmp_path: Path) -> None:
    data = ucseg.init(scans, out=tmp_path / "data")
    (scans / "images" / "scan_2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (scans / "masks" / "scan_3.png").unlink()
    sheet = ContactSheet(data)
    sheet.fill()
    tiles = [one for group in sheet.tiles().values() for one in group]
    assert sorted(one.case for one in tiles if one.problem) == ["scan_2", "scan_3"]
    assert all(bool(one.source) != bool(one.problem) for one in tiles)
    assert len(tiles) == 8


def test_check_draws_what_it_reads_anyway(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ucseg.init(scans, out=tmp_path / "data")
    sheet = tmp_path / "data" / "contact_sheet.html"
    sheet.unlink()

    def twice(path: object) -> None:
        raise AssertionError(f"{path} is read twice")

    monkeypatch.setattr(contact_sheet, "read_scan", twice)
    ucseg.check(tmp_path / "data")
    assert sheet.read_text().count("<img src=") == 8


def test_a_sheet_that_cannot_be_written_is_reported_and_nothing_else_fails(
    scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    ucseg.init(scans, out=tmp_path / "data")
    sheet = tmp_path / "data" / "contact_sheet.html"
    sheet.unlink()
    sheet.mkdir()
    ucseg.check(tmp_path / "data")
    assert said[-1][0] == "contact-sheet-not-written"
    assert str(sheet) in said[-1][1]


def test_no_more_volumes_are_read_once_there_are_enough(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "AT_ONCE", 2)
    monkeypatch.setattr(contact_sheet, "MOST_VOXELS", 3 * SIZE[0] * SIZE[1])
    data = ucseg.init(scans, out=tmp_path / "data")
    assert (tmp_path / "data" / "contact_sheet.html").read_text().count("<img src=") == 4
    assert len(data.cases) == 8


def test_hidden_masks_are_not_shown(scans: Path, tmp_path: Path) -> None:
    ucseg.init(scans, out=tmp_path / "data", validation="1", test="1", labelled="1")
    page = (tmp_path / "data" / "contact_sheet.html").read_text()
    hidden = len((tmp_path / "data" / "hidden.csv").read_text().splitlines()) - 1
    assert hidden > 0
    assert page.count("no mask") == 2 + hidden
    assert page.count(" + masks/") == 6 - hidden


def test_cases_come_in_turn_from_the_splits_and_those_with_a_mask_first() -> None:
    def some(split: str, count: int, masked: bool) -> list[Case]:
        return [Case(f"{split}{i}{masked}", "s", Path("i"), Path("m") if masked else None, split) for i in range(count)]

    cases = [*some("train", 500, True), *some("train", 500, False), *some("validation", 3, True)]
    cases += some("test", 100, True)
    chosen = choose(cases, 40)
    assert len(chosen) == 40
    assert all(case.mask is not None for case in chosen)
    assert [case.split for case in chosen[:3]] == ["train", "validation", "test"]
    train = [case.case for case in chosen if case.split == "train"]
    assert (train[0], train[-1]) == ("train0True", "train499True")  # from the first to the last
    assert len(choose(cases[500:1000], 40)) == 40
    assert choose(cases[:2], 40) == cases[:2]
