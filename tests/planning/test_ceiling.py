"""What can be reached on a grid, and that a plan is as fine as the labelled masks need; no finer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_choosing import FakeMachine

from ucseg.batches.prepare import prepare
from ucseg.batches.preprocess import label_to_network_grid, to_network_grid
from ucseg.batches.stream import Stream
from ucseg.cli.plan import plan as plan_verb
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.inference.maps import Maps
from ucseg.inference.own_grid import OwnMaps
from ucseg.planning import ceiling, measuring
from ucseg.planning.ceiling import LEAST_CEILING, NetworkGrid, ceilings
from ucseg.planning.choosing import plan_with_reasons
from ucseg.planning.facts import round_trip
from ucseg.planning.plan import plan_from
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array


def images(folder: Path, labels: list[Array], unlabelled: int = 1) -> Dataset:
    """A plain image of noise for each label, `unlabelled` ones without; files of validation and test are absent."""
    cases = []
    for index in range(len(labels) + unlabelled):
        image, mask = folder / f"{index}.png", folder / f"{index}_mask.png"
        shape = labels[index % len(labels)].shape
        Image.fromarray(np.random.default_rng(index).integers(0, 255, shape, np.uint8)).save(image)
        if index < len(labels):
            Image.fromarray(labels[index]).save(mask)
        cases.append(Case(str(index), str(index), image, mask if index < len(labels) else None, "train"))
    held_out = [Case(name, name, folder / "no.png", folder / "no_mask.png", name) for name in ("validation", "test")]
    return Dataset(folder, _config(folder, 2), cases + held_out)


def volumes(folder: Path, labels: list[Array], edges: list[float]) -> Dataset:
    cases = []
    for index, (label, edge) in enumerate(zip(labels, edges, strict=True)):
        image, mask = folder / f"{index}.nii", folder / f"{index}_mask.nii"
        affine = np.diag([edge, edge, edge, 1])
        nibabel.Nifti1Image(np.full(label.shape, 100, np.uint8), affine).to_filename(image)
        nibabel.Nifti1Image(label, affine).to_filename(mask)
        cases.append(Case(str(index), str(index), image, mask, "train"))
    return Dataset(folder, _config(folder, 3), cases)


def _config(folder: Path, dims: Any) -> DatasetConfig:
    classes = {0: "background", 1: "organ", 2: "lesion"}
    return DatasetConfig(name="t", root=str(folder), dims=dims, modality="ultrasound", channels=1, classes=classes)


def vessels(seed: int, shape: tuple[int, int] = (600, 600)) -> Array:
    """Wavy lines of one to three pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    for thick in (1, 2, 3) * 4:
        wave = shape[0] * rng.random() + 30 * np.sin(columns / rng.uniform(20, 60))
        label[(rows >= wave) & (rows < wave + thick)] = 1
    return label


def disc(shape: tuple[int, ...], radius: float, value: int = 1) -> Array:
    far = sum((index - edge / 2) ** 2 for index, edge in zip(np.indices(shape), shape, strict=True))
    return ((far <= radius**2) * value).astype(np.uint8)


@pytest.mark.parametrize("shape", [(20, 24, 18), (11, 13, 15), (24, 40, 10), (7, 30, 18)])
def test_a_ceiling_is_what_comes_back_through_prepare_and_predict(shape: tuple[int, int, int]) -> None:
    label = np.zeros((20, 24, 18), np.uint8)
    label[ndimage.gaussian_filter(np.random.default_rng(0).normal(size=label.shape), 2) > 0.05] = 1
    label[3:5, 10:14, 4:9], label[15, 15, 15] = 2, 3
    spacing = tuple(n / m for n, m in zip(label.shape, shape, strict=True))
    names = {0: "background", 1: "a", 2: "b", 3: "c"}
    plan = plan_from(
        {"dims": 3, "unit": "mm", "spacing": spacing, "patch": 16, "token": 4, "labelled_batch": 1, "channels": 1,
         "unlabelled_batch": 1, "classes": names, "normalisation": "unit"}, "test"
    )  # fmt: skip
    scan = Scan(np.zeros((1, *label.shape), np.float32), Geometry(np.eye(4)), Path("scan.nii"))
    grid = to_network_grid(scan, plan)[1]
    assert grid.shape == shape
    there = label_to_network_grid(label, grid)
    sure = (there == np.arange(4).reshape(4, 1, 1, 1)).astype(np.float32)
    made = OwnMaps(grid, 4, probabilities=False, members=False, calibration=None)
    made.add(0, Maps(sure[None], np.zeros((1, 1, *shape), np.float32)))
    back = made.mask
    found = round_trip(label, shape)
    assert found.keys() == {1, 2, 3}
    for value, dice in found.items():
        own, seen = label == value, back == value
        expected = 2 * (own & seen).sum() / (own.sum() + seen.sum())
        assert dice == (pytest.approx(expected) if (there == value).any() else 0)
    assert round_trip(label, label.shape) == dict.fromkeys((1, 2, 3), 1.0)


def test_a_mask_without_any_class_is_no_reason_for_a_finer_grid(tmp_path: Path) -> None:
    one = np.zeros((300, 300), np.uint8)
    one[40:200, 50:220] = 1
    planned = plan_with_reasons(images(tmp_path, [one, np.zeros((300, 300), np.uint8)]))
    assert planned.plan.size == (224, 224), "what the grid moves is measured"
    assert planned.ceilings.dice["1"] == {} and planned.ceilings.enough


def test_thin_vessels_keep_their_pixels_and_are_seen_in_patches(tmp_path: Path) -> None:
    data = images(tmp_path, [vessels(0), vessels(1, (500, 640)), vessels(2, (180, 700))])
    planned = plan_with_reasons(data)
    plan = planned.plan
    assert (plan.size, plan.spacing, plan.patch) == (None, (1.0, 1.0), (224, 288))
    assert planned.ceilings.by_class() == {1: 1.0} and planned.ceilings.enough
    shrunk = ceilings(data, planned.seen, NetworkGrid((1.0, 1.0), (224, 224), None))
    assert shrunk.by_class()[1] < 0.85
    assert f"organ {shrunk.by_class()[1]:.3f}"[:-1] in planned.reasons["spacing"]
    assert "(ceiling): organ 1.000" in planned.reasons["spacing"]
    assert "organ" not in planned.reasons["size"], "once is enough"

    prepared = prepare(Dataset(data.folder, data.config, data.training), plan, progress=False)
    assert [case.shape for case in prepared.labelled] == [(600, 600), (500, 640), (180, 700)]
    batch = Stream(prepared.labelled, prepared.unlabelled, plan, 0, {"image": "plan"}).batch(0)
    assert batch.labelled.shape == (12, 1, 224, 288)


def test_a_large_structure_is_still_resized(tmp_path: Path) -> None:
    planned = plan_with_reasons(images(tmp_path, [disc((540, 800), 200), disc((540, 800), 150)]))
    assert planned.plan.size == planned.plan.patch == (176, 272)
    assert LEAST_CEILING < planned.ceilings.by_class()[1] < 1 and "(ceiling): organ 0.99" in planned.reasons["size"]


def test_images_become_no_finer_than_their_masks_need(tmp_path: Path) -> None:
    label = np.zeros((800, 800), np.uint8)
    for row, column in np.random.default_rng(0).integers(20, 750, (40, 2)):
        label[row : row + 24, column : column + 24] = 1
    planned = plan_with_reasons(images(tmp_path, [label]))
    assert planned.plan.size is None and planned.ceilings.enough
    assert 1 < planned.plan.spacing[0] == planned.plan.spacing[1] < 800 / 224


def test_lesions_beside_a_large_organ_are_not_seen_at_low_resolution(tmp_path: Path) -> None:
    label = disc((104, 104, 104), 51)
    for corner in np.random.default_rng(0).integers(30, 70, (4, 3)):
        label[tuple(slice(at, at + 5) for at in corner)][disc((5, 5, 5), 2.6) > 0] = 2
    planned = plan_with_reasons(volumes(tmp_path, [label], [1.0]))
    assert planned.plan.spacing == (1.0, 1.0, 1.0) and planned.plan.patch == (96, 96, 96)
    assert "lesion 0.9" in planned.reasons["spacing"] and "lesion 1.000" in planned.reasons["spacing"]
    label[label == 2] = 1
    (tmp_path / "organ").mkdir()
    alone = plan_with_reasons(volumes(tmp_path / "organ", [label], [1.0]))
    assert min(alone.plan.spacing) > 1 and "low resolution" in alone.reasons["spacing"]  # nothing changes


def test_lesions_of_a_voxel_in_the_finer_scans_make_the_plan_as_fine(tmp_path: Path) -> None:
    labels, edges = [], [0.4, 1.0, 1.0, 1.0]
    for index, edge in enumerate(edges):
        label, thick = np.zeros((30,) * 3 if edge == 1 else (40,) * 3, np.uint8), 3 if edge == 1 else 1
        label[tuple(slice(8 + index, 8 + index + thick) for _ in range(3))] = 2
        labels.append(label)
    data = volumes(tmp_path, labels, edges)
    planned = plan_with_reasons(data)
    assert planned.plan.spacing == (0.4, 0.4, 0.4) and planned.ceilings.lost() == []
    assert "lost in 1 of 4 masks" in planned.reasons["spacing"]
    coarse = plan_with_reasons(data, overrides={"spacing": 1.0})
    assert coarse.ceilings.lost() == [("0", 2)] and "lost in 1 of 4 masks" in coarse.reasons["spacing"]


def test_one_fine_scan_does_not_make_all_scans_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "USUAL_VOXELS", 0)
    label = np.zeros((30, 30, 30), np.uint8)
    label[8:20, 8:20, 8:20] = 1
    speck = np.zeros_like(label)
    speck[15, 15, 15] = 2
    planned = plan_with_reasons(volumes(tmp_path, [label, label, speck], [1.0, 1.0, 0.1]))
    assert planned.plan.spacing == (1.0, 1.0, 1.0) and planned.ceilings.lost() == [("2", 2)]


def test_slices_keep_their_spacing_across(tmp_path: Path) -> None:
    labels = [np.zeros((24, 24, 12), np.uint8) for _ in range(3)]
    for label, thick in zip(labels, (1, 4, 4), strict=True):
        label[4 : 4 + thick, 4 : 4 + thick, 3] = 2
    data = volumes(tmp_path, labels, [0.5, 1.0, 1.0])
    planned = plan_with_reasons(data, dims=2)
    assert planned.plan.spacing == (0.5, 0.5, 1.0) and planned.ceilings.enough
    assert NetworkGrid.of(planned.plan).shape(planned.seen.headers["0"]) == (24, 24, 12)


def test_patches_of_images_fit_a_small_device(tmp_path: Path) -> None:
    data = images(tmp_path, [vessels(0, (300, 300))])
    whole = plan_with_reasons(data).plan.patch
    planned = plan_with_reasons(data, machine=FakeMachine(size=8e9))
    assert planned.plan.size is None and planned.cost is not None and planned.cost.bytes <= FakeMachine.memory
    assert np.prod(planned.plan.patch) < np.prod(whole)


def test_what_was_measured_is_kept_until_a_mask_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(tmp_path, [disc((300, 300), 90), disc((300, 300), 60)])
    read: list[str] = []
    real = measuring.read_label
    monkeypatch.setattr(measuring, "read_label", lambda mask, *rest: read.append(mask.name) or real(mask, *rest))
    first = plan_with_reasons(data)
    assert sorted(read) == ["0_mask.png", "1_mask.png"]  # no validation and no test mask
    read.clear()
    assert plan_with_reasons(data).ceilings == first.ceilings and read == []
    Image.fromarray(disc((300, 300), 20)).save(data.cases[1].mask.file)  # type: ignore[union-attr]
    assert plan_with_reasons(data).ceilings != first.ceilings and read == ["1_mask.png"]


def test_masks_that_the_grid_leaves_as_they_are_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = volumes(tmp_path, [disc((20, 20, 20), 6)], [1.0])
    monkeypatch.setattr(measuring, "read_label", None)
    assert plan_with_reasons(data).ceilings.by_class() == {1: 1.0}


def test_size_can_still_be_set_and_what_that_costs_is_said(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    data = images(tmp_path, [vessels(0)])
    save_dataset(data)
    made = plan_verb(tmp_path, set=["size=224"], explain=True)
    assert made.size == made.patch == (224, 224) and made.spacing == (1.0, 1.0)
    ((kind, text),) = said
    assert kind == "ceiling-low" and "organ 0." in text
    assert "without it: None" in (tmp_path / "plan.yaml").read_text()


@pytest.mark.parametrize("thin", [True, False])
def test_a_short_time_cuts_smaller_patches_where_smaller_images_would_lose_a_class(tmp_path: Path, thin: bool) -> None:
    """Squares of 30 pixels survive at 224 of 300 pixels, but not at 112."""
    label = vessels(0, (300, 300)) if thin else np.kron(np.indices((10, 10)).sum(axis=0) % 2, np.ones((30, 30)))
    data = images(tmp_path, [label.astype(np.uint8)])
    plan = plan_with_reasons(data, machine=FakeMachine(seconds=0.5), hours=0.2).plan
    assert plan.size == (None if thin else (224, 224))
    assert plan.patch == (112, 112) and (plan.steps or 0) > 500
