"""What nnU-Net gets of a comparison's data, and how its masks come back; nnU-Net itself is not needed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

import ucseg
from small_scans import blob, picture, save
from ucseg.comparison.datasets import labelled_amounts
from ucseg.dataset.manifest import load_dataset
from ucseg.planning.plan import read_plan
from ucseg.types import Array

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def against(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)  # where it finds the studies
    spec = importlib.util.spec_from_file_location("against_nnunet", BENCHMARKS / "against_nnunet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "against_nnunet", module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def read(file: Path) -> Array:
    return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]


def test_plain_images_go_to_nnunet_and_its_masks_come_back(against: ModuleType, tmp_path: Path) -> None:
    for number in range(10):
        picture(tmp_path / "scans" / "images" / f"p {number}.png", number)
        save(tmp_path / "scans" / "masks" / f"p {number}.png", blob(255, number))
    ucseg.init(tmp_path / "scans", out=tmp_path / "data", validation=1, test=3)
    ucseg.plan(tmp_path / "data", set=["size=[16,32]", "strides=null"])
    dataset = load_dataset(tmp_path / "data")
    shown = labelled_amounts(dataset, ["2"])[0][0].dataset.labelled
    task = against.Task(dataset, shown, read_plan(tmp_path / "data" / "plan.yaml"), tmp_path / "work")
    against.write_raw(task)
    raw = tmp_path / "work" / "raw" / task.name
    about = json.loads((raw / "dataset.json").read_text())
    assert (about["numTraining"], about["labels"]) == (2, {"background": 0, "foreground": 1})
    assert [file.name for file in sorted((raw / "labelsTr").iterdir())] == ["case_0000.nii.gz", "case_0001.nii.gz"]
    assert len(list((raw / "imagesTs").iterdir())) == 3
    assert not (raw / "labelsTs").exists()
    image, label = read(raw / "imagesTr" / "case_0000_0000.nii.gz"), read(raw / "labelsTr" / "case_0000.nii.gz")
    assert image.shape == label.shape == (16, 32, 1)
    assert set(np.unique(label)) == {0, 1}
    # What a perfect nnU-Net would write: probabilities, classes first, axes reversed.
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, case in task.tested.items():
        true = blob(1, int(case.case.split()[-1]))
        small = against.resample(true[None].astype(np.float32), (16, 32))[0]
        np.savez(masks / f"{name}.npz", probabilities=np.stack([1 - small, small]).transpose(0, 2, 1)[:, None])
    against.own_masks(task, masks, tmp_path / "named")
    found = against.evaluate(task, tmp_path / "named", tmp_path / "metrics")
    assert found["dice"] > 0.9
    assert found["cases"].keys() == {case.case for case in dataset.test}
