"""What cannot fit into memory is refused before it begins, with what it needs and what is free."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from threshold_run import Threshold, plan_2d, plan_3d

from refusals import refused
from ucseg.batches import preprocess
from ucseg.config import build
from ucseg.inference import step_memory
from ucseg.inference.predictor import Predictor
from ucseg.inference.step_memory import bytes_for_a_voxel, require_batch, require_memory, require_window
from ucseg.machine import memory
from ucseg.methods import build_method
from ucseg.scans.scan import Geometry, Scan
from ucseg.training.masked_images import MaskedImages, MaskedImagesConfig
from ucseg.training.settings import TrainConfig
from ucseg.types import Problem

SUPERVISED = partial(build_method, "supervised", {})
CONFIG = build(TrainConfig, {"device": "cpu", "precision": "fp32"}, "train")


def test_a_run_of_which_no_step_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_2d()
    require_memory(SUPERVISED, plan, CONFIG)
    monkeypatch.setattr(step_memory, "free_memory", lambda: 2.0**16)
    with refused("too-little-memory", naming=["16 x 16", "cpu"]):
        require_memory(SUPERVISED, plan, CONFIG)
    pretraining = partial(MaskedImages, MaskedImagesConfig())
    with refused("too-little-memory", naming=["16 x 16", "cpu"]):
        require_batch(pretraining, plan, CONFIG, MaskedImages.views, masks=False)
    method = build_method("supervised", {}, plan.problem).eval()
    monkeypatch.setattr(step_memory, "free_memory", lambda: 2.0**12)
    with refused("too-little-memory", naming=["16 x 16", "cpu"]):
        require_window(method, plan, torch.device("cpu"))
    monkeypatch.setattr(step_memory, "free_memory", lambda: 2.0**20)
    require_window(method, plan, torch.device("cpu"))


def test_two_networks_keep_twice_as_much_as_one() -> None:
    problem = Problem(2, 1, 2, (64, 64), (8, 8), width=4)
    one = bytes_for_a_voxel(SUPERVISED, problem, CONFIG)
    assert one > 4 * 2 * 4  # of the finest level alone: float32, two convolutions, four channels
    assert bytes_for_a_voxel(partial(build_method, "cps", {}), problem, CONFIG) / one == pytest.approx(2, rel=0.1)


def test_a_scan_that_cannot_fit_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_3d(spacing=(1, 1, 1))
    scan = Scan(np.zeros((1, 20, 20, 20), np.float32), Geometry(np.diag([1.0, 1, 1, 1])), Path("large.nii.gz"))
    whole = Predictor(Threshold(Threshold.Config(), plan.problem), plan, "cpu")
    need = 4 * 20**3
    for free in (need - 1, 3 * need):  # too little for the image, and for its prediction alone
        monkeypatch.setattr(preprocess, "free_memory", lambda free=free: float(free))
        with refused("scan-needs-memory", naming=["large.nii.gz", "20 x 20 x 20"]):
            whole.predict_scan(scan)
    monkeypatch.setattr(preprocess, "free_memory", lambda: 100.0 * need)
    whole.predict_scan(scan)


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("max", "current", "stat")]
    for file, text in zip(files, ("1000\n", "900\n", "anon 1\ninactive_file 50\n"), strict=True):
        file.write_text(text)
    group = (*map(str, files), "inactive_file")
    monkeypatch.setattr(memory, "_CONTROL_GROUPS", (group,))
    assert memory.free_memory() == 150
    files[0].write_text("max\n")
    free = memory.free_memory()
    assert free > 2**20 or math.isinf(free)
