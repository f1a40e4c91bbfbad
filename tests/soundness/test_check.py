"""The bad-input list: each fault put into a sound dataset is found, with its kind, its file and its severity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from ucseg.cli.check import check
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.planning.choosing import make_plan
from ucseg.planning.fingerprint import take_fingerprint
from ucseg.planning.plan import write_plan
from ucseg.scans import nifti
from ucseg.scans.reading import read_scan
from ucseg.scans.scan import Geometry
from ucseg.soundness.check import check_dataset, shear
from ucseg.soundness.tables import findings_of_tables_and_folders
from ucseg.types import Array

IMAGE, MASK = "images/c3.nii.gz", "masks/c3.nii.gz"
SPLIT = ["train"] * 6 + ["validation", "test"]


def save(array: Array, path: Path, affine: Array | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Dataset:
    """Eight small sound volumes, two classes."""
    rng = np.random.default_rng(0)
    cases = []
    for i, split in enumerate(SPLIT):
        image, mask = tmp_path / "images" / f"c{i}.nii.gz", tmp_path / "masks" / f"c{i}.nii.gz"
        label = np.zeros((14, 15, 16), np.uint8)
        label[3:8, 4:9, 5:10] = 1
        label[8:11, 4:9, 5:10] = 2
        save(rng.normal(label, 1.0).astype(np.float32), image)
        save(label, mask)
        cases.append(Case(f"c{i}", f"s{i}", image, mask, split))
    config = DatasetConfig(
        name="v", root=".", dims=3, modality="mri", channels=1, classes={0: "background", 1: "front", 2: "back"}
    )
    return Dataset(tmp_path, config, cases)


def test_a_sound_dataset_has_no_findings(volumes: Dataset) -> None:
    assert check_dataset(volumes) == []


def test_a_class_that_the_plan_s_grid_loses_is_found_by_mask(volumes: Dataset) -> None:
    for number in (2, 3):
        label = np.zeros((14, 15, 16), np.uint8)
        label[3:8, 4:9, 5:10], label[10, 10, 10] = 1, 2
        save(label, volumes.root / "masks" / f"c{number}.nii.gz")
    assert check_dataset(volumes) == []  # a new plan would keep it
    plan = make_plan(volumes, overrides={"spacing": 2.0, "labelled_batch": 2})
    write_plan(plan, volumes.folder / "plan.yaml")
    found = check_dataset(volumes)
    assert [(one.kind, one.file, one.severity) for one in found] == [
        ("class-lost", f"masks/c{number}.nii.gz", "warning") for number in (2, 3)
    ]
    assert all("'back'" in one.finding for one in found)


def image(change: Callable[[Array], Array], dtype: type = np.float32) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = root / "images" / "c3.nii.gz"
        save(change(np.asarray(nib.load(path).dataobj)).astype(dtype), path)

    return spoil


def mask(change: Callable[[Array], Array], affine: Array | None = None) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = root / "masks" / "c3.nii.gz"
        save(change(np.asarray(nib.load(path).dataobj)), path, affine)

    return spoil


def put(array: Array, value: float) -> Array:
    out = array.copy()
    out[0, 0, :3] = value
    return out


def same(array: Array) -> Array:
    return array


def shifted(by: float) -> Array:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3] = by
    return affine


def truncate(root: Path) -> None:
    path = root / "images" / "c3.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def slanted(root: Path) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 1] = 0.1
    for part in ("images", "masks"):
        path = root / part / "c3.nii.gz"
        save(np.asarray(nib.load(path).dataobj), path, affine)


def two_spacings(root: Path) -> None:
    for path in (root / IMAGE, root / MASK):
        scan = nib.load(path)
        image = nib.Nifti1Image(np.asarray(scan.dataobj), None)
        image.set_qform(scan.affine, 1)
        image.set_sform(np.eye(4), 1)
        nib.save(image, path)


def companion(root: Path) -> None:
    (root / "images" / "._c3.nii.gz").write_bytes(b"Mac OS X")


def emptied(root: Path) -> None:
    (root / IMAGE).write_bytes(b"")


def copied(number: int) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        shutil.copy(root / "images/c0.nii.gz", root / f"images/c{number}.nii.gz")

    return spoil


FAULTS: dict[str, tuple[Callable[[Path], None], str, str, str | None, str]] = {
    "truncated": (truncate, IMAGE, "error", None, "cut short"),
    "empty file": (emptied, IMAGE, "error", None, "empty"),
    "missing": (lambda root: (root / IMAGE).unlink(), IMAGE, "error", None, "no such file"),
    "NaN": (image(lambda a: put(a, np.nan)), IMAGE, "error", "image-not-finite", "3 of 3360"),
    "Inf": (image(lambda a: put(a, np.inf)), IMAGE, "error", "image-not-finite", "3 of 3360"),
    "constant": (image(lambda a: a * 0 + 7), IMAGE, "error", "image-constant", "7"),
    "4D": (image(lambda a: np.stack([a, a], -1)), IMAGE, "error", None, "4D"),
    "empty mask": (mask(lambda a: a * 0), MASK, "warning", "mask-empty", ""),
    "unknown label": (mask(lambda a: put(a, 9)), MASK, "error", None, "9"),
    "other shape": (mask(lambda a: a[1:]), MASK, "error", None, "shape"),
    "other place": (mask(same, shifted(5.0)), MASK, "error", "geometry-differs", "5 voxel"),
    "slightly off": (mask(same, shifted(0.5)), MASK, "warning", "geometry-differs", "0.5 voxel"),
    "flipped": (mask(same, np.diag([-1.0, 1.0, 2.0, 1.0])), MASK, "error", "geometry-differs", ""),
    "two spacings": (two_spacings, IMAGE, "warning", "header-contradicts-itself", "1 x 1 x 2 mm"),
    "sheared": (slanted, IMAGE, "warning", "axes-slanted", ""),
    "companion": (companion, "images/._*", "warning", "companion-files", "1 "),
    "leak": (copied(7), "images/c0.nii.gz", "error", "duplicate-leak", "c7 (test)"),
    "duplicate": (copied(1), "images/c0.nii.gz", "warning", "duplicate", "c1 (train)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(volumes: Dataset, fault: str) -> None:
    spoil, file, severity, kind, named = FAULTS[fault]
    spoil(volumes.root)
    (finding,) = check_dataset(volumes)
    if kind is None:  # the reader's own
        with pytest.raises(UserError) as caught:
            read_label(volumes.root / file, (14, 15, 16), volumes.config, read_scan(volumes.root / IMAGE).geometry)
        kind = caught.value.code
    assert (finding.kind, finding.file, finding.severity) == (kind, file, severity)
    assert named in finding.finding
    assert len(finding.fix) > 5
    assert str(volumes.root) not in finding.finding, "named once"


def test_all_problems_come_at_once_errors_first(volumes: Dataset) -> None:
    for fault in ("companion", "leak", "missing", "unknown label"):
        FAULTS[fault][0](volumes.root)
    assert [(finding.file, finding.severity) for finding in check_dataset(volumes)] == [
        ("images/c0.nii.gz", "error"),
        ("images/c3.nii.gz", "error"),
        ("masks/c3.nii.gz", "error"),
        ("images/._*", "warning"),
    ]


def test_the_next_command_is_named_where_nothing_stops_it(volumes: Dataset, said: list[tuple[str, str]]) -> None:
    save_dataset(volumes)
    check(volumes.folder)
    assert dict(said)["next"] == f"Next: ucseg train {volumes.folder} --out RUN"
    said.clear()
    volumes.cases[0].image.file.write_bytes(b"")
    with pytest.raises(UserError):
        check(volumes.folder)
    assert "next" not in dict(said)


def test_each_file_is_read_once_and_its_facts_are_kept(volumes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = nifti.read
    monkeypatch.setattr(nifti, "read", lambda path: read.append(path) or real(path))
    assert check_dataset(volumes) == []
    assert sorted(read) == sorted(path for case in volumes.cases for path in (case.image, case.mask))
    read.clear()
    take_fingerprint(volumes)
    assert read == []
    kept = volumes.folder / "cache" / "fingerprint.jsonl"
    written = kept.stat().st_mtime_ns
    assert check_dataset(volumes) == []
    assert len(read) == 16 and kept.stat().st_mtime_ns == written  # looked at again, not measured again


def test_differences_within_tolerance_pass(volumes: Dataset) -> None:
    mask(same, shifted(0.02))(volumes.root)
    assert check_dataset(volumes) == []


def test_a_subject_in_two_splits_is_a_leak(volumes: Dataset) -> None:
    volumes.cases[7] = replace(volumes.cases[7], subject="s0")
    (finding,) = check_dataset(volumes)
    assert (finding.kind, finding.severity) == ("subject-leak", "error")
    assert all(part in finding.finding for part in ("'s0'", "test and train", "(c0, c7)"))


def test_too_few_labelled_cases(volumes: Dataset) -> None:
    volumes.cases[:5] = [replace(case, mask=None) for case in volumes.cases[:5]]
    assert check_dataset(volumes) == []  # only a plan has a batch
    write_plan(make_plan(volumes, overrides={"labelled_batch": 2}), volumes.folder / "plan.yaml")
    (finding,) = check_dataset(volumes)
    assert (finding.kind, finding.severity) == ("few-labelled-cases", "warning")
    assert "labelled_batch=1" in finding.fix
    (volumes.folder / "plan.yaml").unlink()
    volumes.cases[5] = replace(volumes.cases[5], mask=None)
    (finding,) = check_dataset(volumes)
    assert (finding.kind, finding.severity) == ("no-labelled-case", "error")


def test_a_class_that_no_training_mask_holds(volumes: Dataset) -> None:
    for i in range(6):
        path = volumes.root / "masks" / f"c{i}.nii.gz"
        save(np.minimum(np.asarray(nib.load(path).dataobj), 1), path)
    (finding,) = check_dataset(volumes)
    assert finding.kind == "class-without-label" and "2 'back'" in finding.finding


def test_cases_to_measure_without_masks_and_no_validation(volumes: Dataset) -> None:
    volumes.cases[6] = replace(volumes.cases[6], split="test", mask=None)
    missing, validation = check_dataset(volumes)
    assert (missing.kind, validation.kind) == ("test-mask-missing", "no-validation-case")
    assert "'train'" in missing.fix


def test_no_advice_brings_a_subject_into_two_splits(volumes: Dataset) -> None:
    """Of two cases of one subject one has a mask, so the other is no training case."""
    masked = volumes.cases[6]
    volumes.cases.append(replace(masked, case="again", mask=None))

    def fix() -> str:
        return next(one.fix for one in findings_of_tables_and_folders(volumes) if one.kind.endswith("-mask-missing"))

    assert "'train'" not in fix()
    volumes.cases.append(replace(masked, case="alone", subject="alone", mask=None))
    assert fix().endswith("'train': alone")


def test_a_hidden_mask_is_not_opened(volumes: Dataset) -> None:
    volumes.cases[3] = replace(volumes.cases[3], mask=None)
    (volumes.root / "hidden.csv").write_text("case,mask\nc3,masks/c3.nii.gz\n")
    (volumes.root / "masks" / "c3.nii.gz").write_bytes(b"broken")
    assert check_dataset(volumes) == []


def test_colours_that_training_refuses_are_reported(tmp_path: Path) -> None:
    cases = []
    for i in range(5):
        colours = np.random.default_rng(i).integers(0, 256, (64, 64, 3))
        file = tmp_path / f"{i}.tif"
        tifffile.imwrite(file, colours.astype("float64" if i == 1 else "uint8"), photometric="rgb")
        Image.fromarray((np.indices((64, 64)).sum(0) > 40 + i).astype(np.uint8)).save(tmp_path / f"{i}_mask.png")
        split = "train" if i < 3 else ["validation", "test"][i - 3]
        cases.append(Case(str(i), str(i), file, tmp_path / f"{i}_mask.png", split))
    config = DatasetConfig(name="p", root=".", dims=2, modality="rgb", channels=3, classes={0: "background", 1: "x"})
    (finding,) = check_dataset(Dataset(tmp_path, config, cases))
    assert (finding.kind, finding.severity, finding.file) == ("image-colours", "error", "1.tif")
    assert "0 to 255" in finding.finding and "float64" in finding.finding


def test_nearly_the_same_picture_saved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    cases = []
    for i in range(16):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8).astype(np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
        Image.fromarray((np.indices((64, 64)).sum(0) > 40 + i).astype(np.uint8)).save(tmp_path / f"{i}_mask.png")
        split = "train" if i < 13 else ["validation", "test", "test"][i - 13]
        cases.append(Case(str(i), str(i), tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png", split))
    config = DatasetConfig(name="p", root=".", dims=2, modality="rgb", channels=3, classes={0: "background", 1: "x"})
    dataset = Dataset(tmp_path, config, cases)
    assert check_dataset(dataset) == []
    Image.open(tmp_path / "2.png").save(tmp_path / "15.jpg", quality=80)
    cases[15] = replace(cases[15], image=tmp_path / "15.jpg")
    (finding,) = check_dataset(dataset)
    assert (finding.kind, finding.severity) == ("near-duplicate-leak", "warning")
    assert "2 (train)" in finding.finding and "15 (test)" in finding.finding
    # Looking for them takes minutes for thousands of images: not again while nothing has changed.
    monkeypatch.setattr("ucseg.soundness.before_training.near_duplicates", None)
    assert check_dataset(dataset) == [finding]
    monkeypatch.undo()
    cases[15] = replace(cases[15], subject="2")
    assert not any("near-duplicate" in one.kind for one in check_dataset(dataset))


def test_single_slices_of_different_directions_are_no_plan(tmp_path: Path) -> None:
    cases = []
    for i, split in enumerate(SPLIT):
        shape = (1, 40, 40) if i % 2 else (40, 40, 1)
        image, mask = tmp_path / "images" / f"c{i}.nii.gz", tmp_path / "masks" / f"c{i}.nii.gz"
        label = np.zeros(shape, np.uint8)
        label[label.shape[0] // 3 :, 8:20] = 1
        save(np.random.default_rng(i).normal(label, 0.5).astype(np.float32), image)
        save(label, mask)
        cases.append(Case(f"c{i}", f"s{i}", image, mask, split))
    config = DatasetConfig(
        name="v", root=".", dims=3, modality="mri", channels=1, classes={0: "background", 1: "front"}
    )
    (found,) = (one for one in check_dataset(Dataset(tmp_path, config, cases)) if one.severity == "error")
    assert found.kind == "mixed-slices" and "c1.nii.gz" in found.finding and "dataset of each" in found.fix


def test_shear_is_the_cosine_between_axes() -> None:
    straight = np.diag([2.0, 2.0, 5.0, 1.0])
    turned = np.eye(4)
    turned[:2, :2] = [[0.0, -2.0], [2.0, 0.0]]
    assert shear(Geometry(turned)) == pytest.approx(0, abs=1e-12)
    straight[0, 2] = 1.0
    assert shear(Geometry(straight)) == pytest.approx(1 / 26**0.5)


def test_masks_of_another_size_are_named_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = []
    for i, split in enumerate(["train"] * 12 + ["validation", "test"]):
        mask = np.zeros((64, 80 if i in (3, 5) else 64), np.uint8)
        mask[10 + i : 30, 10:30] = 1
        for name, array in ((f"{i}.png", rng.integers(0, 255, (64, 64), np.uint8)), (f"{i}_mask.png", mask)):
            Image.fromarray(array).save(tmp_path / name)
        cases.append(Case(str(i), str(i), tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png", split))
    classes = {0: "background", 1: "organ"}
    config = DatasetConfig(name="test", root=str(tmp_path), dims=2, modality="other", channels=1, classes=classes)
    (finding,) = check_dataset(Dataset(tmp_path, config, cases))
    assert (finding.file, finding.severity) == ("3_mask.png", "warning")
    assert finding.kind == "mask-size" and "2 of 14" in finding.finding
    assert finding.finding.endswith(": 2 of 80 x 64 px on 64 x 64 px (e.g. 3_mask.png)")


def test_volumes_may_test_a_model_of_slices_but_not_train_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = []
    for i, split in enumerate(["train"] * 12 + ["validation", "test"]):
        shape = (30, 32) if split == "train" else (4, 30, 32)
        label = np.zeros(shape, np.uint8)
        label[..., 5:9, 5:9] = 1
        np.savez(tmp_path / f"{i}.npz", image=rng.normal(label, 1.0).astype(np.float32), label=label)
        cases.append(Case(str(i), str(i), tmp_path / f"{i}.npz", Path(f"{tmp_path}/{i}.npz#label"), split))
    classes = {0: "background", 1: "organ"}
    config = DatasetConfig(name="test", root=str(tmp_path), dims=2, modality="mri", channels=1, classes=classes)
    assert not check_dataset(Dataset(tmp_path, config, cases))
    cases[-1] = replace(cases[-1], split="train")
    assert any(finding.kind == "image-rank" for finding in check_dataset(Dataset(tmp_path, config, cases)))
