"""From masks that are annotated in parts to batches and figures, in 2D and 3D."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

import ucseg
from refusals import refused
from ucseg.batches.prepare import Prepared, prepare
from ucseg.batches.stream import Stream
from ucseg.dataset.manifest import load_dataset, save_cases
from ucseg.dataset.slices import Slices
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.choosing import make_plan
from ucseg.planning.fingerprint import take_fingerprint
from ucseg.planning.plan import Plan
from ucseg.scans.resampling import resample_label
from ucseg.types import NOT_ANNOTATED, Array

SHAPE = (24, 20, 16)
PLAIN = {"augmentation": AugmentationConfig().model_dump()}


def ball(seed: int, shape: tuple[int, ...] = SHAPE) -> Array:
    centre = np.random.default_rng(seed).uniform(0.4, 0.6, len(shape)) * shape
    away = sum((at - c) ** 2 for at, c in zip(np.indices(shape), centre, strict=True))
    return (away < (min(shape) / 3) ** 2).astype(np.uint8)


def volumes(folder: Path, count: int = 6, under: int = 0) -> Path:
    """A dataset whose masks are of three slices each, but for the first one; the last case is unlabelled.

    Args:
        under: added to the class of what is in no annotated slice.
    """
    for place in range(count):
        mask = ball(place)
        image = np.random.default_rng(place).normal(100, 8, SHAPE) + 60 * mask
        stored = mask.copy()
        if place:
            others = np.delete(np.arange(SHAPE[2]), [4, 8, 11])
            stored[:, :, others] = (stored[:, :, others] + under) % 2
        for kind, array in (("images", image.astype(np.float32)), ("labels", stored)):
            (folder / "s" / kind).mkdir(parents=True, exist_ok=True)
            if kind == "images" or place < count - 1:
                nib.save(nib.Nifti1Image(array, np.diag([1, 1, 2, 1])), folder / "s" / kind / f"c{place}.nii.gz")
    ucseg.init(folder / "s", out=folder / "d", test="0", validation="0", modality="mri")
    table = folder / "d" / "cases.csv"
    lines = table.read_text().splitlines()
    rows = [lines[0] + ",labelled_slices", lines[1] + ","]
    rows += [line + ("," if ",," in line else ',"4,8,11"') for line in lines[2:]]
    table.write_text("\n".join(rows) + "\n")
    return folder / "d"


def plan_of(folder: Path, **values: object) -> Plan:
    given = {"patch": [32, 32, 16], "strides": None, "labelled_batch": 2, "unlabelled_batch": 2, **PLAIN, **values}
    return make_plan(load_dataset(folder), overrides=given)


def cases_of(folder: Path, plan: Plan) -> Prepared:
    return prepare(load_dataset(folder), plan, workers=1, progress=False)


def test_slices_of_a_volume_reach_the_batch_and_what_lies_between_does_not(tmp_path: Path) -> None:
    found = []
    for under in (0, 1):
        folder = volumes(tmp_path / str(under), under=under)
        plan = plan_of(folder)
        made = cases_of(folder, plan)
        assert [case.partly for case in made.labelled] == [False, True, True, True, True]
        assert cases_of(folder, plan).labelled == made.labelled, "as it is known from the cache"
        label = np.load(made.labelled[1].label or "")
        assert sorted(set(np.flatnonzero((label != NOT_ANNOTATED).any(axis=(0, 1))))) == [4, 8, 11]
        stream = Stream(made.labelled, made.unlabelled, plan, 0, {"image": "plan"})
        assert {case.case for case in stream.unlabelled} == {"c1", "c2", "c3", "c4", "c5"}
        found.append([stream.batch(step) for step in range(4)])
    for one, other in zip(*found, strict=True):
        assert one.annotated is not None and other.annotated is not None
        assert torch.equal(one.label, other.label) and torch.equal(one.annotated, other.annotated)
        assert one.label.max() <= 1
        assert set(one.annotated.unique().tolist()) <= {0.0, 1.0}
        for case, known in zip(one.labelled_cases, one.annotated, strict=True):
            assert known.all() == (case == "c0") and known.any()


def test_a_slice_that_is_cut_for_a_2d_network_is_an_annotated_one(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    plan = plan_of(folder, dims=2, slice_axis=2, patch=[32, 32], token=[8, 8])
    made = cases_of(folder, plan)
    stream = Stream(made.labelled, made.unlabelled, plan, 0, {})
    for step in range(6):
        known = stream.batch(step).annotated
        assert known is not None and bool(known.all())


def test_nothing_is_drawn_otherwise_where_all_is_annotated(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    plan = plan_of(folder)
    made = cases_of(folder, plan)
    whole = Stream(made.labelled[:1], made.unlabelled, plan, 0, {}).batch(3)
    assert whole.annotated is None


def test_what_a_plan_says_of_structures_comes_from_whole_masks_or_from_what_is_annotated(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    seen = take_fingerprint(load_dataset(folder))
    assert seen.whole == ("c0",)
    whole, part = (seen.scans[name].classes or {} for name in ("c0", "c1"))
    assert part[1].extent[2] == 8, "from the first annotated slice to the last one, though each is a component"
    assert set(part) == set(whole) == {1}
    again = volumes(tmp_path / "other", under=1)
    assert take_fingerprint(load_dataset(again)).scans == seen.scans
    assert plan_of(folder).one_component == ()


def test_scribbles_and_slices_survive_a_coarser_grid() -> None:
    label = np.full((40, 40), NOT_ANNOTATED, np.uint8)
    label[10:12, 5:35], label[25:27, 5:35] = 1, 0
    small = resample_label(label, (20, 20))
    assert set(np.unique(small)) == {0, 1, NOT_ANNOTATED}
    assert (small[5, 3:17] == 1).all() and (small == 1).sum() < 60
    sparse = np.full((12, 8), NOT_ANNOTATED, np.uint8)
    sparse[3] = 1
    assert (np.flatnonzero((resample_label(sparse, (24, 8)) == 1).all(axis=1)) == [6, 7]).all()


@pytest.mark.parametrize("method", ["supervised", "uc_seg"])
def test_scribbles_train_and_are_measured(tmp_path: Path, method: str) -> None:
    for place in range(8):
        mask = ball(place, (40, 48))
        image = (np.random.default_rng(place).normal(80, 8, mask.shape) + 90 * mask).clip(0, 255).astype(np.uint8)
        scribble = np.full(mask.shape, 255, np.uint8)
        scribble[18:21], scribble[2:5] = mask[18:21], mask[2:5]
        for kind, array in (("images", image), ("masks", scribble)):
            (tmp_path / "s" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "s" / kind / f"c{place}.png")
    data = ucseg.init(tmp_path / "s", out=tmp_path / "d", ignore=255, test="1", validation="2", modality="ultrasound")
    assert (data.config.classes, data.config.not_annotated) == ({0: "background", 1: "foreground"}, [255])
    settings = ["plan.size=32", "plan.strides=null", "plan.labelled_batch=2", "plan.unlabelled_batch=2"]
    result = ucseg.train(
        tmp_path / "d", out=tmp_path / "run", method=method, steps=4, workers=0, device="cpu", set=settings
    )
    assert result.last is not None and 0 <= result.last["dice"] <= 1
    assert (tmp_path / "run" / "last.safetensors").exists()


def test_evaluate_leaves_out_what_is_not_annotated(tmp_path: Path) -> None:
    folder = volumes(tmp_path, under=1)
    (tmp_path / "p").mkdir()
    for place in range(1, 5):
        nib.save(nib.Nifti1Image(ball(place), np.diag([1, 1, 2, 1])), tmp_path / "p" / f"c{place}.nii.gz")
    numbers = ucseg.evaluate(tmp_path / "p", folder, out=tmp_path / "n", split="train")
    assert numbers.mean("dice") == 1.0
    for place in range(1, 5):
        reference = Slices(2, (4, 8, 11)).mark(ball(place), "c")
        (tmp_path / "r").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(reference, np.diag([1, 1, 2, 1])), tmp_path / "r" / f"c{place}.nii.gz")
    again = ucseg.evaluate(tmp_path / "p", tmp_path / "r", out=tmp_path / "m", classes="1=organ,255=ignore")
    assert (again.mean("dice"), [row["name"] for row in again.cases[0].rows]) == (1.0, ["organ"])


@pytest.mark.parametrize("ending", ["tif", "npy"])
def test_pages_of_a_stack_are_its_slices_and_arrays_have_to_say_which(tmp_path: Path, ending: str) -> None:
    mask = np.moveaxis(ball(0), -1, 0)
    for place in range(3):
        for kind, array in (("images", mask * 50 + place), ("labels", mask)):
            (file := tmp_path / "s" / kind / f"c{place}.{ending}").parent.mkdir(parents=True, exist_ok=True)
            if ending == "npy":
                np.save(file, array.astype(np.uint8))
            else:
                pages = [Image.fromarray(page.astype(np.uint8)) for page in array]
                pages[0].save(file, save_all=True, append_images=pages[1:])
    ucseg.init(tmp_path / "s", out=tmp_path / "d", test="0", validation="0", spacing="2,1,1")
    table = tmp_path / "d/cases.csv"
    lines = table.read_text().splitlines()

    def said(text: str) -> None:
        table.write_text("\n".join([f"{lines[0]},labelled_slices", *(f'{line},"{text}"' for line in lines[1:])]))

    said("4,8")
    if ending == "npy":
        with refused(*["slices-axis"] * 3, naming=["line 2", "i 4,8"]):
            load_dataset(tmp_path / "d")
        said("i 4,8")
    for _ in range(2):
        dataset = load_dataset(tmp_path / "d")
        assert [case.slices for case in dataset.cases] == [Slices(0, (4, 8))] * 3
        save_cases(dataset)  # what is written is read back
    dataset.cases = [replace(case, slices=Slices(2, (4, 8))) for case in dataset.cases]
    save_cases(dataset)
    assert load_dataset(tmp_path / "d").cases == dataset.cases
