"""A scan is predicted slab by slab: the same as from whole maps, in a small part of their memory."""

from __future__ import annotations

import errno
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threshold_run import Threshold, plan_2d, plan_3d
from torch import Tensor

from refusals import refused
from ucseg.batches.preprocess import from_network_grid, to_network_grid
from ucseg.inference.case_scores import boundary_uncertainty, expected_loss, mean_entropy, missing
from ucseg.inference.disagreement import disagreement
from ucseg.inference.ensemble import Ensemble
from ucseg.inference.predictor import Predictor
from ucseg.machine import room
from ucseg.planning.plan import Plan
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Prediction

CLASSES = {0: "background", 1: "organ", 2: "lesion"}


class Graded(Threshold):
    """Three classes by brightness and by the place in the window, so that blending and mirroring show."""

    def predict(self, image: Tensor) -> Prediction:
        place = torch.linspace(-0.5, 0.5, image.shape[-1]) + torch.linspace(-0.3, 0.3, image.shape[-2])[:, None]

        def at(shift: float) -> Tensor:
            seen = image.mean(dim=1, keepdim=True) + place - self.level + shift
            return torch.cat([0.2 - seen, 0.3 + 0.5 * seen, seen], dim=1).softmax(dim=1)

        probabilities = at(0)
        doubt = 1.01 - probabilities.max(dim=1, keepdim=True).values
        return Prediction(probabilities, doubt, {"low": at(-0.2), "high": at(0.3)})


def graded(plan: Plan, **options: Any) -> Predictor:
    return Predictor(Graded(Threshold.Config(), plan.problem), plan, "cpu", **options)


def volume(shape: tuple[int, ...], spacing: tuple[float, ...], channels: int = 1) -> Scan:
    """Int16, its axes turned and one of them against the patient's."""
    affine = np.zeros((4, 4))
    affine[[1, 2, 0, 3], range(4)] = [*np.multiply(spacing, (1, -1, 1)), 1]
    array = np.random.default_rng(0).integers(-300, 300, (channels, *shape)).astype(np.int16)
    return Scan(array, Geometry(affine), Path("scan.nii.gz"))


def picture(*shape: int) -> Scan:
    array = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    return Scan(array, Geometry(np.eye(len(shape)), "px"), Path("scan.png"))


MIRRORED = {"augmentation": {"flip": 0.5, "flip_axes": (0, 1)}}
MANY: dict[str, tuple[Scan, Plan]] = {
    "as it is": (volume((23, 17, 40), (1, 1, 1)), plan_3d(spacing=(1, 1, 1), classes=CLASSES, one_component=(1,))),
    "finer, mirrored": (volume((9, 30, 12), (2, 1.2, 1.7)), plan_3d(spacing=(1, 1, 1), classes=CLASSES, **MIRRORED)),
    "coarser": (volume((51, 40, 26), (0.5, 0.4, 0.7)), plan_3d(spacing=(1, 1, 1), classes=CLASSES, one_component=(2,))),
    "channels": (volume((20, 5, 33), (1, 2, 1), 2), plan_3d(channels=2, classes=CLASSES, normalisation="zscore")),
    "slices": (
        volume((8, 21, 33), (1, 1.5, 1)),
        plan_3d(dims=2, slice_axis=1, patch=(16, 16), token=(8, 8), spacing=(1, 3, 1), classes=CLASSES),
    ),
    "image": (picture(3, 37, 50), plan_2d(channels=3, normalisation="rgb", classes=CLASSES, one_component=(1,))),
    "stack": (picture(1, 3, 37, 20), plan_2d(classes=CLASSES, size=(32, 32))),
}


@pytest.mark.parametrize("name", MANY)
def test_slabs_give_what_whole_maps_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, plan = MANY[name]
    one = graded(plan)
    image, grid = to_network_grid(scan, plan)
    whole = one.predict_grid(image)
    back = from_network_grid(whole.probabilities[0], grid)
    monkeypatch.setattr(room, "AT_A_TIME", 500)  # a few rows, so that there are many slabs
    monkeypatch.setattr(room, "IN_MEMORY", 0)  # maps lie in files
    found = one.predict_scan(scan, probabilities=True)
    assert found.probabilities is not None
    assert found.mask.shape == found.uncertainty.shape == scan.array.shape[1:]
    assert len(np.unique(found.mask)) > 1
    np.testing.assert_array_equal(found.mask, one.keep_components(back.argmax(axis=0)))
    np.testing.assert_allclose(found.probabilities, back, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, from_network_grid(whole.uncertainty[0], grid)[0], atol=1e-6)
    for member, mask in found.members.items():
        own = from_network_grid(whole.members[member][0], grid).argmax(axis=0)
        np.testing.assert_array_equal(mask, one.keep_components(own))
    unfiltered = whole.probabilities[0].argmax(axis=0)
    label, missed = one.keep_components(unfiltered), missing(found.mask, plan.always_present)
    spread = np.nan if whole.spread is None else whole.spread.sum() / np.count_nonzero(label)
    assert found.scores == pytest.approx(
        {
            "failure_score": expected_loss(whole.probabilities[0], label, missed),
            "disagreement": disagreement([m[0].argmax(axis=0) for m in whole.members.values()], 3, missed),
            "mean_entropy": mean_entropy(whole.probabilities[0]),
            "boundary_uncertainty": boundary_uncertainty(whole.uncertainty[0, 0], label),
            "mirror_variance": spread,
        },
        rel=1e-5,
        nan_ok=True,
    )


def test_runs_of_other_plans_are_averaged_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = volume((23, 17, 40), (1, 1, 1))
    plans = [plan_3d(spacing=spacing, classes=CLASSES, one_component=(1,)) for spacing in ((1, 1, 1), (1.5, 1, 0.8))]
    monkeypatch.setattr(room, "AT_A_TIME", 500)
    monkeypatch.setattr(room, "IN_MEMORY", 0)
    runs = [graded(plan) for plan in plans]
    runs[1].method.level.data += 0.1  # type: ignore[operator]
    each = [one.predict_scan(scan, probabilities=True).probabilities for one in runs]
    mean = (each[0] + each[1]) / 2  # type: ignore[operator]
    found = Ensemble([Path("a"), Path("b")], runs).predict_scan(scan, probabilities=True)
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)
    doubt = -(mean * np.log(mean)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(found.uncertainty, doubt, atol=1e-5)
    assert found.scores["mean_entropy"] == pytest.approx(float(doubt.mean()), rel=1e-5)


def test_a_scan_takes_a_small_part_of_the_memory_of_its_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_3d(spacing=(1, 1, 1), classes=CLASSES, one_component=(1,))
    scan = volume((32, 256, 32), (1, 1, 1))
    one = graded(plan)
    monkeypatch.setattr(room, "AT_A_TIME", 2**12)
    monkeypatch.setattr(room, "IN_MEMORY", 2**18)
    voxels = 32 * 256 * 32

    def used() -> float:
        """Bytes a voxel."""
        tracemalloc.start()
        found = one.predict_scan(scan, members=False)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.mask.any()
        return most / voxels

    # Of each voxel the number of its component, the mask, its copy and what is asked of it. Sums lie in a file.
    assert used() < 4 + 5
    one.components = False
    assert used() < 4


def test_no_temporary_folder_is_not_the_fault_of_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(room, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", unusable)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/gone")
    with refused("no-temporary-file", naming=["/gone", "TMPDIR"]):
        room.room((2, 3))


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_that_promises_no_room_is_used(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def cannot(*_: object) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr(room, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", cannot)
    array = room.room((2, 3))
    array[:] = 1
    assert room.in_file(array) and array.sum() == 6


def test_a_full_disk_is_named_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(room, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with refused("no-room-on-disk", naming=["GiB", "TMPDIR"]):
        graded(plan_3d(classes=CLASSES)).predict_scan(volume((5, 5, 5), (1, 1, 1)))
