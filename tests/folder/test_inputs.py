from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dicom_files import save_series
from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.folder.inputs import find_inputs
from ucseg.folder.like_training import Wanted, require_one_kind
from ucseg.folder.listing import list_scans
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.reading import read_header, read_mask, read_scan


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
    with refused("no-scan", naming=[tmp_path, ".nii.gz"]):
        find_inputs([tmp_path], tmp_path / "out")


def test_inputs_that_give_nothing_do_not_stop_the_others_and_are_reported_together(tmp_path: Path) -> None:
    (scan,) = touch(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "empty", scan, tmp_path / "nowhere.png"]
    found = find_inputs(paths, tmp_path / "out")
    assert [item.address.path for item in found.scans] == [scan]
    assert [problem.code for problem in found.problems] == ["no-scan", "input-missing"]
    with refused("no-scan", "input-missing", naming=[paths[0], "is empty", paths[2]]) as caught:
        find_inputs([paths[0], paths[2]], tmp_path / "out")
    assert ".nii.gz" not in str(caught.value)


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


def test_links_that_go_round_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "scans", "a/one.png", "a/two.png", "b/three.png")
    (tmp_path / "scans/a/up").symlink_to(tmp_path / "scans")
    (tmp_path / "scans/again").symlink_to(tmp_path / "scans/b")
    (tmp_path / "elsewhere").mkdir()
    touch(tmp_path / "elsewhere", "four.png")
    (tmp_path / "scans/linked").symlink_to(tmp_path / "elsewhere")
    listed, left_out = list_scans(tmp_path / "scans", set())
    names = {one.address.below(tmp_path / "scans") for one in listed}
    assert names == {"a/one.png", "a/two.png", "b/three.png", "linked/four.png"}
    assert {one.file.name for one in left_out} == {"up", "again"}


def test_what_predict_wrote_holds_no_scans(tmp_path: Path) -> None:
    touch(tmp_path / "scans", "a.png", "results/prediction.json", "results/a.png", "results/uncertainty/a.tif")
    found = find_inputs([tmp_path / "scans"], tmp_path / "out").scans
    assert [item.address.below(tmp_path) for item in found] == ["scans/a.png"]
    listed, left_out = list_scans(tmp_path / "scans", set())
    assert len(listed) == 1 and [one.file.name for one in left_out] == ["results"]
    for folder in (tmp_path / "scans/results", tmp_path / "scans/results/uncertainty"):
        with refused("input-is-prediction", naming=folder):
            find_inputs([folder], tmp_path / "out")
    with refused("folder-of-predictions", naming=tmp_path / "scans/results"):
        list_scans(tmp_path / "scans/results", set())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("name", ["pipe.nii.gz", "pipe.dcm", "pipe.png", "pipe.h5", "pipe.nrrd", "pipe"])
def test_a_pipe_is_never_opened(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / name)
    listed, left_out = list_scans(tmp_path, set())
    assert [one.name for one in listed] == ["a.png"] and [one.file.name for one in left_out] == [name]
    pipe = Address.of(tmp_path / name)
    for read in (read_scan, read_mask, read_header):
        with refused("scan-no-file", naming=pipe):
            read(pipe)
    with pytest.raises(OSError, match="pipe"):
        content_of(pipe)


def test_a_device_is_never_read() -> None:
    for read in (read_scan, read_header):
        with refused("scan-no-file", naming="/dev/zero"):
            read(Path("/dev/zero"))


SEQUENCES = "*_{t1,t2}.nii.gz"


@pytest.mark.parametrize("wanted", [Wanted(2, trained=SEQUENCES), Wanted(2, images=SEQUENCES, trained="*_ct.nii.gz")])
def test_files_that_were_channels_in_training_are_channels_of_a_folder(tmp_path: Path, wanted: Wanted) -> None:
    touch(tmp_path, *(f"s/p{i}_{name}.nii.gz" for i in range(3) for name in ("t2", "t1", "seg", "ct")))
    (tmp_path / "s/p2_t1.nii.gz").unlink()
    found = find_inputs([tmp_path], tmp_path / "out", wanted=wanted)
    assert {(item.case, item.address.below(tmp_path)) for item in found.scans} == {
        ("p0", "s/p0_{t1,t2}.nii.gz"),
        ("p1", "s/p1_{t1,t2}.nii.gz"),
    }
    assert {file.name for file in found.others} == {f"p{i}_ct.nii.gz" for i in range(3)}
    assert [(problem.code, "p2_t2.nii.gz" in str(problem)) for problem in found.problems] == [("input-channels", True)]


def test_of_a_folder_only_files_like_those_of_training_are_scans(tmp_path: Path) -> None:
    touch(tmp_path, "a/p1_t1.png", "a/p1_FLAIR.tif", "b/x.png", "b/y.png")
    trained = Wanted(trained="*_flair.png")
    found = find_inputs([tmp_path / "a"], tmp_path / "out", wanted=trained)
    assert [item.address.name for item in found.scans] == ["p1_FLAIR.tif"]
    assert [file.name for file in found.others] == ["p1_t1.png"]
    # A folder without such files is called otherwise: all of it counts, and that is reported.
    found = find_inputs([tmp_path / "b"], tmp_path / "out", wanted=trained)
    assert (len(found.scans), found.unlike) == (2, [tmp_path / "b"])
    with refused("pattern-no-file", naming="--images"):
        find_inputs([tmp_path / "b"], tmp_path / "out", wanted=Wanted(images="*_flair.png"))
    named = find_inputs([tmp_path / "a/p1_t1.png"], tmp_path / "out", wanted=trained)
    assert [item.address.name for item in named.scans] == ["p1_t1.png"]


@pytest.mark.parametrize("trained", ["*_T1.png", "images/*_T1.png", "*_T1_*", "T1_*", "*T1*.png"])
def test_a_sequence_anywhere_in_the_pattern_says_the_kind(tmp_path: Path, trained: str) -> None:
    name = "T1_{}.png" if trained.startswith("T1") else "p{}_T1_x.png" if trained == "*_T1_*" else "p{}_T1.png"
    touch(tmp_path, *(name.format(i).replace("T1", word) for i in range(2) for word in ("T1", "T2")))
    found = find_inputs([tmp_path], tmp_path / "out", wanted=Wanted(trained=trained))
    assert {item.address.name for item in found.scans} == {name.format(i) for i in range(2)}
    assert len(found.others) == 2


@pytest.mark.parametrize(("trained", "scans"), [("T1/*", 1), ("*.nii.gz", 3), ("P*.png", 3), ("images/*", 3), ("", 3)])
def test_a_pattern_that_says_no_kind_of_image_leaves_nothing_out(tmp_path: Path, trained: str, scans: int) -> None:
    touch(tmp_path, "T1/P1.png", "T2/P1.png", "images/q.nii.gz")
    found = find_inputs([tmp_path], tmp_path / "out", wanted=Wanted(trained=trained))
    assert (len(found.scans), len(found.others), found.unlike) == (scans, 3 - scans, [])


@pytest.mark.parametrize(
    ("files", "pattern", "cases"),
    [
        ("{case}/{word}.nii.gz", "*/{FLAIR,T1}.nii.gz", ["s1", "s2"]),
        ("{case}/20190101/{word}.nii.gz", "*/{FLAIR,T1}.nii.gz", ["s1_20190101", "s2_20190101"]),
        ("{case}/{word}/img.nii.gz", "*/{FLAIR,T1}/*", ["s1_img", "s2_img"]),
    ],
)
def test_channels_are_called_as_their_folder(tmp_path: Path, files: str, pattern: str, cases: list[str]) -> None:
    touch(tmp_path, *(files.format(case=case, word=word) for case in ("s1", "s2") for word in ("FLAIR", "T1")))
    found = find_inputs([tmp_path], tmp_path / "out", wanted=Wanted(2, trained=pattern))
    assert sorted(item.case for item in found.scans) == cases


def test_channels_in_another_order_than_in_training_are_refused(tmp_path: Path) -> None:
    files = touch(tmp_path, "p_t1.nii.gz", "p_t2.nii.gz")
    trained = Wanted(2, trained=SEQUENCES)
    for paths, wanted in (
        ([files[0].with_name("p_{t2,t1}.nii.gz")], trained),
        ([tmp_path], Wanted(2, "*_{t2,t1}.nii.gz", SEQUENCES)),
    ):
        with refused("channels-order", naming="t1, t2"):
            find_inputs(paths, tmp_path / "out", wanted=wanted)
    assert find_inputs([files[0].with_name("p_{t1,t2}.nii.gz")], tmp_path / "out", wanted=trained).scans
    runs = [tmp_path / "r1", tmp_path / "r2"]
    with refused("runs-channels", naming=["r2", "t1, t2"]):
        require_one_kind(runs, [SEQUENCES, "**/{t2,t1}/*"])
    require_one_kind(runs, [SEQUENCES, "**/{t1,t2}/*"])


def test_results_do_not_go_among_the_scans(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "labels/a.png")
    with refused("out-among-scans", naming=tmp_path / "images"):
        find_inputs([tmp_path], tmp_path / "images")
    assert len(find_inputs([tmp_path], tmp_path / "images/results").scans) == 2


def test_one_slice_of_a_series_is_no_volume(tmp_path: Path) -> None:
    series = save_series(tmp_path / "scan", np.zeros((8, 8, 5), np.int16))
    alone = save_series(tmp_path / "alone", np.zeros((8, 8, 1), np.int16), "1.5")
    file = sorted(series.iterdir())[0]
    with refused("input-one-slice", naming=[file, "5 slices", series]):
        find_inputs([file], tmp_path / "out", wanted=Wanted(dims=3))
    assert len(find_inputs([file], tmp_path / "out", wanted=Wanted(dims=2)).scans) == 1
    (single,) = alone.iterdir()
    assert len(find_inputs([single], tmp_path / "out", wanted=Wanted(dims=3)).scans) == 1
    assert len(find_inputs([series], tmp_path / "out", wanted=Wanted(dims=3)).scans) == 1
