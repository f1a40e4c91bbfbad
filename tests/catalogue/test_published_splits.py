"""The splits of the semi-supervised papers: the first n of the published list are labelled, other masks hidden."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from trees import grow, write_list

import ucseg
from refusals import refused
from ucseg.cli.main import main
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks

LA = [f"{n:02d}QZ{n * 7919 % 97:02d}M8LWS" for n in range(100)]
random.Random(0).shuffle(LA)


def labelled(dataset: Dataset) -> list[str]:
    return [case.case for case in dataset.labelled]


def hidden(dataset: Dataset) -> set[str]:
    return set(reference_masks(dataset)) - {case.case for case in dataset.cases if case.mask is not None}


def left_atria(folder: Path, train: Iterable[str], test: Iterable[str]) -> Path:
    train, test = list(train), list(test)
    grow(folder, [f"2018LA_Seg_Training Set/{name}/mri_norm2.h5" for name in (*train, *test)])
    write_list(folder / "train.list", train)
    write_list(folder / "test.list", test)
    return folder


def test_left_atria(tmp_path: Path) -> None:
    folder = left_atria(tmp_path / "data", LA[:80], LA[80:])
    dataset = ucseg.import_("la", folder, out=tmp_path / "eight", split="8-of-80")
    assert labelled(dataset) == LA[:8]
    assert [case.case for case in dataset.unlabelled] == LA[8:80]
    assert not dataset.validation
    assert [case.case for case in dataset.test] == LA[80:]
    assert hidden(dataset) == set(LA[8:80])
    assert (dataset.config.classes[1], dataset.config.dims, dataset.config.name) == ("left atrium", 3, "la 8-of-80")
    four = ucseg.import_("la", folder / "2018LA_Seg_Training Set" / "..", out=tmp_path / "four", split="4-of-80")
    assert labelled(four) == LA[:4]
    whole = ucseg.import_("la", folder, out=tmp_path / "whole", labelled="10%")
    assert (len(whole.training), len(whole.labelled), len(whole.validation), len(whole.test)) == (72, 7, 8, 20)
    with refused("split-and-amount", naming="--labelled"):
        ucseg.import_("la", folder, out=tmp_path / "both", split="8-of-80", labelled="4")
    with refused("published-split", naming=["'10%'", "4-of-80, 8-of-80, 16-of-80"]):
        ucseg.import_("la", folder, out=tmp_path / "none", split="10%")


def test_lists_that_do_not_fit_the_files(tmp_path: Path) -> None:
    folder = left_atria(tmp_path / "data", LA[:10], LA[10:12])
    with refused("list-not-published", naming=[" 10 ", " 80;", "--labelled 8"]):
        ucseg.import_("la", folder, out=tmp_path / "few", split="8-of-80")
    (folder / "2018LA_Seg_Training Set" / LA[3] / "mri_norm2.h5").unlink()
    with refused("listed-case-missing", naming=["train.list names 10 cases", "mri_norm2.h5", LA[3]]):
        ucseg.import_("la", folder, out=tmp_path / "gone")
    write_list(folder / "more" / "test.list", LA[:2])
    with refused("lists-differ", naming=[folder / "test.list", folder / "more" / "test.list"]):
        ucseg.import_("la", folder, out=tmp_path / "two")
    for file in folder.rglob("*.list"):
        file.unlink()
    with refused("lists-missing", naming=[folder, "train.list and test.list"]):
        ucseg.import_("la", folder, out=tmp_path / "none")
    write_list(folder / "train.list", LA[:5])
    write_list(folder / "test.list", LA[4:6])
    with refused("case-in-two-splits", "listed-case-missing", naming=[LA[4], "train.list (train)", "test.list (test)"]):
        ucseg.import_("la", folder, out=tmp_path / "set")
    write_list(folder / "train.list", [*LA[:3], LA[1]])
    write_list(folder / "test.list", LA[4:6])
    with refused("listed-twice", naming=["train.list", LA[1]]):
        ucseg.import_("la", folder, out=tmp_path / "twice")
    write_list(folder / "train.list", [f"gone{n}" for n in range(3)] + LA[:2])
    write_list(folder / "test.list", [LA[5], LA[0], LA[5]])
    with refused("case-in-two-splits", "listed-case-missing", "listed-twice", naming=["gone0, gone1, gone2", LA[5]]):
        ucseg.import_("la", folder, out=tmp_path / "several")


@pytest.mark.parametrize("layout", ["norm", "dtc", "coranet"])
def test_pancreata(tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"image{n:04d}" for n in range(1, 83)]
    tested = 18 if layout == "coranet" else 20
    random.Random(1).shuffle(names)
    data = tmp_path / "data"
    if layout == "coranet":
        names = [name.removeprefix("image") for name in names if name not in ("image0025", "image0070")]
        grow(data, [f"Pancreas/{name}.h5" for name in names])
        write_list(data / "train_lab.txt", [f"{name}.h5" for name in names[:12]])
        write_list(data / "train_unlab.txt", [f"{name}.h5" for name in names[12:62]])
        write_list(data / "test.txt", [f"{name}.h5" for name in names[62:]])
    else:
        file = "Pancreas_h5/{}_norm.h5" if layout == "norm" else "data/{}.h5"
        grow(data, [file.format(name) for name in names])
        write_list(data / "train.list", names[:62])
        write_list(data / "test.list", names[62:])
    dataset = ucseg.import_("pancreas-ct", data, out=tmp_path / "dataset", split="12-of-62")
    assert labelled(dataset) == names[:12]
    assert (len(dataset.unlabelled), len(dataset.validation), len(dataset.test)) == (50, 0, tested)
    assert "as published" not in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".h5", ".nii"])
def test_gliomas(tmp_path: Path, ending: str) -> None:
    names = [f"BraTS19_CBICA_{n:03d}_1" for n in range(335)]
    if ending == ".h5":
        files = [f"data/{name}.h5" for name in names]
    else:
        files = [f"HGG/{name}/{name}_{kind}.nii" for name in names for kind in ("flair", "seg")]
    data = grow(tmp_path / "data", files, (0, 1, 2, 4) if ending != ".h5" else (0, 1))
    for file, part in (("train.txt", names[:250]), ("val.txt", names[250:275]), ("test.txt", names[275:])):
        write_list(data / file, part)
    dataset = ucseg.import_("brats19", data, out=tmp_path / "dataset", split="25-of-250")
    assert labelled(dataset) == names[:25]
    assert (len(dataset.unlabelled), len(dataset.validation), len(dataset.test)) == (225, 25, 60)
    assert dataset.config.classes == {0: "background", 1: "whole tumour"}


def hearts(data: Path, train: Iterable[int], validation: Iterable[int], test: Iterable[int], slices: int = 2) -> Path:
    """ACDC as SSL4MIS shares it."""
    frames = {
        split: [f"patient{number:03d}_frame0{frame}" for number in patients for frame in (1, 2)]
        for split, patients in (("train_slices", train), ("val", validation), ("test", test))
    }
    frames["train_slices"] = [f"{name}_slice_{n}" for name in frames["train_slices"] for n in range(slices)]
    for name, members in frames.items():
        write_list(data / f"{name}.list", members)
        where = "slices/" if name == "train_slices" else ""
        grow(data, [f"data/{where}{member}.h5" for member in members], (0, 1, 2, 3))
    return data


def test_hearts_are_split_by_patient(tmp_path: Path) -> None:
    order = list(range(30, 100))
    random.Random(2).shuffle(order)
    data = hearts(tmp_path / "data", order, range(10), range(10, 30), slices=1)
    dataset = ucseg.import_("acdc", data, out=tmp_path / "dataset", split="3-of-70")
    assert dataset.config.dims == 2
    assert {case.subject for case in dataset.labelled} == {f"patient{n:03d}" for n in order[:3]}
    assert (len(dataset.labelled), len(dataset.unlabelled)) == (6, 134)
    assert (len(dataset.validation), len(dataset.test)) == (20, 40)


def test_hearts_of_the_challenge(tmp_path: Path) -> None:
    files = [
        f"{folder}/patient{n:03d}/patient{n:03d}_{file}"
        for folder, numbers in (("training", range(1, 7)), ("testing", range(101, 103)))
        for n in numbers
        for file in ("frame01.nii.gz", "frame01_gt.nii.gz", "frame12.nii.gz", "frame12_gt.nii.gz", "4d.nii.gz")
    ]
    dataset = ucseg.import_("acdc", grow(tmp_path / "data", files, (0, 1, 2, 3)), out=tmp_path / "dataset")
    assert (len(dataset.training), len(dataset.validation), len(dataset.test)) == (10, 2, 4)
    assert dataset.config.classes[3] == "left ventricle"
    assert len({case.subject for case in dataset.cases}) == 8


def test_a_model_of_slices_is_measured_on_volumes(tmp_path: Path) -> None:
    data = hearts(tmp_path / "data", [1, 2], [3], [4, 5], slices=3)
    ucseg.import_("acdc", data, out=tmp_path / "dataset", labelled="50%")
    small = ["plan.labelled_batch=2", "plan.unlabelled_batch=2", "plan.size=32", "plan.patch=32", "plan.token=8"]
    run = ucseg.train(tmp_path / "dataset", out=tmp_path / "run", method="supervised", steps=1, workers=0, set=small)
    assert np.isfinite(run.last["dice"])
    ucseg.predict(tmp_path / "run", [tmp_path / "dataset"], out=tmp_path / "masks")
    numbers = ucseg.evaluate(tmp_path / "masks", tmp_path / "dataset", out=tmp_path / "numbers")
    assert (len(numbers.cases), numbers.unit) == (4, "px")


def test_folds_of_a_json_file(tmp_path: Path) -> None:
    files = [
        f"{part}-{kind}/{n:04d}.jpg" for part in ("trainval", "test") for kind in ("image", "mask") for n in range(6)
    ]
    data = grow(tmp_path / "tn3k", files)
    (data / "tn3k-trainval-fold1.json").write_text(json.dumps({"train": [5, 0, 2], "val": [1, 3, 4]}))
    dataset = ucseg.import_("tn3k", data, out=tmp_path / "dataset", split="fold1")
    assert [case.case for case in dataset.training] == ["0005", "0000", "0002"]
    assert [case.case for case in dataset.validation] == ["0001", "0003", "0004"]
    assert len(dataset.test) == 6
    with refused("lists-missing", naming="tn3k-trainval-fold0.json"):
        ucseg.import_("tn3k", data, out=tmp_path / "other", split="fold0")
    (data / "tn3k-trainval-fold1.json").write_text("{}")
    with refused("list-broken", naming="tn3k-trainval-fold1.json"):
        ucseg.import_("tn3k", data, out=tmp_path / "broken", split="fold1")


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_atria(tmp_path / "data", LA[:3], LA[3:5])
    words = ["import", "la", str(tmp_path / "data"), "--out", str(tmp_path / "dataset"), "--split", "8-of-80"]
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("ucseg: ")
    with pytest.raises(SystemExit) as leaving:
        main([*words[:-2], "--validation", "0"])
    assert not leaving.value.code
    assert len(load_dataset(tmp_path / "dataset").labelled) == 3
