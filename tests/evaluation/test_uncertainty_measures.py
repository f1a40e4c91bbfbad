"""`ucseg evaluate --uncertainty`: from the folder that `predict` wrote to figures, a table and pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refusals import refused
from ucseg.cli.evaluate import evaluate
from ucseg.types import Array


def mask(columns: int) -> Array:
    array = np.zeros((20, 24), np.uint8)
    array[5:15, 4 : 4 + columns] = 1
    return array


def write(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four cases, each worse than the one before, with maps that know most of what is wrong."""
    predictions, references = tmp_path / "masks", tmp_path / "references"
    lines = [
        "case,file,mask,status,mean_uncertainty,failure_score,predicted_dice,predicted_dice_low,predicted_dice_high"
    ]
    for number, case in enumerate("abcd"):
        predicted, true = mask(12), mask(12 - 2 * number)
        write(predictions / f"{case}.png", predicted)
        write(references / f"{case}.png", true)
        wrong = predicted != true
        doubt = np.where(wrong, 0.75, 0.25).astype(np.float32)
        doubt[0, 0] = 0.75  # as uncertain as what is wrong
        write(predictions / "uncertainty" / f"{case}.tif", doubt)
        surely = np.where(wrong, 0.6, 0.9).astype(np.float32)
        foreground = np.where(predicted == 1, surely, 1 - surely)
        write(predictions / "probabilities" / "background" / f"{case}.tif", (1 - foreground).astype(np.float32))
        write(predictions / "probabilities" / "the_organ" / f"{case}.tif", foreground.astype(np.float32))
        lines.append(f"{case},x/{case}.png,{case}.png,ok,0.5,{number / 10},{1 - number / 10},{0.95 - number / 5},1")
    (predictions / "cases.csv").write_text("\n".join(lines) + "\n")
    about = {"classes": {"0": "background", "1": "the organ"}, "precision": "fp32"}
    (predictions / "prediction.json").write_text(json.dumps(about))
    return predictions, references


def test_figures_table_and_pictures(folders: tuple[Path, Path], tmp_path: Path, said: list[tuple[str, str]]) -> None:
    result = evaluate(*folders, out=tmp_path / "out", classes="1=organ", uncertainty=True, margin=2, failed_below=0.85)
    found = result.uncertainty
    assert found is not None
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())["uncertainty"]
    wrong, right = 20 + 40 + 60, 4 * 480 - 120
    assert content["all"]["auroc"] == pytest.approx(1 - 0.5 * 4 / right)
    assert content["all"]["aupr"] == pytest.approx(wrong / (wrong + 4))
    # Two bins: .9 is always right, .6 always wrong.
    assert content["all"]["ece"] == pytest.approx((right * 0.1 + wrong * 0.6) / (wrong + right), rel=1e-4)
    assert content["all"]["brier"] == pytest.approx((right * 0.02 + wrong * 0.72) / (wrong + right), rel=1e-4)
    assert content["all"]["auroc_near"] == 1, "the corner is not near"
    near_voxels = sum(content["reliability"]["near"]["count"])
    assert 4 * 120 < near_voxels < 4 * 16 * 14

    with (tmp_path / "out" / "uncertainty.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["wrong_voxels"]) for row in rows] == [0, 20, 40, 60]
    assert rows[0]["auroc"] == "", "nothing is wrong in it"
    assert float(rows[1]["dice"]) == pytest.approx(2 * 100 / 220)
    score = content["scores"]["failure_score"]
    assert (score["cases"], score["failed"]) == (4, 2), "Dice 1, .91, .80, .67"
    assert score["excess_aurc"] == pytest.approx(0, abs=1e-9)
    assert score["spearman"] == score["failure_auroc"] == 1
    assert content["scores"]["mean_uncertainty"]["failure_auroc"] == 0.5, "the same for all"
    assert content["predicted_dice"]["within"] == 1
    for picture in ("reliability.png", "risk_coverage.png"):
        assert Image.open(tmp_path / "out" / picture).width > 300
    assert not {kind for kind, _ in said} & {"no-probabilities", "no-map", "no-score"}


def test_without_probabilities_it_says_so(
    folders: tuple[Path, Path], tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    predictions, references = folders
    (predictions / "probabilities" / "the_organ" / "b.tif").unlink()
    result = evaluate(predictions, references, out=tmp_path / "one", classes="1=organ", uncertainty=True)
    assert result.uncertainty is not None
    assert [one is not None and one.reliability is not None for one in result.uncertainty.voxels] == [
        True,
        False,
        True,
        True,
    ]
    for file in predictions.glob("probabilities/*/*"):
        file.unlink()
    (predictions / "cases.csv").unlink()
    (predictions / "uncertainty" / "d.tif").unlink()
    evaluate(predictions, references, out=tmp_path / "two", classes="1=organ", uncertainty=True)
    assert {"no-probabilities", "no-map", "no-score"} <= {kind for kind, _ in said}
    assert not (tmp_path / "two" / "reliability.png").exists()


def test_without_the_option_nothing_is_measured(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = evaluate(*folders, out=tmp_path / "out", classes="1=organ")
    assert result.uncertainty is None
    assert not (tmp_path / "out" / "uncertainty.csv").exists()


def test_what_cannot_be_measured_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    out = {"out": tmp_path / "out", "classes": "1=organ"}
    for options, kind in (({"margin": -1.0}, "margin"), ({"failed_below": 0.0}, "failed-below")):
        with refused(kind):
            evaluate(predictions, references, uncertainty=True, **options, **out)  # type: ignore[arg-type]
    write(predictions / "uncertainty" / "a.tif", np.full((20, 24), 3, np.float32))
    write(predictions / "uncertainty" / "b.tif", np.full((20, 20), 0.5, np.float32))
    with refused("cases-failed", naming=["a.tif", "b.tif"]):
        evaluate(predictions, references, uncertainty=True, **out)  # type: ignore[arg-type]
    with refused("no-uncertainty-maps", naming=["references"]):
        evaluate(references, references, uncertainty=True, overwrite=True, **out)  # type: ignore[arg-type]


def test_a_score_of_a_whole_mask_is_not_held_against_the_dice_of_a_part(
    folders: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predictions, references = folders
    part = mask(6)
    part[0] = 2
    write(references / "d.png", part)
    evaluate(predictions, references, out=tmp_path / "out", classes="1=organ,2=ignore", uncertainty=True)
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["uncertainty"]
    assert found["cases"] == 4, "its voxels count"
    assert " of 3 with Dice below" in " ".join(capfd.readouterr().out.split())
    assert found["scores"]["failure_score"]["cases"] == found["predicted_dice"]["cases"] == 3
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "uncertainty.csv").open())}
    assert rows["d"]["dice"] and rows["d"]["auroc"] and not rows["d"]["failure_score"]
    assert rows["c"]["failure_score"]
