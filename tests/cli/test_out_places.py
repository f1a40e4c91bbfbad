"""A place that cannot hold results is refused before the work: a file where a folder should be, or the other way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ucseg
from refusals import refused
from small_scans import blob, picture, save


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with masks, and `data`, their dataset."""
    folder = tmp_path_factory.mktemp("out_places")
    for name in "abcdef":
        picture(folder / "scans" / "images" / f"{name}.png")
        save(folder / "scans" / "masks" / f"{name}.png", blob())
    ucseg.init(folder / "scans", out=folder / "data")
    return folder


FOLDERS: dict[str, Callable[[Path, Path], Any]] = {
    "init": lambda folder, out: ucseg.init(folder / "scans", out=out),
    "train": lambda folder, out: ucseg.train(folder / "data", out=out),
    "pretrain": lambda folder, out: ucseg.pretrain(folder / "data", out=out),
    "evaluate": lambda folder, out: ucseg.evaluate(folder / "scans" / "masks", folder / "scans" / "masks", out=out),
    "demo": lambda folder, out: ucseg.demo(out=out),
}
FILES: dict[str, Callable[[Path, Path], Any]] = {
    "plan": lambda folder, out: ucseg.plan(folder / "data", out=out),
    "report": lambda folder, out: ucseg.report([folder / "data"], out=out),
}


@pytest.mark.parametrize("verb", [*FOLDERS, *FILES])
def test_a_place_below_a_file_is_refused(scans: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("the user's")
    with refused("out-below-file", naming=[tmp_path / "file" / "new.html", tmp_path / "file", "--out"]):
        (FOLDERS | FILES)[verb](scans, tmp_path / "file" / "new.html")
    assert (tmp_path / "file").read_text() == "the user's"


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_file_is_no_folder(scans: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("the user's")
    with refused("out-is-other", naming=[tmp_path / "file", "--out"]):
        FOLDERS[verb](scans, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "the user's"


@pytest.mark.parametrize("verb", FILES)
def test_a_folder_is_no_file(scans: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with refused("out-is-other", naming=[tmp_path / "folder.html", "--out"]):
        FILES[verb](scans, tmp_path / "folder.html")


def test_a_plan_replaces_no_other_file(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("mine: 1")
    with refused("plan-out-taken", naming=tmp_path / "notes.yaml"):
        ucseg.plan(scans / "data", out=tmp_path / "notes.yaml")
    assert (tmp_path / "notes.yaml").read_text() == "mine: 1"
