"""Several runs together: which words are runs, and what their mean is."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from threshold_run import make_run, plan_2d

from refusals import refused
from ucseg.cli.predict import predict
from ucseg.inference.ensemble import split_runs
from ucseg.training.checkpoint import load_tensors, save_weights
from ucseg.training.run_folder import RunFolder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three runs of other thresholds: .3, .5 and .8."""
    made = []
    for number, level in enumerate((0.3, 0.5, 0.8)):
        run = make_run(tmp_path / f"run{number}", plan_2d(), monkeypatch)
        tensors, _ = load_tensors(run / "last.safetensors")
        save_weights(RunFolder(run), "last", {**tensors, "level": torch.tensor(level)}, {"step": 1})
        made.append(run)
    return made


def test_leading_runs_belong_together(runs: list[Path], tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    assert split_runs(runs[0], [runs[1], runs[2], scan]) == (runs, [scan])
    assert split_runs(runs[0], [scan, runs[1]]) == ([runs[0]], [scan, runs[1]]), "behind a scan it is no run"
    with refused("no-scans-given", naming=[str(runs[1])]):
        split_runs(runs[0], [runs[1]])
    with refused("run-twice"):
        split_runs(runs[0], [runs[1], runs[0], scan])


def test_the_mean_of_their_probabilities_and_where_they_differ(
    runs: list[Path], tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    image = np.repeat(np.array([0, 100, 160, 255], np.uint8), 5 * 20).reshape(20, 20)
    Image.fromarray(image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "probabilities": True, "members": True}
    predict(runs[0], [runs[1], runs[2], tmp_path / "a.png"], out=out, **options)
    shown = np.unique(image, return_inverse=True)[1].reshape(image.shape)
    # Above .3 lie three of the four brightnesses, above .5 two, above .8 one.
    share = np.array([0, 1 / 3, 2 / 3, 1])[shown]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "a.png")), share > 0.5)
    np.testing.assert_allclose(np.asarray(Image.open(out / "probabilities" / "organ" / "a.tif")), share, atol=1e-5)
    doubt = np.asarray(Image.open(out / "uncertainty" / "a.tif"))
    entropy = -(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3)) / np.log(2)
    np.testing.assert_allclose(doubt, np.where((share == 0) | (share == 1), 1e-6, entropy), atol=1e-4)
    assert sorted(file.parent.name for file in (out / "members").rglob("a.png")) == ["run0", "run1", "run2"]
    row = next(csv.DictReader((out / "cases.csv").open()))
    # Masks of 300, 200 and 100 pixels: the mean Dice of their pairs.
    dice = np.mean([2 * 200 / 500, 2 * 100 / 400, 2 * 100 / 300])
    assert float(row["run_disagreement"]) == pytest.approx(1 - dice, abs=1e-5)
    assert row["predicted_dice"] == row["disagreement"] == ""
    assert "runs-together" in dict(said)
    predict(runs[0], [runs[1], runs[2], tmp_path / "a.png"], out=out, resume=True, **options)
    with refused("resume-differs"):
        predict(runs[0], [runs[1], tmp_path / "a.png"], out=out, resume=True, **options)


def test_the_order_of_runs_with_other_plans_changes_nothing(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = make_run(tmp_path / "sure", plan_2d(one_component=(1,), always_present=(1,)), monkeypatch)
    image = np.zeros((20, 20), np.uint8)
    image[2:6, 2:6] = image[10:13, 10:13] = 255  # two pieces, of which one plan keeps one
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image * 0).save(tmp_path / "empty.png")
    found = []
    for order in ([sure, runs[0]], [runs[0], sure]):
        out = tmp_path / order[0].name / "out"
        predict(order[0], [order[1], tmp_path / "a.png", tmp_path / "empty.png"], out=out, device="cpu")
        rows = [row["failure_score"] for row in csv.DictReader((out / "cases.csv").open())]
        found.append((np.asarray(Image.open(out / "a.png")).tolist(), rows))
    assert found[0] == found[1]
    np.testing.assert_array_equal(found[0][0], image > 0)


def test_a_copy_of_a_run_does_not_count_twice(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "copy")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    with refused("run-twice", naming=["copy", "run0"]):
        predict(runs[0], [tmp_path / "copy", tmp_path / "a.png"], out=tmp_path / "out", device="cpu")


def test_runs_of_other_classes_are_refused(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_run(tmp_path / "other", plan_2d(classes={0: "background", 1: "vessel"}), monkeypatch)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    with refused("runs-differ", naming=["other", "vessel"]):
        predict(runs[0], [other, tmp_path / "a.png"], out=tmp_path / "out", device="cpu")
