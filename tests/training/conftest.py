"""Lets the tests of this folder import their stand-in method by name, keeps torch on one core, and makes scans."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ucseg
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset as Manifest
from ucseg.dataset.manifest import save_dataset
from ucseg.dataset.settings import DatasetConfig

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen 32 x 32 images of a bright disc; eight to train on, four of these labelled, three to validate on."""
    root = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(14):
        y, x = np.mgrid[:32, :32]
        centre = rng.integers(10, 22, 2)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 40
        image = np.clip(90 * disc + rng.normal(80, 15, disc.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / f"scan{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(root / f"scan{number}_mask.png")
        split = "train" if number < 8 else "validation" if number < 11 else "test"
        mask = root / f"scan{number}_mask.png" if number not in range(4, 8) else None
        cases.append(Case(f"scan{number}", f"s{number}", root / f"scan{number}.png", mask, split))
    config = DatasetConfig(
        name="discs", root=str(root), dims=2, modality="ultrasound", channels=1, classes={0: "background", 1: "disc"}
    )
    save_dataset(Manifest(root / "dataset", config, cases))
    ucseg.plan(root / "dataset", set=["encoder=null", "width=8"])  # quicker
    return root / "dataset"
