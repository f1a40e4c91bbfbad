"""From files with values of all kinds to labels, through init, check, plan and prepare."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import ucseg
from refusals import refused
from ucseg.dataset.manifest import load_dataset
from ucseg.dataset.masks import read_label
from ucseg.labelling.shortlist import as_class_indices, as_the_masks_of
from ucseg.types import Array

SIZE = (48, 48)


def cells(seed: int, size: tuple[int, ...] = SIZE) -> Array:
    """Separate squares or cubes, numbered from 1 on: six to twelve."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint16)
    places = rng.permutation(np.argwhere(np.ones([edge // 12 for edge in size])))[: rng.integers(6, 13)]
    for number, place in enumerate(places, start=1):
        mask[tuple(slice(12 * at + 2, 12 * at + 8) for at in place)] = number
    return mask


def nested(seed: int) -> Array:
    """Two classes, one inside the other."""
    row, column = np.random.default_rng(seed).integers(16, 30, 2)
    rows, columns = np.indices(SIZE)
    distance = (rows - row) ** 2 + (columns - column) ** 2
    return (distance < 150).astype(np.uint8) + (distance < 40)


def save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)
    else:
        Image.fromarray(array).save(path)


def table_of(names: dict[int, str]) -> nib.nifti1.Nifti1Extension:
    """Names as TotalSegmentator and Connectome Workbench put them into the header."""
    labels = "".join(
        f'<Label Key="{n}" Red="1" Green="0" Blue="0"><![CDATA[{name}]]></Label>' for n, name in names.items()
    )
    text = f'<?xml version="1.0"?><CaretExtension><LabelTable>{labels}</LabelTable></CaretExtension>'
    return nib.nifti1.Nifti1Extension(0, text.encode())


def folder_of(root: Path, masks: dict[str, Array]) -> Path:
    """Images, brighter where their masks are not 0."""
    for name, mask in masks.items():
        shown = mask if mask.ndim == len(mask.shape[:2]) or name.endswith("gz") else mask[..., 0]
        image = np.random.default_rng([*name.encode()]).normal(80, 8, shown.shape) + 60 * (shown != 0)
        save(root / "images" / name.replace(".tif", ".png"), image.clip(0, 255).astype(np.uint8))
        save(root / "masks" / name, mask)
    return root


def prepared(dataset: Path) -> dict[str, Array]:
    """Labels in the cache, by case."""
    ucseg.prepare(dataset)
    return {file.name.split(".")[0]: np.load(file) for file in (dataset / "cache").rglob("*.label.npy")}


@pytest.mark.parametrize(("ending", "size"), [("png", SIZE), ("tif", SIZE), ("nii.gz", (36, 36, 24))])
def test_numbered_objects_become_one_class(tmp_path, capfd, ending, size):
    folder = folder_of(tmp_path / "s", {f"c{seed}.{ending}": cells(seed, size) for seed in range(10)})
    dataset = ucseg.init(folder, out=tmp_path / "d")
    assert (len(dataset.config.classes), dataset.config.mask_threshold) == (2, 0)
    assert "number the objects" in " ".join(capfd.readouterr().out.split())
    kept = ucseg.init(folder, out=tmp_path / "e", instances=False)
    assert len(kept.config.classes) > 9
    reported = [one for one in ucseg.check(tmp_path / "e") if one.kind == "numbers-of-objects"]
    assert len(reported) == 1
    assert not [one for one in ucseg.check(tmp_path / "d") if one.kind == "numbers-of-objects"]


def test_grey_values_of_two_classes_are_two_classes(tmp_path):
    masks = {f"c{seed}.png": np.array([0, 128, 255], np.uint8)[nested(seed)] for seed in range(12)}
    folder = folder_of(tmp_path / "s", masks)
    with refused("mask-values", naming="128=NAME,255=NAME"):
        ucseg.init(folder, out=tmp_path / "d")
    ucseg.init(folder, out=tmp_path / "d", classes="128=disc,255=cup")
    assert load_dataset(tmp_path / "d").config.values == {128: 1, 255: 2}
    assert all(np.isin(label, [0, 1, 2]).all() and label.max() == 2 for label in prepared(tmp_path / "d").values())


def test_a_bright_background_goes_to_class_0_and_back(tmp_path):
    masks = {f"c{seed}.png": np.array([255, 128, 0], np.uint8)[nested(seed)] for seed in range(12)}
    folder = folder_of(tmp_path / "s", masks)
    dataset = ucseg.init(folder, out=tmp_path / "d", classes="0=cup,128=disc,255=background")
    assert dataset.config.classes == {0: "background", 1: "cup", 2: "disc"}
    for case, label in prepared(tmp_path / "d").items():
        seed = int(case.removeprefix("c"))
        assert np.array_equal(np.squeeze(label), np.array([0, 2, 1])[nested(seed)])
        assert np.array_equal(as_the_masks_of(dataset.config, np.squeeze(label)), masks[f"c{seed}.png"])
        assert np.array_equal(as_class_indices(dataset.config, masks[f"c{seed}.png"]), np.squeeze(label))


def test_two_codings_in_one_folder(tmp_path):
    masks = {f"c{seed}.png": (255 if seed % 2 else 1) * (nested(seed) > 0).astype(np.uint8) for seed in range(12)}
    dataset = ucseg.init(folder_of(tmp_path / "s", masks), out=tmp_path / "d")
    labels = prepared(tmp_path / "d")
    assert len(labels) == len(dataset.labelled) + len(dataset.validation)
    for case, label in labels.items():
        assert abs((label > 0).mean() - (masks[f"{case}.png"] > 0).mean()) < 0.02


def test_masks_of_a_rarer_coding_are_not_emptied(tmp_path, capfd):
    masks: dict[str, Array] = {f"c{seed:02d}.png": nested(seed) for seed in range(4)}
    for seed in range(4, 14):
        small = Image.fromarray(255 * (nested(seed) > 0).astype(np.uint8)).resize((40, 40))
        masks[f"c{seed:02d}.png"] = np.asarray(small.resize(SIZE[::-1], Image.Resampling.BICUBIC))
    dataset = ucseg.init(folder_of(tmp_path / "s", masks), out=tmp_path / "d")
    assert sum(case.mask is not None for case in dataset.cases) == 10
    assert "two ways" in " ".join(capfd.readouterr().out.split())
    assert all(label.any() for label in prepared(tmp_path / "d").values())
    table = tmp_path / "d" / "cases.csv"
    lines = [line.replace(",,", f",masks/{line.split(',')[0]}.png,") for line in table.read_text().splitlines()]
    table.write_text("\n".join(lines) + "\n")
    with refused("dataset-unsound") as caught:
        ucseg.check(tmp_path / "d")
    assert sum(one.kind == "mask-coding" for one in caught.value.findings) == 4


def test_parts_that_were_not_annotated_are_marked_in_what_is_trained(tmp_path):
    masks = {f"c{seed:02d}.png": nested(seed) for seed in range(14)}
    for seed in (3, 5):
        masks[f"c{seed:02d}.png"][:10] = 255
    masks["c07.png"][:] = 255
    dataset = ucseg.init(folder_of(tmp_path / "s", masks), out=tmp_path / "d", ignore=255, test="2", validation="2")
    assert {case.case for case in dataset.cases if case.mask is None} == {"c07"}
    assert (len(dataset.config.classes), dataset.config.not_annotated) == (3, [255])
    labels = prepared(tmp_path / "d")
    assert {case for case, label in labels.items() if label.max() == 255} == {"c03", "c05"} & labels.keys()
    (reported,) = [one for one in ucseg.check(tmp_path / "d") if one.kind == "left-out"]
    assert "not annotated" in reported.finding


@pytest.mark.parametrize("options", [{"ignore": 128, "mask_threshold": 200}, {"classes": "128=ignore,255=cell"}])
def test_jpeg_does_not_keep_the_value_that_means_not_annotated(tmp_path, options):
    folder = folder_of(tmp_path / "s", {f"c{seed}.jpg": np.uint8([0, 128, 255])[nested(seed)] for seed in range(4)})
    with refused("ignore-lossy", naming=".jpg"):
        ucseg.init(folder, out=tmp_path / "d", **options)
    dataset = ucseg.init(folder, out=tmp_path / "d", mask_threshold=200, validation="1", test="1")
    edited = dataset.config.model_copy(update={"not_annotated": [128]})
    with refused("ignore-lossy", naming=".jpg"):
        read_label(dataset.cases[0].mask, SIZE, edited)
    assert not (read_label(dataset.cases[0].mask, SIZE, dataset.config) > 1).any()


def volume_of(path: Path, mask: Array, names: dict[int, str] | None) -> None:
    image = nib.Nifti1Image(mask, np.diag([1, 1, 3, 1]))
    if names:
        image.header.extensions.append(table_of(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def test_a_segment_called_ignore_is_not_annotated(tmp_path):
    for number in range(8):
        mask = (cells(number, (24, 24, 24)) > 0).astype(np.uint8)
        save(
            tmp_path / f"s/images/c{number}.nii.gz", np.random.default_rng(number).normal(0, 9, mask.shape) + 60 * mask
        )
        mask[:4] = 9
        volume_of(tmp_path / f"s/masks/c{number}.nii.gz", mask, {0: "unknown", 1: "cell", 9: "Ignore"})
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d")
    assert dataset.config.classes == {0: "background", 1: "cell"}
    assert len([case for case in dataset.cases if case.mask is not None]) == 8
    label = read_label(dataset.cases[0].mask, (24, 24, 24), dataset.config)
    assert (label[:4] == 255).all() and set(np.unique(label[4:])) == {0, 1}


def test_the_ignore_label_of_nnunet_is_not_annotated(tmp_path):
    for number in range(8):
        mask = nested(number)
        image = (60 * mask + np.random.default_rng(number).normal(80, 8, SIZE)).clip(0, 255).astype(np.uint8)
        mask[:10] = 3
        save(tmp_path / f"s/imagesTr/c{number}_0000.png", image)
        save(tmp_path / f"s/labelsTr/c{number}.png", mask)
    labels = {"background": 0, "disc": 1, "cup": 2, "ignore": 3}
    (tmp_path / "s/dataset.json").write_text(json.dumps({"channel_names": {"0": "ultrasound"}, "labels": labels}))
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d", test="0", validation="0")
    assert (dataset.config.classes, dataset.config.not_annotated) == ({0: "background", 1: "disc", 2: "cup"}, [3])
    for label in prepared(tmp_path / "d").values():
        assert (label[:9] == 255).all() and set(np.unique(label[11:])) <= {0, 1, 2}


def test_names_in_headers_of_nifti_count_whatever_the_numbers(tmp_path, capfd):
    first, second = {1: "spleen", 2: "left & right", 3: "heart"}, {7: "left & right", 8: "spleen", 9: "heart"}
    truth = {}
    for seed in range(12):
        mask = (cells(seed, (24, 24, 24)) % 3).astype(np.uint8)
        truth[f"c{seed:02d}"] = mask
        numbers = np.array([0, 1, 2] if seed % 2 else [0, 8, 7], np.uint8)
        save(
            tmp_path / f"s/images/c{seed:02d}.nii.gz", np.random.default_rng(seed).normal(0, 9, mask.shape) + 60 * mask
        )
        volume_of(tmp_path / f"s/masks/c{seed:02d}.nii.gz", numbers[mask], first if seed % 2 else second)
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d")
    assert dataset.config.classes == {0: "background", 1: "spleen", 2: "left & right"}, "no heart is in any mask"
    assert "two numberings" in " ".join(capfd.readouterr().out.split())
    for case in dataset.cases:
        assert case.mask is not None
        assert np.array_equal(read_label(case.mask, (24, 24, 24), dataset.config), truth[case.case])
    (reported,) = [one for one in ucseg.check(tmp_path / "d") if one.kind == "two-numberings"]
    assert reported.severity == "warning"
    volume_of(tmp_path / "s/masks/c03.nii.gz", truth["c03"], None)
    with refused("dataset-unsound") as caught:
        ucseg.check(tmp_path / "d")
    assert [one.kind for one in caught.value.findings if one.severity == "error"] == ["two-numberings"]
    again = ucseg.init(tmp_path / "s", out=tmp_path / "e")
    assert [case.case for case in again.cases if case.mask is None] == ["c03"], "nobody knows its numbers"


def test_masks_with_a_channel_a_class_are_read_so(tmp_path, capfd):
    for seed in range(10):
        mask = (cells(seed, (24, 24, 12)) % 3).astype(np.uint8)
        save(tmp_path / f"s/images/c{seed}.nii.gz", np.random.default_rng(seed).normal(0, 9, mask.shape) + 60 * mask)
        save(tmp_path / f"s/labels/c{seed}.nii.gz", np.stack([mask == 1, mask == 2], axis=-1).astype(np.uint8))
    dataset = ucseg.init(tmp_path / "s", out=tmp_path / "d")
    assert "c0.nii.gz#channels" in capfd.readouterr().out
    assert all(case.mask is not None for case in dataset.cases)
    assert len(dataset.config.classes) == 3
    assert not [one for one in ucseg.check(tmp_path / "d") if one.severity == "error"]


def test_masks_that_cannot_be_used_say_why(tmp_path):
    masks = {f"c{seed}.png": np.dstack([nested(seed), 0 * nested(seed), nested(seed)]) for seed in range(3)}
    with refused("no-mask-usable", naming=["3 masks", "c0", "colours"]):
        ucseg.init(folder_of(tmp_path / "s", masks), out=tmp_path / "d")


@pytest.mark.parametrize(("voxels", "masks", "noted"), [(3, 1, True), (3, 2, False), (40, 1, False)])
def test_a_value_of_a_few_voxels_in_one_mask_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], voxels: int, masks: int, noted: bool
) -> None:
    drawn = {f"s{i}.png": nested(i) for i in range(6)}
    for name in ("s3.png", "s4.png")[:masks]:
        drawn[name].reshape(-1)[:voxels] = 7
    ucseg.init(folder_of(tmp_path / "scans", drawn), out=tmp_path / "data")
    out = " ".join(capsys.readouterr().out.split())
    assert ("only s3.png holds the value 7, in 3 voxels" in out) == noted
