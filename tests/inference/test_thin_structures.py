"""Thin structures from a folder to masks: nothing is resized on the way, though no image has the size of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threshold_run import make_run

import ucseg
from ucseg.planning.plan import Plan


def vessels(folder: Path, count: int) -> None:
    """Images with bright lines of two pixels that cross, and their masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        shape = tuple(int(edge) for edge in rng.integers(240, 300, 2))
        rows, columns = np.indices(shape)
        mask = np.zeros(shape, bool)
        for along, across in ((rows, columns), (columns, rows)):
            for middle in rng.integers(20, 220, 5):
                mask |= np.abs(across - middle - 8 * np.sin(along / 17)) < 1
        image = np.where(mask, 200, rng.integers(20, 60, shape)).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"v{index}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"v{index}.png")


def mean_dice(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of a run that is right in every pixel that it sees, on the dataset's test images."""
    out = tmp_path / f"masks-{plan.size}"
    run = make_run(tmp_path / f"run-{plan.size}", plan, monkeypatch)
    ucseg.predict(run, [tmp_path / "data"], out=out, device="cpu", precision="fp32", mirror=False)
    found = []
    for file in out.glob("*.png"):
        mask, true = (np.asarray(Image.open(at)) > 0 for at in (file, tmp_path / "scans" / "masks" / file.name))
        assert mask.shape == true.shape
        found.append(2 * (mask & true).sum() / (mask.sum() + true.sum()))
    return float(np.mean(found))


def test_vessels_come_back_pixel_by_pixel_at_the_size_of_their_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vessels(tmp_path / "scans", 8)
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", modality="ultrasound")
    settings = ["normalisation=unit", "patch=96"]
    plan = ucseg.plan(tmp_path / "data", set=settings)
    assert (plan.size, plan.spacing, plan.patch) == (None, (1.0, 1.0), (96, 96))
    assert mean_dice(plan, tmp_path, monkeypatch) == 1
    small = ucseg.plan(tmp_path / "data", set=["size=112", *settings])
    assert mean_dice(small, tmp_path, monkeypatch) < 0.9
