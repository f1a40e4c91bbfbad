"""The plan that is chosen from data, and what overriding a part of it does to the rest."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from refusals import refused
from ucseg.batches.prepare import prepare
from ucseg.cli.plan import plan as plan_verb
from ucseg.config import parse_overrides
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.planning.choosing import make_plan
from ucseg.planning.facts import classes_in
from ucseg.planning.fingerprint import take_fingerprint
from ucseg.planning.plan import plan_from, read_plan, write_plan
from ucseg.planning.sizing import batch_for, patch_for, target_spacing, token_for, whole_size
from ucseg.types import Array


def volumes(
    folder: Path,
    images: list[Array],
    labels: list[Array],
    spacing: tuple[float, ...] = (1, 1, 1),
    **config: Any,
) -> Dataset:
    """A dataset of NIfTI volumes; images beyond the labels are unlabelled."""
    cases = []
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        path = folder / f"case{index}.nii.gz"
        nibabel.Nifti1Image(image, np.diag([*spacing, 1.0])).to_filename(path)
        mask = None
        if index < len(labels):
            mask = folder / f"case{index}_seg.nii.gz"
            nibabel.Nifti1Image(labels[index], np.diag([*spacing, 1.0])).to_filename(mask)
        cases.append(Case(f"case{index}", f"case{index}", path, mask, "train"))
    values = {"dims": 3, "modality": "mri", "channels": 1, "classes": {0: "background", 1: "one", 2: "two"}, **config}
    return Dataset(folder, DatasetConfig(name="test", root=str(folder), **values), cases)


def pictures(folder: Path, sizes: list[tuple[int, int]]) -> Dataset:
    cases = []
    for index, (height, width) in enumerate(sizes):
        path, mask = folder / f"{index}.png", folder / f"{index}_mask.png"
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        shape = np.zeros((height, width), np.uint8)
        shape[4:20, 5:25] = 255
        Image.fromarray(shape).save(mask)
        cases.append(Case(str(index), str(index), path, mask, "train"))
    config = DatasetConfig(
        name="test", root=str(folder), dims=2, modality="rgb", channels=3, classes={0: "background", 1: "polyp"},
        mask_threshold=127,
    )  # fmt: skip
    return Dataset(folder, config, cases)


def two_class_label(shape: tuple[int, ...] = (35, 50, 36)) -> Array:
    """Class 1: one block. Class 2: two blocks."""
    label = np.zeros(shape, np.uint8)
    label[5:15, 5:15, 3:9] = 1
    label[20:25, 20:30, 3:9] = 2
    label[28:30, 20:30, 3:9] = 2
    return label


def mri(seed: int, shape: tuple[int, ...] = (35, 50, 36)) -> Array:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("median", "patch", "token", "batch"),
    [
        ((35, 50, 35), (40, 56, 40), (8, 8, 8), 12),  # hippocampus
        ((88, 88, 88), (96, 96, 96), (16, 16, 16), 2),  # the paper's 3D patch
        ((500, 500, 100), (96, 96, 96), (16, 16, 16), 2),  # limited by the budget
        ((300, 300, 12), (256, 272, 12), (16, 16, 2), 2),  # no more slices than there are
        ((256, 256), (256, 256), (16, 16), 12),  # ACDC
        ((600, 400), (256, 256), (16, 16), 12),
        ((224, 224), (224, 224), (14, 14), 12),
        ((112, 112), (112, 112), (14, 14), 12),
        ((20, 50), (20, 56), (4, 8), 12),
    ],
)
def test_patch_token_and_batch(median: tuple[int, ...], patch: Any, token: Any, batch: int) -> None:
    chosen = patch_for(np.array(median, float), (1.0,) * len(median)).value
    assert (chosen, token_for(chosen).value, batch_for(chosen).value) == (patch, token, batch)


def test_a_larger_patch_makes_a_smaller_batch() -> None:
    assert batch_for((512, 512)).value == 3
    assert ["upper limit" in batch_for((edge, edge)).why for edge in (224, 256)] == [True, False]
    assert batch_for((64, 64, 64)).value == 6


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(352, 352)] * 3, (224, 224)),
        ([(540, 800)] * 3, (176, 272)),  # one aspect: kept to within a few percent
        ([(540, 800), (800, 540), (600, 600)], (224, 224)),  # several: square
        ([(100, 100)] * 3, (96, 96)),  # small images are not enlarged
        ([(20, 30)] * 3, (32, 32)),  # but no smaller than the network can halve
        ([(16, 600)] * 3, (32, 592)),  # narrow ones keep their long edge
        ([(5000, 20)] * 3, (1568, 32)),  # as far as the pixels allow
    ],
)
def test_size_of_plain_images(shapes: list[tuple[int, int]], size: tuple[int, int]) -> None:
    assert whole_size(np.array(shapes, float)).value == size


@pytest.mark.parametrize(("shape", "limited"), [((20, 30), False), ((16, 600), False), ((64, 5000), True)])
def test_a_least_edge_is_not_said_to_enlarge_what_the_limit_shrinks(shape: tuple[int, int], limited: bool) -> None:
    why = whole_size(np.array([shape] * 3, float)).why
    assert "32 pixels" in why and ("at most" in why) == limited


def test_target_spacing() -> None:
    assert target_spacing(np.array([[1, 1, 1], [1.2, 1, 1], [1.2, 1, 2]])).value == (1.2, 1, 1)
    coarse = np.array([[0.5, 0.5, z] for z in (2, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5)])
    assert target_spacing(coarse).value == (0.5, 0.5, 4.0)  # the 10th percentile of the coarse axis
    assert target_spacing(coarse, slice_axis=2).value == (0.5, 0.5, 5.0)
    fine = np.array([[1, 1, z] for z in (0.2, 0.2, 4, 4, 4, 4, 4, 4, 4, 4, 4)])
    assert target_spacing(fine).value == (1, 1, 1)  # nothing finer than the other axes


def test_plan_of_volumes(tmp_path: Path) -> None:
    data = volumes(tmp_path, [mri(seed) for seed in range(6)], [two_class_label()] * 5)
    plan = make_plan(data)
    assert (plan.dims, plan.slice_axis, plan.unit, plan.spacing, plan.size) == (3, None, "mm", (1, 1, 1), None)
    assert (plan.patch, plan.token) == ((40, 56, 40), (8, 8, 8))
    assert (plan.normalisation, plan.nonzero, plan.ct_window) == ("zscore", False, None)
    assert plan.one_component == (1,)
    assert plan.problem.dropout and not make_plan(data, overrides={"dropout": False}).problem.dropout
    assert plan.problem.classes == 3 and plan.problem.patch == plan.patch and plan.problem.one_component == (1,)
    assert plan.augmentation.flip > 0
    few = volumes(tmp_path / "few", [mri(seed) for seed in range(5)], [two_class_label()] * 4)
    assert make_plan(few).one_component == (), "four masks do not show it"


def test_classes_of_every_labelled_mask_are_known_and_may_be_set(tmp_path: Path) -> None:
    first_only = np.where(two_class_label() == 1, 1, 0).astype(np.uint8)
    data = volumes(tmp_path, [mri(0), mri(1), mri(2)], [two_class_label(), first_only])
    assert make_plan(data).always_present == (1,)
    assert make_plan(data, overrides={"always_present": []}).always_present == ()
    empty = volumes(tmp_path / "e", [mri(0), mri(1)], [two_class_label(), np.zeros_like(first_only)])
    assert make_plan(empty).always_present == ()  # one mask is empty: an empty prediction may be right


def test_axes_are_canonical(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 1, 0], [2.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])  # stored as y, z, x
    data = volumes(tmp_path, [mri(0)], [two_class_label()])
    for path, voxels in ((data.cases[0].image, mri(0)), (data.cases[0].mask, two_class_label())):
        nibabel.Nifti1Image(voxels, affine).to_filename(path.file)
    plan = make_plan(data)
    assert plan.spacing == (1, 2, 3)
    assert take_fingerprint(data).median_shape == (36, 35, 50)


def test_slices_of_volumes(tmp_path: Path) -> None:
    label = two_class_label((60, 12, 90))
    label[:, 8] = 0
    images = [mri(seed, (60, 12, 90)) for seed in range(2)]
    data = volumes(tmp_path, images, [two_class_label((60, 12, 90))] * 2, spacing=(1, 6, 1))
    plan = make_plan(data, dims=2)
    assert (plan.dims, plan.slice_axis, plan.spacing, plan.patch) == (2, 1, (1, 6, 1), (64, 96))
    isotropic = volumes(tmp_path, images, [label] * 2)
    assert make_plan(isotropic, dims=2).slice_axis == 2
    assert make_plan(isotropic, dims=2, overrides={"slice_axis": 0}).patch == (12, 96)
    assert make_plan(data, overrides={"dims": 2, "size": 64}).patch == (64, 64)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_single_slices_along_any_axis_are_for_2d(tmp_path: Path, axis: int) -> None:
    shape = [40, 40, 40]
    shape[axis] = 1
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(0, 1) if edge == 1 else slice(8, 20) for edge in shape)] = 1
    label[tuple(slice(0, 1) if edge == 1 else slice(24, 32) for edge in shape)] = 2
    data = volumes(tmp_path, [mri(seed, tuple(shape)) for seed in range(2)], [label] * 2)
    plan = make_plan(data)
    assert (plan.dims, plan.slice_axis, plan.unit) == (2, axis, "mm")
    if axis:
        (first, other) = data.cases
        turned = volumes(tmp_path / "more", [mri(0, (1, 40, 40))], [np.zeros((1, 40, 40), np.uint8)]).cases[0]
        mixed = replace(data, cases=[first, other, replace(turned, case="turned", mask=None)])
        with refused("mixed-slices", naming=[first.image.name, turned.image.name]):
            make_plan(mixed)


def test_a_spacing_that_leaves_one_slice_is_refused(tmp_path: Path) -> None:
    shape = (40, 40, 30)
    data = volumes(tmp_path, [mri(seed, shape) for seed in range(2)], [two_class_label(shape)] * 2)
    with refused("plan-one-voxel", naming="axis 2"):
        make_plan(data, overrides={"spacing": [1, 1, 30]})
    with refused("plan-one-voxel", naming="axis 0"):
        make_plan(data, dims=2, overrides={"spacing": [40, 1, 1]})
    assert make_plan(data, dims=2, overrides={"spacing": [1, 1, 30]}).dims == 2, "not along an axis that it sees"


def test_one_wrong_spacing_costs_one_scan(tmp_path: Path) -> None:
    """By its header a voxel is 300 mm wide: on the grid it would have 10^11 voxels."""
    data = volumes(tmp_path, [mri(seed) for seed in range(6)], [two_class_label()] * 6)
    voxels = int(np.prod(mri(0).shape))
    wrong = np.diag([300.0, 300, 300, 1])
    for part in ("case3", "case3_seg"):
        image = nibabel.load(tmp_path / f"{part}.nii.gz")
        nibabel.Nifti1Image(np.asarray(image.dataobj), wrong).to_filename(tmp_path / f"{part}.nii.gz")
    plan = make_plan(data)
    assert (plan.spacing, plan.most_voxels) == ((1, 1, 1), 16 * voxels)
    prepared = prepare(data, plan, progress=False)
    assert [case for case, _ in prepared.left_out] == ["case3"]


def test_volumes_without_a_spacing(tmp_path: Path) -> None:
    cases = []
    for index in range(2):
        path = tmp_path / f"{index}.npz"
        np.savez(path, image=mri(index, (12, 60, 90)), label=two_class_label((12, 60, 90)))
        cases.append(Case(str(index), str(index), path, Path(f"{path}#label"), "train"))
    classes = {0: "background", 1: "one", 2: "two"}
    config = DatasetConfig(name="test", root=str(tmp_path), dims=3, modality="mri", channels=1, classes=classes)
    data = Dataset(tmp_path, config, cases)
    plan = make_plan(data)
    assert (plan.unit, plan.size, plan.spacing, plan.patch) == ("px", None, (1, 1, 1), (12, 64, 96))
    sliced = make_plan(data, dims=2)
    assert (sliced.slice_axis, sliced.size) == (0, (48, 80))


def test_components_of_a_volume_and_of_its_slices() -> None:
    arch = np.zeros((5, 5, 3), np.uint8)
    arch[0, :, 1] = arch[4, :, 1] = arch[:, 4, 1] = 1  # one piece in its plane, two legs in the rows below the top
    axes = ((0, 1, 2), (False,) * 3)

    def counted(slice_axis: int) -> tuple[int, int, int]:
        found = classes_in(arch, *axes, slice_axis)[1]
        return found.components, found.slices, found.single_slices

    assert counted(2) == (1, 1, 1)
    assert counted(1) == (1, 5, 1)
    diagonal = np.eye(4, dtype=np.uint8)
    assert classes_in(diagonal, (0, 1), (False,) * 2)[1].components == 1


def test_ct_window_comes_from_the_labelled_foreground(tmp_path: Path) -> None:
    ct = np.full((35, 50, 36), -1000, np.int16)
    label = two_class_label()
    rng = np.random.default_rng(0)
    ct[label > 0] = rng.normal(60, 10, int((label > 0).sum())).astype(np.int16)
    plan = make_plan(volumes(tmp_path, [ct, np.full_like(ct, 3000)], [label], modality="ct"))
    window = plan.ct_window
    assert plan.normalisation == "ct" and window is not None
    assert 25 < window.low < 40 and 80 < window.high < 95 and abs(window.mean - 60) < 2 and abs(window.std - 10) < 1
    plan = make_plan(volumes(tmp_path, [ct], [label], modality="ct"), overrides={"ct_window": {"low": -50}})
    assert plan.ct_window is not None and plan.ct_window.low == -50 and plan.ct_window.high == window.high


def test_air_of_exactly_zero_is_left_out_of_mri_statistics(tmp_path: Path) -> None:
    image = mri(0)
    image[:, :20] = 0
    assert make_plan(volumes(tmp_path, [image], [two_class_label()])).nonzero
    assert not make_plan(volumes(tmp_path, [image], [two_class_label()], modality="ultrasound")).nonzero


def test_overriding_a_value_changes_what_depends_on_it(tmp_path: Path) -> None:
    data = pictures(tmp_path, [(300, 300), (320, 300)])
    plan = make_plan(data)
    assert (plan.size, plan.patch, plan.token, plan.normalisation) == ((224, 224), (224, 224), (14, 14), "rgb")
    for setting in ("size=112", "size=[112,112]"):
        plan = make_plan(data, overrides=parse_overrides([setting]))
        assert (plan.size, plan.patch, plan.token) == ((112, 112), (112, 112), (14, 14))
    plan = make_plan(data, overrides=parse_overrides(["size=512", "augmentation.flip=0", "one_component=[]"]))
    assert (plan.labelled_batch, plan.unlabelled_batch, plan.augmentation.flip, plan.one_component) == (3, 3, 0, ())
    plan = make_plan(data, overrides=parse_overrides(["labelled_batch=4", "patch=96", "token=16"]))
    assert (plan.size, plan.patch, plan.token, plan.unlabelled_batch) == ((224, 224), (96, 96), (16, 16), 4)
    assert make_plan(data, overrides={"size": None}).patch == (256, 256)  # native size, in crops

    coarse = make_plan(volumes(tmp_path, [mri(0)], [two_class_label()]), overrides={"spacing": 0.5})
    assert (coarse.spacing, coarse.patch) == ((0.5, 0.5, 0.5), (80, 112, 80))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("sise=112", "did you mean 'size'"),
        ("size=100", r"\[96, 96\]"),
        ("patch=256", r"patch.*size = \[224, 224\]"),
        ("token=240", r"token.*patch = \[224, 224\]"),
        ("ct_window=3", "ct_window"),
        ("augmentation=0", "augmentation"),
        ("augmentation.flop=1", "did you mean 'flip'"),
        ("augmentation.flip_axes=[5]", "from 0 to 1"),
        ("one_component=[2]", "from 1 to 1"),
        ("labelled_batch=0", "labelled_batch.*at least 1"),
    ],
)
def test_an_impossible_override_is_named(tmp_path: Path, setting: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        make_plan(pictures(tmp_path, [(300, 300)]), overrides=parse_overrides([setting]))


@pytest.mark.parametrize("size", ["96 x 128", "96x128", "[96,128]"])
def test_a_value_may_be_given_as_plans_print_it(tmp_path: Path, size: str) -> None:
    plan = make_plan(pictures(tmp_path, [(300, 300)]), overrides=parse_overrides([f"size={size}"]))
    assert plan.size == (96, 128)


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("size=[112,112,112]", "plan-numbers"),
        ("size=large", "plan-numbers"),
        ("patch=-16", "plan-not-positive"),
        ("spacing=0", "plan-not-positive"),
        ("dims=3", "plan-rank"),
    ],
)
def test_an_impossible_override_is_refused_before_others_follow_from_it(
    tmp_path: Path, setting: str, kind: str
) -> None:
    with refused(kind, naming=setting.split("=", maxsplit=1)[0]):
        make_plan(pictures(tmp_path, [(300, 300)]), overrides=parse_overrides([setting]))


def test_ct_needs_a_window(tmp_path: Path) -> None:
    data = pictures(tmp_path, [(300, 300)])
    assert make_plan(data, overrides={"normalisation": "ct"}).ct_window is not None, "of the foreground"
    with pytest.raises(UserError, match="ct_window"):
        make_plan(data, overrides={"normalisation": "ct", "ct_window": None})


def test_only_training_cases_are_opened_and_broken_ones_named(tmp_path: Path) -> None:
    data = volumes(tmp_path, [mri(0), mri(1), mri(2)], [two_class_label(), two_class_label()])
    gone = tmp_path / "gone.nii.gz"
    data.cases += [Case("v", "v", gone, gone, "validation"), Case("t", "t", gone, gone, "test")]
    assert take_fingerprint(data).left_out == []
    data.cases[2].image.file.write_bytes(b"not a scan")
    assert data.cases[1].mask is not None
    data.cases[1].mask.file.write_bytes(b"not a mask")
    seen = take_fingerprint(data)
    assert sorted(case for case, _ in seen.left_out) == ["case1", "case2"]
    assert make_plan(data, fingerprint=seen).patch == (40, 56, 40)


def test_data_that_give_no_plan(tmp_path: Path) -> None:
    with refused("no-training-mask", naming=tmp_path):
        make_plan(volumes(tmp_path, [mri(0)], []))
    with refused("masks-all-empty", naming=tmp_path):
        make_plan(volumes(tmp_path, [mri(0)], [np.zeros((35, 50, 36), np.uint8)]))
    flat = pictures(tmp_path, [(64, 64)])
    nibabel.Nifti1Image(np.zeros((64, 64), np.float32), np.eye(4)).to_filename(tmp_path / "flat.nii")
    data = volumes(tmp_path, [mri(0)], [two_class_label()])
    data.cases += flat.cases
    assert [case for case, _ in take_fingerprint(data).left_out] == ["0"]  # a 2D picture among volumes


def test_written_and_read_again(tmp_path: Path) -> None:
    data = volumes(tmp_path, [mri(0)], [two_class_label()], modality="ct")
    plan = make_plan(data)
    path = tmp_path / "plan.yaml"
    write_plan(plan, path)
    assert read_plan(path) == plan
    text = path.read_text()
    assert "# training patch" in text and "patch: [40, 56, 40]" in text and "classes: {0: background" in text
    assert [file.name for file in tmp_path.glob("*part*")] == []
    path.write_text(text.replace("patch: [40", "patch: [41"))
    with pytest.raises(UserError, match=r"plan.yaml: .*'patch'.*multiples of 8"):
        read_plan(path)
    path.write_text(text.replace("dims: 3", "dims: ["))
    with pytest.raises(UserError, match="not valid YAML"):
        read_plan(path)
    with pytest.raises(UserError, match=r"slice_axis"):
        plan_from({**plan.model_dump(), "slice_axis": 1}, "plan")
    with refused("setting-value", naming="'strides'"):  # and not the patch, which fits those of before
        plan_from({**plan.model_dump(), "strides": [[4, 4, 4]]}, "plan")


def test_the_verb(
    tmp_path: Path,
    said: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pictures(tmp_path, [(300, 300), (300, 300)])
    (tmp_path / "dataset.yaml").write_text(
        yaml.safe_dump({**data.config.model_dump(mode="json", exclude_none=True), "root": "."})
    )
    rows = [
        f"{case.case},{case.subject},{case.image.name},{case.mask.name if case.mask else ''},train"
        for case in data.cases
    ]
    (tmp_path / "cases.csv").write_text("\n".join(["case,subject,image,mask,split", *rows]) + "\n")
    made = plan_verb(tmp_path, set=["size=112"])
    assert read_plan(tmp_path / "plan.yaml") == made == make_plan(load_dataset(tmp_path), overrides={"size": 112})
    assert "112 x 112" in capsys.readouterr().out
    assert [kind for kind, _ in said] == ["ceiling-low"]
    said.clear()
    plan_verb(tmp_path, set=["labelled_batch=3"])
    ((kind, text),) = said
    assert kind == "plan-changed" and "size was 112 x 112; patch was 112 x 112;" in text
    plan_verb(tmp_path, set=["labelled_batch=3"])
    assert len(said) == 1
    monkeypatch.setattr("ucseg.planning.fingerprint.take_fingerprint", None)  # no scan is looked at for what is refused
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"hours": hours}, f"'hours' = {hours}") for hours in (0.0, -1.0, nan, inf)
    ]
    wrong += [
        ({"set": ["pach=32"]}, "did you mean 'patch'"),
        ({"set": ["augmentation.flop=1"]}, "did you mean 'flip'"),
        ({"dims": 3}, "dims"),
        ({"hours": 1.0, "method": "uc_sge"}, "did you mean 'uc_seg'"),
    ]
    for options, named in wrong:
        with pytest.raises(UserError, match=named):
            plan_verb(tmp_path, **options)


@pytest.mark.real
def test_hippocampus(shared_data: Path, tmp_path: Path) -> None:
    """1 mm isotropic: nothing is resampled; the two halves of the hippocampus are one piece each."""
    cases = []
    for image in sorted((shared_data / "hippocampus" / "images").glob("*.nii*"))[:40]:
        mask = shared_data / "hippocampus" / "labels" / image.name
        cases.append(Case(image.name, image.name, image, mask if mask.exists() else None, "train"))
    config = DatasetConfig(
        name="hippocampus", root=str(shared_data), dims=3, modality="mri", channels=1,
        classes={0: "background", 1: "anterior", 2: "posterior"},
    )  # fmt: skip
    plan = make_plan(Dataset(tmp_path, config, cases))
    assert (plan.spacing, plan.patch, plan.token) == ((1, 1, 1), (40, 56, 40), (8, 8, 8))
    assert plan.one_component == (1, 2)
