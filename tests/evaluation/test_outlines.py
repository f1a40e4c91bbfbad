"""References that are drawn as closed lines: never compared with regions unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import ucseg
from refusals import refused
from ucseg.dataset.masks import read_label
from ucseg.evaluation.evaluate import Settings, evaluate_folder


def ellipse(path: Path, *, filled: bool, shift: int = 0, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", (80, 60))
    box = (10 + shift, 8, 60 + shift, 50)
    ImageDraw.Draw(mask).ellipse(box, outline=value, fill=value if filled else None, width=2)
    mask.save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in range(5):
        ellipse(tmp_path / "p" / f"{number}.png", filled=True, value=1)
        ellipse(tmp_path / "r" / f"{number}_Annotation.png", filled=False)
    return tmp_path / "p", tmp_path / "r"


def test_outlines_are_refused_until_it_is_said_what_they_mean(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with refused("outlines-unasked", naming=[folders[1], "0_Annotation.png", "--fill-outlines", "--no-fill-outlines"]):
        ucseg.evaluate(*folders, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()

    assert ucseg.evaluate(*folders, out=tmp_path / "filled", fill_outlines=True).mean() == 1
    noted = json.loads((tmp_path / "filled" / "metrics.json").read_text())
    assert noted["command"].endswith("--fill-outlines")
    assert evaluate_folder(*folders, Settings(fill_outlines=False)).mean() < 0.3  # the line against the region


def test_an_outline_that_does_not_close_is_named_and_the_others_are_done(folders: tuple[Path, Path]) -> None:
    outline = np.asarray(Image.open(folders[1] / "3_Annotation.png")).copy()
    outline[:, 30:40] = 0
    Image.fromarray(outline).save(folders[1] / "3_Annotation.png")
    result = evaluate_folder(*folders, Settings(fill_outlines=True))
    assert list(result.failed) == ["3"]
    assert "does not close" in result.failed["3"]
    assert len(result.cases) == 4


def test_lines_may_be_compared_with_lines(folders: tuple[Path, Path]) -> None:
    """Rings, such as the wall of a ventricle, are predicted as rings; and two readers' outlines are filled alike."""
    for number in range(5):
        ellipse(folders[0] / f"{number}.png", filled=False, shift=4)
    assert evaluate_folder(*folders).mean() < 0.6
    assert 0.85 < evaluate_folder(*folders, Settings(fill_outlines=True)).mean() < 1


def test_a_dataset_says_itself_whether_its_masks_are_outlines(tmp_path: Path) -> None:
    for number in range(5):
        ellipse(tmp_path / "scans" / f"{number}.png", filled=True, value=50 * number + 10)
        ellipse(tmp_path / "scans" / f"{number}_Annotation.png", filled=False)
        ellipse(tmp_path / "p" / f"{number}.png", filled=True, value=1)
    ucseg.init(tmp_path / "scans", out=tmp_path / "data")
    assert evaluate_folder(tmp_path / "p", tmp_path / "data", Settings("all")).mean() == 1
    with refused("option-of-dataset", naming=["--fill-outlines", "dataset.yaml"]):
        evaluate_folder(tmp_path / "p", tmp_path / "data", Settings("all", fill_outlines=True))


@pytest.mark.real
def test_hc18(shared_data: Path, tmp_path: Path) -> None:
    """Regions made of the outlines by `init` are the references of `--fill-outlines`, pixel by pixel."""
    (tmp_path / "some").mkdir()
    for name in ("000_HC", "001_HC", "010_HC", "010_2HC"):
        for file in (f"{name}.png", f"{name}_Annotation.png"):
            (tmp_path / "some" / file).symlink_to(shared_data / "hc18" / file)
    dataset = ucseg.init(tmp_path / "some", out=tmp_path / "data", modality="ultrasound", validation="0", test="0")
    (tmp_path / "p").mkdir()
    for case in dataset.cases:
        assert case.mask is not None
        size = Image.open(case.image.file).size
        Image.fromarray(read_label(case.mask, size[::-1], dataset.config)).save(tmp_path / "p" / f"{case.case}.png")
    lines = tmp_path / "lines"
    lines.mkdir()
    for file in (tmp_path / "some").glob("*_Annotation.png"):
        (lines / file.name).symlink_to(file)
    with refused("outlines-unasked", naming=lines):
        evaluate_folder(tmp_path / "p", lines)
    assert evaluate_folder(tmp_path / "p", lines, Settings(fill_outlines=True)).mean() == 1
