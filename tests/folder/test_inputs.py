from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_files import save_series
from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.folder.inputs import find_inputs


def touch(folder: Path, *names: str) -> list[Path]:
    files = [folder / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


def test_folders_give_their_scans_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "A.NRRD", "sub/c.png", "notes.txt", "._b.nii.gz", ".hidden/d.png", "out/b.nii.gz")
    found = find_inputs([tmp_path], tmp_path / "out").scans
    assert {(item.case, item.address.below(tmp_path)) for item in found} == {
        ("b", "b.nii.gz"),
        ("A", "A.NRRD"),
        ("c", "sub/c.png"),
    }


@pytest.mark.parametrize(
    ("scans", "masks"),
    [
        (["000_HC.png", "001_HC.png"], ["000_HC_Annotation.png", "001_HC_Annotation.png"]),
        (["train/images/a.jpg", "train/images/b.jpg"], ["train/masks/a.jpg", "train/masks/b.jpg"]),
        (["imagesTr/a.nii.gz", "imagesTs/b.nii.gz"], ["labelsTr/a.nii.gz"]),
        (["ct.nrrd"], ["ct.seg.nrrd", "without_image_seg.nii"]),
        (["images/a.png", "images/b_seg.png"], ["images/a_mask.png"]),
    ],
)
def test_masks_beside_scans_are_left_out_unless_they_are_named(
    tmp_path: Path, scans: list[str], masks: list[str]
) -> None:
    touch(tmp_path, *scans)
    files = touch(tmp_path, *masks)
    found = find_inputs([tmp_path], tmp_path / "out")
    assert [item.address.below(tmp_path) for item in found.scans] == scans
    assert ([mask.path for mask in found.masks], found.problems) == (files, [])
    named = find_inputs([tmp_path, files[0]], tmp_path / "out")
    assert files[0] in [item.address.path for item in named.scans]
    assert [mask.path for mask in named.masks] == files[1:]


def test_a_folder_of_masks_alone_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_mask.png", "labels/b.png")
    with refused("only-masks", naming=[tmp_path, " 2 ", "a_mask.png"]):
        find_inputs([tmp_path], tmp_path / "out")


def test_a_file_named_twice_is_predicted_once(tmp_path: Path) -> None:
    (file,) = touch(tmp_path, "a.png")
    assert len(find_inputs([file, tmp_path, tmp_path / "." / "a.png"], tmp_path / "out").scans) == 1


def test_equal_names_become_different(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1/scan.nii", "p2/t1/scan.nii", "p2/Scan.nii.gz", "only.nii", "x.png", "x.jpg", "p1/x_png.png")
    names = {item.address.below(tmp_path): item.case for item in find_inputs([tmp_path], tmp_path / "o").scans}
    assert names["only.nii"] == "only"
    assert names["p1/t1/scan.nii"] == "p1_t1_scan"
    assert names["p2/t1/scan.nii"] == "p2_t1_scan"
    assert len({name.casefold() for name in names.values()}) == len(names) == 7
    assert all("/" not in name for name in names.values())


def test_names_that_differ_by_case_alone_do_not_follow_the_whole_path(tmp_path: Path) -> None:
    touch(tmp_path, "p00.png", "p00.PNG", "a/q.png", "A/q.png")
    names = {item.address.below(tmp_path): item.case for item in find_inputs([tmp_path], tmp_path / "o").scans}
    # The numbers are for file systems that take upper and lower case for the same.
    assert names == {"p00.PNG": "p00_PNG", "p00.png": "p00_png_2", "A/q.png": "A_q", "a/q.png": "a_q_2"}


def test_paths_that_are_not_there_and_empty_folders(tmp_path: Path) -> None:
    with refused("input-missing", naming=tmp_path / "nowhere.png"):
        find_inputs([tmp_path / "nowhere.png"], tmp_path / "out")
    touch(tmp_path, "notes.txt")
    with refused("no-scan", naming=tmp_path):
        find_inputs([tmp_path], tmp_path / "out")


def test_inputs_that_give_nothing_do_not_stop_the_others_and_are_reported_together(tmp_path: Path) -> None:
    (scan,) = touch(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "empty", scan, tmp_path / "nowhere.png"]
    found = find_inputs(paths, tmp_path / "out")
    assert [item.address.path for item in found.scans] == [scan]
    assert [problem.code for problem in found.problems] == ["no-scan", "input-missing"]
    with refused("no-scan", "input-missing", naming=[paths[0], paths[2]]):
        find_inputs([paths[0], paths[2]], tmp_path / "out")


def test_what_is_missing_of_a_series_is_reported(tmp_path: Path) -> None:
    volume = np.zeros((8, 7, 4), np.int16)
    save_series(tmp_path / "whole", volume, "1.2.1")
    for folder, part in (("one", volume[..., :2]), ("two", volume[..., 2:])):
        save_series(tmp_path / folder, part, "1.2.2")
    damaged = tmp_path / "other" / "damaged.dcm"
    damaged.parent.mkdir()
    damaged.write_bytes(next((tmp_path / "whole").iterdir()).read_bytes().replace(b"\x28\0\x10\0US", b"\x28\0\x10\0XX"))
    found = find_inputs([tmp_path], tmp_path / "out")
    assert [item.case for item in found.scans] == ["whole"]
    assert [problem.code for problem in found.problems] == ["input-left-out"] * 3
    assert {"one", "two", "other"} == {Path(str(problem).split(": ")[0]).parent.name for problem in found.problems}


def test_datasets_give_the_images_of_a_split_under_their_case_names(tmp_path: Path) -> None:
    images = touch(tmp_path, "data/p1/t1.nii", "data/p2/t1.nii", "data/p3/t1.nii")
    splits = ["train", "test", "test"]
    cases = [
        Case(f"case{i}", f"s{i}", file, None, split) for i, (file, split) in enumerate(zip(images, splits, strict=True))
    ]
    config = DatasetConfig(
        name="d", root="../data", dims=3, modality="mri", channels=1, classes={0: "background", 1: "organ"}
    )
    save_dataset(Dataset(tmp_path / "set", config, cases))
    for path in (tmp_path / "set", tmp_path / "set" / "dataset.yaml"):
        assert [item.case for item in find_inputs([path], tmp_path / "out").scans] == ["case1", "case2"]
    assert len(find_inputs([tmp_path / "set"], tmp_path / "out", "all").scans) == 3
    with refused("split-empty", naming=[tmp_path / "set", "'validation'"]):
        find_inputs([tmp_path / "set"], tmp_path / "out", "validation")
    with refused("input-split", naming=["tset", "validation"]):
        find_inputs([tmp_path / "set"], tmp_path / "out", "tset")
