"""The cache of prepared cases: what is in it, when it is made anew, and what happens to broken cases."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from refusals import refused
from ucseg.batches.prepare import Prepared, PreparedCase, prepare
from ucseg.cli.prepare import prepare as prepare_verb
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import Interrupted, UserError
from ucseg.machine import pool
from ucseg.planning.plan import Plan, plan_from, read_plan, write_plan

SHAPE = (20, 24, 18)


def a_plan(**values: Any) -> Plan:
    base = {"dims": 3, "unit": "mm", "spacing": 1.0, "patch": 32, "token": 8, "labelled_batch": 2}
    more = {"unlabelled_batch": 2, "channels": 1, "classes": {0: "background", 1: "a"}, "normalisation": "zscore"}
    return plan_from({**base, **more, **values}, "test")


def write(path: Path, array: np.ndarray[Any, Any]) -> Path:
    nibabel.Nifti1Image(array, np.diag([-1.0, 1, 1, 1])).to_filename(path)  # the x axis is stored right to left
    return path


def a_case(folder: Path, index: int, split: str, labelled: bool) -> Case:
    rng = np.random.default_rng(index)
    image = write(folder / f"c{index}.nii", rng.normal(100, 10, SHAPE).astype(np.float32))
    mask = write(folder / f"c{index}_seg.nii", rng.integers(0, 2, SHAPE).astype(np.uint8)) if labelled else None
    return Case(f"c{index}", f"s{index}", image, mask, split)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Two labelled, one unlabelled and one validation case; a test case whose files are not even there."""
    config = DatasetConfig(
        name="test", root=str(tmp_path), dims=3, modality="mri", channels=1, classes={0: "background", 1: "a"}
    )
    cases = [a_case(tmp_path, i, split, labelled) for i, (split, labelled) in enumerate(
        [("train", True), ("train", True), ("train", False), ("validation", True)])]  # fmt: skip
    cases.append(Case("t", "t", tmp_path / "none.nii", tmp_path / "none_seg.nii", "test"))
    return Dataset(tmp_path, config, cases)


def entries(prepared: Prepared) -> dict[str, PreparedCase]:
    return {case.case: case for case in [*prepared.labelled, *prepared.unlabelled, *prepared.validation]}


def test_what_is_prepared(data: Dataset) -> None:
    prepared = prepare(data, a_plan(), progress=False)
    assert [case.case for case in prepared.labelled] == ["c0", "c1"]
    assert [case.case for case in prepared.unlabelled] == ["c2"]
    assert [case.case for case in prepared.validation] == ["c3"]
    assert (prepared.left_out, prepared.made) == ([], 4)
    case = prepared.labelled[0]
    image = np.load(case.image, mmap_mode="r")
    assert isinstance(image, np.memmap) and image.dtype == np.float16 and image.shape == (1, *SHAPE)
    assert (case.subject, case.shape) == ("s0", SHAPE)
    source = nibabel.load(data.cases[0].image.file).get_fdata()[::-1]
    np.testing.assert_allclose(image[0], (source - source.mean()) / source.std(), atol=2e-3)
    assert case.label is not None
    label = np.load(case.label)
    assert label.dtype == np.uint8
    assert np.array_equal(label, nibabel.load(data.cases[0].mask.file).get_fdata()[::-1])
    assert prepared.unlabelled[0].label is None


def test_a_second_call_makes_nothing(data: Dataset) -> None:
    first = prepare(data, a_plan(), progress=False)
    before = {path: path.stat().st_mtime_ns for path in (data.folder / "cache").rglob("*")}
    again = prepare(data, a_plan(), progress=False)
    assert again.made == 0 and entries(again) == entries(first)
    assert {path: path.stat().st_mtime_ns for path in (data.folder / "cache").rglob("*")} == before


@pytest.mark.parametrize("changed", ["image", "mask"])
def test_a_changed_file_is_done_again_even_if_its_size_and_time_are_the_same(data: Dataset, changed: str) -> None:
    prepare(data, a_plan(), progress=False)
    path = getattr(data.cases[0], changed).file
    stat = path.stat()
    voxels = nibabel.load(path).get_fdata()
    voxels[0, 0, 0] = 1 - voxels[0, 0, 0]
    write(path, voxels.astype(np.float32 if changed == "image" else np.uint8))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    again = prepare(data, a_plan(), progress=False)
    assert again.made == 1
    case = again.labelled[0]
    assert case.label is not None
    if changed == "mask":
        assert np.load(case.label)[-1, 0, 0] == voxels[0, 0, 0]


def test_the_voxels_beside_a_detached_header_count(data: Dataset) -> None:
    path = data.folder / "c9.mhd"
    voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), path)
    data.cases.append(Case("c9", "c9", path, None, "train"))
    prepare(data, a_plan(), progress=False)
    raw = path.with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[::-1])
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels + 0.5 * voxels**2), path)
    assert prepare(data, a_plan(), progress=False).made == 1


def test_what_the_plan_decides_is_made_anew_and_nothing_else_is(data: Dataset) -> None:
    first = prepare(data, a_plan(), progress=False)
    same = a_plan(patch=16, token=4, labelled_batch=1, one_component=[1], augmentation={"flip": 0.5})
    assert prepare(data, same, progress=False).made == 0
    coarse = prepare(data, a_plan(spacing=2.0), progress=False)
    assert coarse.made == 4 and coarse.labelled[0].shape == (10, 12, 9)
    assert coarse.labelled[0].image.parent != first.labelled[0].image.parent
    assert prepare(data, a_plan(normalisation="unit"), progress=False).made == 4
    other = replace(data, config=data.config.model_copy(update={"mask_threshold": 0.5}))
    assert prepare(other, a_plan(), progress=False).made == 4  # masks are read in another way
    assert prepare(data, a_plan(), progress=False).made == 0


def test_a_case_that_loses_its_mask_has_no_label_left(data: Dataset) -> None:
    prepare(data, a_plan(), progress=False)
    data.cases[0] = replace(data.cases[0], mask=None)
    prepared = prepare(data, a_plan(), progress=False)
    assert [case.case for case in prepared.unlabelled] == ["c0", "c2"]
    assert all(case.label is None for case in prepared.unlabelled)


def test_a_cache_that_cannot_be_made_is_named(data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"file/cache/\w+: .*--cache"):
        prepare(data, a_plan(), cache=file / "cache", progress=False)


def test_broken_cases_are_named_and_left_out(data: Dataset) -> None:
    data.cases[0].image.file.write_bytes(data.cases[0].image.file.read_bytes()[:1000])
    data.cases[2].image.file.unlink()
    nan = np.full(SHAPE, np.nan, np.float32)
    write(data.cases[3].image.file, nan)
    prepared = prepare(data, a_plan(), progress=False)
    assert list(entries(prepared)) == ["c1"]
    reasons = dict(prepared.left_out)
    assert sorted(reasons) == ["c0", "c2", "c3"]
    assert "c0.nii" in reasons["c0"] and "cannot be read" in reasons["c2"] and "NaN" in reasons["c3"]
    assert prepared.made == 1

    assert data.cases[1].mask is not None
    write(data.cases[1].mask.file, np.full(SHAPE, 7, np.uint8))
    with refused("nothing-prepared", naming=data.cases[1].mask):
        prepare(data, a_plan(), progress=False)


def test_a_constant_image_teaches_nothing(data: Dataset) -> None:
    write(data.cases[0].image.file, np.full(SHAPE, 7, np.float32))
    prepared = prepare(data, a_plan(), progress=False)
    assert [(case, "constant" in why, "is 7" in why) for case, why in prepared.left_out] == [("c0", True, True)]
    assert "c0" not in entries(prepared)


@pytest.mark.parametrize(
    ("error", "free", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left"), 2**30, "no space is left"),
        (OSError("50176 requested and 8064 written"), 0, "no space is left"),  # as numpy says it
        (OSError(errno.EROFS, "Read-only file system"), 2**30, "Read-only file system"),
    ],
)
def test_a_full_disk_ends_it_and_leaves_no_case_out(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, error: OSError, free: int, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", fail)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(UserError, match=reason):
        prepare(data, a_plan(), progress=False)


def test_ctrl_c_reports_that_prepared_cases_are_kept(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dataset(data)
    write_plan(a_plan(), data.folder / "plan.yaml")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ucseg.batches.prepare.on_all_cores", stop)
    with pytest.raises(Interrupted, match="kept"):
        prepare_verb(data.folder, progress=False)


def test_a_mask_that_lies_elsewhere_is_no_label(data: Dataset) -> None:
    turned = np.diag([1.0, 1, 1, 1])
    turned[0, 3] = -(SHAPE[0] - 1)  # the same place, stored left to right
    mask = nibabel.load(data.root / "c1_seg.nii")
    nibabel.Nifti1Image(np.asarray(mask.dataobj).copy(), turned).to_filename(data.root / "c1_seg.nii")
    prepared = prepare(data, a_plan(), progress=False)
    assert [case for case, _ in prepared.left_out] == ["c1"]
    assert "c1_seg.nii" in prepared.left_out[0][1]


def test_a_validation_case_needs_a_mask(data: Dataset) -> None:
    data.cases[3] = replace(data.cases[3], mask=None)
    prepared = prepare(data, a_plan(), progress=False)
    assert prepared.validation == [] and prepared.left_out[0][0] == "c3"
    assert "training case" in prepared.left_out[0][1]
    data.cases.append(replace(data.cases[1], case="c5", subject=data.cases[3].subject, split="validation"))
    ((name, reason),) = prepare(data, a_plan(), progress=False).left_out
    assert name == "c3" and "training case" not in reason, "its subject would be in two splits"


def test_an_image_is_never_its_own_mask(data: Dataset) -> None:
    data.cases[1] = replace(data.cases[1], mask=data.cases[1].image)
    assert dict(prepare(data, a_plan(), progress=False).left_out)["c1"].startswith(str(data.cases[1].image))


def test_a_plan_for_other_classes_is_refused(data: Dataset) -> None:
    with refused("plan-outdated", naming=["3 classes", data.folder]):
        prepare(data, a_plan(classes={0: "background", 1: "a", 2: "b"}), progress=False)


def test_a_damaged_entry_is_made_again(data: Dataset) -> None:
    case = prepare(data, a_plan(), progress=False).labelled[0]
    whole = case.image.read_bytes()
    case.image.write_bytes(whole[: len(whole) // 2])
    assert prepare(data, a_plan(), progress=False).made == 1
    assert case.image.read_bytes() == whole


def test_values_beyond_half_precision_are_kept_in_single(data: Dataset) -> None:
    wide = {"low": -1e6, "high": 1e6, "mean": 0, "std": 0.001}
    case = prepare(data, a_plan(normalisation="ct", ct_window=wide), progress=False).labelled[0]
    image = np.load(case.image)
    assert image.dtype == np.float32 and np.isfinite(image).all() and image.max() > 65504


def test_workers_change_nothing(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.cases += [a_case(tmp_path, index, "train", index % 2 == 0) for index in range(5, 24)]
    data.cases[-1].image.file.write_bytes(b"broken")
    alone = prepare(data, a_plan(), tmp_path / "alone", workers=1, progress=False)
    # A user's script that calls prepare without a guard must not be run again by every worker.
    script, ran = tmp_path / "script.py", tmp_path / "ran"
    script.write_text(f"open({str(ran)!r}, 'w').close()")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    started: list[int] = []
    processes = pool.ProcessPoolExecutor
    monkeypatch.setattr(
        pool, "ProcessPoolExecutor", lambda workers, *more: started.append(workers) or processes(workers, *more)
    )
    threads = prepare(data, a_plan(), tmp_path / "threads", workers=2, progress=False)
    assert started == []  # so few are not worth a process
    monkeypatch.setattr(pool, "MANY", 2)
    shared = prepare(data, a_plan(), tmp_path / "shared", workers=2, progress=False)
    assert started == [2]
    assert not ran.exists() and sys.modules["__main__"] is main
    for result in (threads, shared):
        assert result.left_out == alone.left_out and result.made == alone.made == 22
        for name, case in entries(alone).items():
            other = entries(result)[name]
            assert other.image.read_bytes() == case.image.read_bytes()
            assert (case.label is None) == (other.label is None)
            assert case.label is None or other.label.read_bytes() == case.label.read_bytes()


def test_the_verb_makes_a_plan_and_names_cases_left_out(
    data: Dataset, capsys: pytest.CaptureFixture[str], said: list[tuple[str, str]]
) -> None:
    save_dataset(data)
    data.cases[2].image.file.write_bytes(b"broken")
    prepared = prepare_verb(data.folder, progress=False)
    assert read_plan(data.folder / "plan.yaml") == prepared.plan
    shown = capsys.readouterr().out
    assert all(count in shown for count in ("2 labelled", "0 unlabelled", "1 validation"))
    assert [kind for kind, _ in said] == ["plan-written", "case-left-out", "cases-left-out"]
    assert "c2" in said[1][1] and "1 case " in said[2][1]
    with refused("yaml-missing", naming="other.yaml"):
        prepare_verb(data.folder, plan=data.folder / "other.yaml")
    assert prepare_verb(data.folder, progress=False).made == 0


@pytest.mark.real
def test_outline_that_does_not_close_is_left_out(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "hc18"
    cases = [
        Case(image.stem, image.stem[:3], image, image.with_name(f"{image.stem}_Annotation.png"), "train")
        for image in sorted(folder.rglob("18*_HC.png"))
    ]
    config = DatasetConfig(
        name="hc18", root=str(folder), dims=2, modality="ultrasound", channels=1,
        classes={0: "background", 1: "head"}, mask_threshold=127, fill_outlines=True,
    )  # fmt: skip
    plan = a_plan(dims=2, unit="px", size=112, classes={0: "background", 1: "head"}, patch=112, token=14)
    prepared = prepare(Dataset(tmp_path, config, cases), plan, progress=False)
    assert [case for case, _ in prepared.left_out] == ["186_HC"]
    for case in prepared.labelled:
        assert case.label is not None
        assert 0.05 < np.load(case.label).mean() < 0.6  # a filled head, not an outline


def test_a_class_that_the_grid_loses_is_reported_by_case_also_from_the_cache(
    data: Dataset, said: list[tuple[str, str]]
) -> None:
    for case, voxels in zip([data.cases[0], data.cases[3]], (1, 6), strict=True):
        mask = np.zeros(SHAPE, np.uint8)
        mask[4 : 4 + voxels, 4 : 4 + voxels, 4 : 4 + voxels] = 1
        assert case.mask is not None
        write(case.mask.file, mask)
    save_dataset(data)
    write_plan(a_plan(spacing=2.0, patch=16, token=4), data.folder / "plan.yaml")
    for made in (4, 0):
        said.clear()
        prepared = prepare_verb(data.folder, progress=False)
        assert (prepared.made, prepared.lost) == (made, [("c0", "a")])
        ((kind, text),) = said
        assert kind == "class-lost" and "'a' of c0" in text
