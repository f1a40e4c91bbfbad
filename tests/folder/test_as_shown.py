"""Orientation tags, white that is zero, alpha: which way masks were drawn, and what init and check say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.manifest import Dataset
from ucseg.dataset.masks import read_label
from ucseg.scans.reading import read_scan
from ucseg.types import Array

SIZES = {"square": (48, 48), "wide": (40, 64)}


def disc(size: tuple[int, int], seed: int) -> Array:
    row, column = np.random.default_rng(seed).integers(10, 16, 2)
    rows, columns = np.indices(size)
    return (rows - row) ** 2 + (columns - column) ** 2 < 60


def folder_of(root: Path, ending: str, orientation: int, size: tuple[int, int], stored: bool) -> Path:
    """Ten photographs with a tag and masks without one, drawn on the stored pixels or on what a viewer shows."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for seed in range(10):
        mask = disc(size, seed)
        noise = np.random.default_rng(seed).normal(80, 5, size)
        image = Image.fromarray((noise + 90 * mask).clip(0, 255).astype(np.uint8))
        exif = image.getexif()
        exif[274] = orientation
        more = {"tiffinfo": {274: orientation}} if ending == ".tif" else {"exif": exif}
        image.save(root / f"images/c{seed}{ending}", **more)
        turned = mask if stored else {3: mask[::-1, ::-1], 6: np.rot90(mask, -1)}[orientation]
        Image.fromarray(255 * turned.astype(np.uint8)).save(root / f"masks/c{seed}.png")
    return root


def contrast(dataset: Dataset) -> float:
    """How much brighter the images are inside of their masks: 90 where both lie alike, about 0 where not."""
    found = []
    for case in dataset.cases:
        assert case.mask is not None
        scan = read_scan(case.image)
        label = read_label(case.mask, scan.array.shape[1:], dataset.config)
        found.append(float(scan.array[0][label > 0].mean()) - float(scan.array[0][label == 0].mean()))
    return min(found)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_images_and_masks_lie_alike_whichever_way_they_were_drawn(tmp_path, capfd, ending, stored, orientation, shape):
    folder = folder_of(tmp_path / "s", ending, orientation, SIZES[shape], stored)
    dataset = ucseg.init(folder, out=tmp_path / "d")
    assert contrast(dataset) > 70
    assert "10 images carry an orientation tag" in " ".join(capfd.readouterr().out.split())
    assert all(case.image.name.endswith("#stored") == stored for case in dataset.cases)
    reported = [one for one in ucseg.check(tmp_path / "d") if one.kind == "image-turned"]
    assert len(reported) == (0 if stored else 1)


def test_the_user_decides(tmp_path):
    folder = folder_of(tmp_path / "s", ".jpg", 3, SIZES["square"], stored=False)
    assert contrast(ucseg.init(folder, out=tmp_path / "d", orientation="stored")) < 20
    with refused("orientation-unknown", naming="turned"):
        ucseg.init(folder, out=tmp_path / "e", orientation="turned")


def test_masks_in_the_alpha_channel_are_named(tmp_path, capfd):
    folder = folder_of(tmp_path / "s", ".png", 3, SIZES["square"], stored=False)
    for seed in range(10):
        mask = disc(SIZES["square"], seed)[::-1, ::-1]
        Image.fromarray(np.dstack([np.full(mask.shape, 255), 255 * mask]).astype(np.uint8)).save(
            folder / f"masks/c{seed}.png"
        )
    dataset = ucseg.init(folder, out=tmp_path / "d")
    assert contrast(dataset) > 70
    assert "alpha channel" in capfd.readouterr().out
    (reported,) = [one for one in ucseg.check(tmp_path / "d") if one.kind == "mask-alpha"]
    assert "10 masks" in reported.finding
