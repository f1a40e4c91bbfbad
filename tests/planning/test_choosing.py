"""How a plan follows from the data: rank, levels, resolution, mirroring, what a machine can hold; and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.planning import measuring
from ucseg.planning.budget import Cost, batch_that_fits, halve_to_fit, steps_in
from ucseg.planning.choosing import plan_with_reasons
from ucseg.planning.fingerprint import take_fingerprint
from ucseg.planning.plan import Plan, read_plan, require_trainable, write_plan
from ucseg.planning.sizing import Choice, batch_for, network_rank, patch_for, spacing_that_fits, strides_for, whole_size
from ucseg.soundness.before_training import alike, thumbnails_before_training
from ucseg.types import Problem


def dataset(folder: Path, labels: list[NDArray[Any]], unlabelled: int = 1, spacing: float = 1.0) -> Dataset:
    """Volumes of noise, one for each label, and `unlabelled` ones without."""
    cases, shape = [], labels[0].shape
    affine = np.diag([1.0, 1.0, spacing, 1.0])
    for index in range(len(labels) + unlabelled):
        image, mask = folder / f"{index}.nii.gz", folder / f"{index}_seg.nii.gz"
        voxels = np.random.default_rng(index).normal(100, 10, shape).astype(np.float32)
        nibabel.Nifti1Image(voxels, affine).to_filename(image)
        if index < len(labels):
            nibabel.Nifti1Image(labels[index], affine).to_filename(mask)
        cases.append(Case(str(index), str(index), image, mask if index < len(labels) else None, "train"))
    config = DatasetConfig(
        name="test", root=str(folder), dims=3, modality="mri", channels=1, classes={0: "back", 1: "head", 2: "tail"}
    )
    return Dataset(folder, config, cases)


def head_and_tail(seed: int, swap: bool = False) -> NDArray[Any]:
    """Two blocks, head before tail along axis 1, at random places of the other axes."""
    label = np.zeros((24, 32, 24), np.uint8)
    rng = np.random.default_rng(seed)
    for value, along in ((1, 4), (2, 20)):
        x, z = rng.integers(2, 16, 2)
        label[x : x + 6, along : along + 8, z : z + 6] = 3 - value if swap else value
    return label


@pytest.mark.parametrize(
    ("shape", "spacing", "rank"),
    [
        ((300, 300, 120), (1, 1, 1), 3),
        ((256, 216, 10), (1.4, 1.4, 10), 2),  # ACDC
        ((320, 320, 24), (0.6, 0.6, 3.6), 3),  # PROMISE12
        ((128, 128, 5), (3, 3, 3), 2),  # nothing to halve
    ],
)
def test_thick_slices_are_looked_at_one_by_one(shape: Any, spacing: Any, rank: int) -> None:
    assert network_rank(3, np.array(shape), np.array(spacing), 2).value == rank
    assert network_rank(2, np.array(shape[:2]), np.array(spacing[:2]), 1).value == 2


@pytest.mark.parametrize(
    ("patch", "spacing", "strides"),
    [
        ((224, 224), (1, 1), [(2, 2)] * 4),
        ((40, 56, 40), (1, 1, 1), [(2, 2, 2)] * 3),
        ((256, 256, 12), (0.7, 0.7, 5), [(2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 1)]),  # slices wait for the pixels
        ((16, 32), (1, 1), [(2, 2), (2, 2), (1, 2)]),
    ],
)
def test_no_axis_is_halved_below_four_voxels(patch: Any, spacing: Any, strides: Any) -> None:
    found = strides_for(patch, spacing).value
    assert list(found) == strides
    lowest = np.array(patch) / np.prod(found, axis=0)
    assert (lowest >= np.minimum(4, patch)).all()


def test_the_patch_is_as_long_in_mm_along_every_axis_unless_the_structure_is_longer() -> None:
    found = np.array(patch_for(np.array([500, 500, 100]), (0.8, 0.8, 2.5)).value)
    edges = found * (0.8, 0.8, 2.5)
    assert found.prod() <= 96**3 and edges.max() < 1.3 * edges.min()
    long = patch_for(np.array([500, 500, 100]), (0.8, 0.8, 2.5), np.array([40, 40, 100])).value
    assert long[2] >= 96 and np.prod(long) <= 96**3


def test_a_structure_larger_than_a_patch_can_be_is_seen_at_low_resolution() -> None:
    assert spacing_that_fits((1.0, 1.0, 1.0), np.array([80, 80, 80]), [0, 1, 2]) is None
    coarse = spacing_that_fits((0.8, 0.8, 3.0), np.array([250, 200, 180]), [0, 1, 2])
    assert coarse is not None and "low resolution" in coarse.why
    assert np.prod(np.ceil(np.array([250, 200, 180]) / coarse.value)) <= 96**3
    assert coarse.value[0] == coarse.value[1] > 1.4 and coarse.value[2] < 4  # the fine axes first


def test_classes_that_differ_in_place_are_neither_mirrored_nor_turned_there(tmp_path: Path) -> None:
    planned = plan_with_reasons(dataset(tmp_path, [head_and_tail(seed) for seed in range(6)]))
    assert planned.plan.augmentation.flip_axes == (0, 2) and planned.plan.augmentation.rotate90 > 0
    assert all(part in planned.reasons["augmentation"] for part in ("'head' before 'tail'", "axis 1", "6 masks"))
    sliced = plan_with_reasons(dataset(tmp_path, [head_and_tail(seed) for seed in range(6)]), dims=2).plan
    assert (sliced.slice_axis, sliced.augmentation.flip_axes) == (2, (0,))  # axis 0 of a slice


def test_classes_in_either_order_are_mirrored(tmp_path: Path) -> None:
    labels = [head_and_tail(seed, swap=seed % 2 == 0) for seed in range(6)]
    assert plan_with_reasons(dataset(tmp_path, labels)).plan.augmentation.flip_axes is None


def test_every_chosen_value_has_its_reason_and_an_override_says_what_it_replaced(tmp_path: Path) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)])
    free = plan_with_reasons(data)
    numbers = {"dims", "spacing", "patch", "strides", "token", "labelled_batch", "normalisation", "augmentation"}
    assert numbers <= free.reasons.keys()
    bound = plan_with_reasons(data, overrides={"patch": 16, "strides": [2, 2]})
    assert (bound.plan.patch, bound.plan.strides) == ((16, 16, 16), ((2, 2, 2), (2, 2, 2)))
    assert "24 x 32 x 24" in bound.reasons["patch"]
    assert bound.plan.token == (4, 4, 4)
    write_plan(free.plan, tmp_path / "plan.yaml", free.reasons)
    assert f"why: {free.reasons['token'][:40]}" in (tmp_path / "plan.yaml").read_text()
    assert read_plan(tmp_path / "plan.yaml") == free.plan


def test_one_voxel_on_the_lowest_level_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path, [head_and_tail(0)])
    with refused("plan-lowest-level", naming="[16, 16, 16]"):
        plan_with_reasons(data, overrides={"patch": 16, "strides": [2, 2, 2, 2]})
    plan = plan_with_reasons(data, overrides={"patch": [16, 16, 32], "strides": [2, 2, 2, 2]}).plan
    assert require_trainable(plan, "plan") is plan
    with refused("plan-lowest-level", naming="plan.yaml"):
        require_trainable(plan.model_copy(update={"patch": (16, 16, 16)}), "plan.yaml")


@pytest.mark.parametrize("setting", [[3], [[1, 1, 1]], 7])
def test_impossible_levels_are_named(tmp_path: Path, setting: Any) -> None:
    with pytest.raises(UserError, match="strides"):
        plan_with_reasons(dataset(tmp_path, [head_and_tail(0)]), overrides={"strides": setting})


def test_only_changed_scans_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)], unlabelled=2)
    read: list[str] = []
    real = measuring.facts_of
    monkeypatch.setattr(measuring, "facts_of", lambda case, *rest: read.append(case.case) or real(case, *rest))
    first = take_fingerprint(data)
    assert sorted(read) == ["0", "1", "2", "3"] and first.unlabelled == ("2", "3")
    read.clear()
    assert take_fingerprint(data) == first and read == []
    os.utime(data.cases[1].image.file, (1, 1))
    take_fingerprint(data)
    assert read == ["1"]
    hidden = Dataset(data.folder, data.config, [data.cases[0], *(Case(c.case, c.subject, c.image, None, "train")
                                                                 for c in data.cases[1:])])  # fmt: skip
    assert take_fingerprint(hidden).labelled == ("0",)  # what was once read of a mask is not used once it is hidden


def test_training_images_that_are_nearly_the_same_are_reported_before_training(tmp_path: Path) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)], unlabelled=2)
    assert alike(data, thumbnails_before_training(data)) == []
    copy = np.random.default_rng(0).normal(100, 10, (24, 32, 24)) + 0.01
    nibabel.Nifti1Image(copy.astype(np.float32), np.eye(4)).to_filename(data.cases[3].image.file)
    (found,) = alike(data, thumbnails_before_training(data))
    assert found.kind == "near-duplicate" and all(f"{name} (train)" in found.finding for name in (0, 3))


class FakeMachine:
    """Time and memory grow with the voxels of a batch."""

    name = "a test"
    memory = 10e9

    def __init__(self, seconds: float = 0.1, size: float = 1e9) -> None:
        self.seconds, self.size, self.asked = seconds, size, []  # type: ignore[var-annotated]

    def step(self, problem: Problem, half: int) -> Cost:
        self.asked.append(half)
        part = half * float(np.prod(problem.patch)) / 32**3 * (problem.width / 16) ** 2
        return Cost(self.seconds * part, self.size * part)

    def validation_seconds(self, plan: Plan, shape: tuple[int, ...]) -> float:
        return 5.0


def test_the_batch_fits_memory_and_time() -> None:
    problem, wanted = Problem(3, 1, 2, (32, 32, 32), (8, 8, 8)), Choice(12, "the paper's")
    machine = FakeMachine()
    half, cost = batch_that_fits(machine, problem, wanted)
    assert half.value == 10 and cost.bytes == 10e9 and "9.3 GiB of a test" in half.why
    assert max(machine.asked) == 10  # nothing larger than what fits was ever tried
    half, cost = batch_that_fits(FakeMachine(size=1), problem, wanted, hours=2.5)
    assert half.value == 9 and "10000 steps" in half.why and "2.5 h" in half.why
    half, _ = batch_that_fits(FakeMachine(size=1), problem, wanted, hours=0.01)
    assert half.value == 2 and "180 steps" in half.why and "0.01 h" in half.why
    slow, cost = batch_that_fits(FakeMachine(seconds=30), problem, wanted)
    assert not cost.measured and cost.seconds == 30 * slow.value


def test_a_patch_that_does_not_fit_alone_is_made_smaller(tmp_path: Path) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)])
    planned = plan_with_reasons(data, machine=FakeMachine(size=40e9))
    assert planned.cost is not None and planned.cost.bytes <= 10e9
    assert np.prod(planned.plan.patch) < 24 * 32 * 24 and "too large" in planned.reasons["patch"]
    assert halve_to_fit((96, 96, 96), (1, 1, 1), 1).value == (64, 80, 80)


def test_the_time_gives_the_steps() -> None:
    steps = steps_in(2, Cost(0.5, 1e9), 30)
    assert steps.value == 13_000  # (0.95 * 7200 - 10 * 30) / 0.5 = 13,080
    with refused("hours-too-few", naming=["--hours 0.01", "h or more"]):
        steps_in(0.01, Cost(60, 1e9), 30)


def test_hours_settle_the_plan_s_steps(tmp_path: Path) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)])
    planned = plan_with_reasons(data, machine=FakeMachine(), hours=1)
    assert planned.plan.steps is not None and "1 h at" in planned.reasons["steps"]
    expected = (0.95 * 3600 - 50) / planned.cost.seconds  # type: ignore[union-attr]
    assert 0.9 * expected < planned.plan.steps <= expected


@pytest.mark.parametrize(("hours", "width"), [(1, 16), (2000, 32)])
def test_a_long_time_allows_wider_networks(tmp_path: Path, hours: float, width: int) -> None:
    data = dataset(tmp_path, [head_and_tail(0), head_and_tail(1)])
    machine = FakeMachine(size=1e8)
    planned = plan_with_reasons(data, machine=machine, hours=hours)
    assert planned.plan.width == planned.plan.problem.width == width
    assert planned.cost == machine.step(planned.plan.problem, planned.plan.labelled_batch)
    small = plan_with_reasons(data, machine=FakeMachine(size=2e9), hours=hours)
    assert small.plan.width == 16, "no memory for wider ones"
    assert plan_with_reasons(data, overrides={"width": 24}, machine=machine, hours=hours).plan.width == 24


def plain_images(folder: Path, shape: tuple[int, int]) -> Dataset:
    """Three grey images of noise, two of them labelled with a large block."""
    cases = []
    for index in range(3):
        image, mask = folder / f"{index}.png", folder / f"{index}_seg.png"
        noise = np.random.default_rng(index).integers(0, 255, shape, dtype=np.uint8)
        Image.fromarray(noise).save(image)
        label = np.zeros(shape, np.uint8)
        label[shape[0] // 4 : -shape[0] // 4, shape[1] // 4 : -shape[1] // 4] = 1
        Image.fromarray(label).save(mask)
        cases.append(Case(str(index), str(index), image, mask if index < 2 else None, "train"))
    config = DatasetConfig(
        name="test", root=str(folder), dims=2, modality="ultrasound", channels=1, classes={0: "back", 1: "head"}
    )
    return Dataset(folder, config, cases)


def test_plain_images_get_an_encoder_that_knows_photographs_and_volumes_and_the_paper_none(tmp_path: Path) -> None:
    images = plain_images(tmp_path, (64, 64))
    planned = plan_with_reasons(images)
    assert planned.plan.encoder == planned.plan.problem.encoder == "effnet_lite0" and planned.reasons["encoder"]
    assert plan_with_reasons(images, overrides={"encoder": None}).plan.encoder is None
    assert plan_with_reasons(images, overrides={"preset": "published"}).plan.encoder is None
    volumes = dataset(tmp_path, [head_and_tail(0)])
    assert plan_with_reasons(volumes).plan.encoder is plan_with_reasons(volumes, dims=2).plan.encoder is None
    with refused("setting-value", naming=["encoder", "2D"]):
        plan_with_reasons(volumes, overrides={"encoder": "effnet_lite0"})
    with refused("setting-value", naming=["encoder", "vgg", "effnet_lite0", "null"]):
        plan_with_reasons(images, overrides={"encoder": "vgg"})


@pytest.mark.parametrize(
    ("hours", "size", "steps"),
    [(20, (256, 176), 10000), (3, (224, 144), 10000), (0.1, (128, 96), 770)],
)
def test_a_short_time_sees_smaller_images_rather_than_few_steps(
    tmp_path: Path, hours: float, size: tuple[int, int], steps: int
) -> None:
    """Not below half the paper's edge; the aspect stays."""
    data = plain_images(tmp_path, (540, 376))
    planned = plan_with_reasons(data, machine=FakeMachine(seconds=0.5), hours=hours)
    assert planned.plan.size == planned.plan.patch == size
    assert planned.plan.labelled_batch >= 2 and (planned.plan.steps or 0) >= 0.9 * steps
    assert ("10000 steps" in planned.reasons["size"]) == (size != (256, 176))
    asked = plan_with_reasons(data, overrides={"size": [256, 176]}, machine=FakeMachine(seconds=0.5), hours=0.1)
    assert asked.plan.size == (256, 176)


def test_reasons_say_what_the_numbers_are() -> None:
    alike = network_rank(3, np.array([40, 56, 35]), np.array([1.0, 1.0, 1.0]), 2)
    assert "35 slices, as thick as wide" in alike.why
    assert "3 times as thick as wide" in network_rank(3, np.array([40, 56, 35]), np.array([1.0, 1.0, 3.0]), 2).why
    assert "median 256 x 256 pixels" in whole_size(np.array([[256, 256]] * 3)).why
    assert (
        batch_for((112, 112)).why == "the upper limit; as many pixels as the paper's 12 of 256^2 would take 63 patches"
    )
    pictures = patch_for(np.array([300, 400]), (1.0, 1.0), np.array([289, 287]))
    assert "289 x 287 pixels" in pictures.why and "voxels" not in pictures.why
    volumes = patch_for(np.array([300, 400, 300]), (1.0, 1.0, 1.0), np.array([80, 87, 60]))
    assert "80 x 87 x 60 voxels" in volumes.why
