"""`ucseg init` and `ucseg check`: what they write, print and refuse, and what they make of the real sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import ucseg
from refusals import refused
from small_scans import blob, label, picture, save, volume
from ucseg.cli.check import folded
from ucseg.cli.main import main
from ucseg.dataset.manifest import load_dataset, reference_masks
from ucseg.errors import UserError
from ucseg.soundness.check import UnsoundDatasetError
from ucseg.soundness.finding import Finding


def pictures(folder: Path, count: int) -> None:
    """Images and their masks."""
    for i in range(count):
        picture(folder / "images" / f"{i}.png")
        save(folder / "masks" / f"{i}.png", blob(where=i))


def test_a_folder_becomes_a_dataset_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[tuple[str, str]]
) -> None:
    data = tmp_path / "data"
    pictures(data, 6)
    for i in range(8):
        (data / f"notes{i}.docx").touch()
    options = {"classes": "polyp", "modality": "ultrasound", "validation": "1", "test": "1"}
    dataset = ucseg.init(data, out=tmp_path / "set", seed=3, **options)
    assert load_dataset(tmp_path / "set").cases == dataset.cases
    assert (dataset.config.classes[1], dataset.config.modality, dataset.config.seed) == ("polyp", "ultrasound", 3)
    printed = capsys.readouterr().out
    assert "1 polyp" in printed and "40 x 48 px" in printed
    assert "left out (8)" in printed
    lines = [line for line in printed.splitlines() if "'.docx'" in line]
    assert [line.split(":")[0].strip() for line in lines] == [f"notes{i}.docx" for i in range(3)]
    assert "  and 5 more for the same reason (--all)" in printed
    assert [(kind, str(tmp_path / "set") in text) for kind, text in said] == [
        ("few-held-out", False),
        ("written", True),
        ("contact-sheet", True),
    ]


def test_what_helps_where_masks_are_few_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[tuple[str, str]]
) -> None:
    pictures(tmp_path / "data", 8)
    for i in range(8):
        save(tmp_path / "data" / "masks" / f"{i}.png", 255 * (blob(where=i) > 0).astype(np.uint8))
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set")
    assert repr(dataset).endswith("set: 5 training cases (5 labelled), 1 validation, 2 test>")
    assert "--validation N, --test N. " in dict(said)["few-held-out"] and "--test 0" in dict(said)["few-held-out"]
    assert capsys.readouterr().out.count("foreground is above") == 1
    said.clear()
    kept = ucseg.init(tmp_path / "data", out=tmp_path / "kept", test="0")
    assert (len(kept.labelled), len(kept.test)) == (7, 0) and "--test" not in dict(said)["few-held-out"]
    capsys.readouterr()
    ucseg.init(tmp_path / "data", out=tmp_path / "cut", mask_threshold=50)
    assert capsys.readouterr().out.count("foreground is above") == 1


def test_that_outlines_are_filled_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = np.zeros((40, 48), np.uint8)
    line[8:32, 8:40] = 1
    line[9:31, 9:39] = 0
    for i in range(4):
        picture(tmp_path / "data" / "images" / f"{i}.png")
        save(tmp_path / "data" / "masks" / f"{i}.png", line)
    for given in (None, True):
        ucseg.init(tmp_path / "data", out=tmp_path / str(given), fill_outlines=given)
        assert capsys.readouterr().out.count(" filled") == 1


def test_splits_of_the_folder_are_not_advised_to_grow(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    for split, count in (("train", 8), ("test", 1)):
        pictures(tmp_path / "data" / split, count)
    ucseg.init(tmp_path / "data", out=tmp_path / "set")
    assert "1 test case" in dict(said)["few-held-out"] and "--test" not in dict(said)["few-held-out"]


def test_a_pattern_that_makes_all_cases_one_subject_is_reported(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    pictures(tmp_path / "data", 6)
    ucseg.init(tmp_path / "data", out=tmp_path / "set", subject="g")
    assert "6 cases" in dict(said)["one-subject"] and "--subject" in dict(said)["one-subject"]
    said.clear()
    ucseg.init(tmp_path / "data", out=tmp_path / "other")
    assert "one-subject" not in dict(said)


def test_hidden_masks_are_kept_from_training(tmp_path: Path) -> None:
    pictures(tmp_path / "data", 20)
    every = ucseg.init(tmp_path / "data", out=tmp_path / "all")
    few = ucseg.init(tmp_path / "data", out=tmp_path / "few", labelled="3")
    assert len(few.labelled) == 3
    assert [case.split for case in few.cases] == [case.split for case in every.cases]
    assert not (tmp_path / "all" / "hidden.csv").exists()
    assert len((tmp_path / "few" / "hidden.csv").read_text().splitlines()) == 1 + len(every.labelled) - 3
    assert reference_masks(few) == reference_masks(every)


def test_an_existing_dataset_is_not_replaced_unasked(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png")
        save(tmp_path / f"{i}_mask.png", blob())
    ucseg.init(tmp_path, out=tmp_path / "set")
    with pytest.raises(UserError, match="--overwrite"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    again = ucseg.init(tmp_path, out=tmp_path / "set", overwrite=True)
    assert len(again.cases) == 3, "its own folder holds no scans"


def test_a_dataset_is_no_folder_of_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans = tmp_path / "data" / "us"
    for i in range(6):
        picture(scans / f"{i}.png")
        save(scans / f"{i}_mask.png", blob())
    inside, beside = tmp_path / "data" / "set", scans / "set"
    for out in (inside, beside):
        ucseg.init(scans, out=out)
        ucseg.prepare(out)
        assert list(out.glob("cache/*/*.npy"))
    with refused("dataset-not-scans", naming=[inside, scans]):
        ucseg.init(inside, out=tmp_path / "a")
    capsys.readouterr()
    assert len(ucseg.init(tmp_path / "data", out=tmp_path / "a").cases) == 6
    printed = capsys.readouterr().out
    assert "left out (2)" in printed
    assert "  set: " in printed and "  us/set: " in printed


def test_scans_that_share_the_folder_of_their_dataset_are_read_again_without_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        picture(tmp_path / f"{i}.png")
        save(tmp_path / f"{i}_mask.png", blob())
    first = ucseg.init(tmp_path, out=tmp_path, labelled="2")
    ucseg.prepare(tmp_path)
    again = ucseg.init(tmp_path, out=tmp_path, labelled="2", overwrite=True)
    assert again.cases == first.cases
    assert "left out" not in capsys.readouterr().out


def test_what_was_left_out_is_printed_even_when_no_dataset_can_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume(tmp_path / "images" / "a.nii.gz")
    volume(tmp_path / "images" / "b.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    volume(tmp_path / "labels" / "b.nii.gz", label())
    with pytest.raises(UserError, match="1 cases"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    printed = capsys.readouterr().out
    assert "  images/b.nii.gz: " in printed and "  labels/b.nii.gz: " in printed


def test_check_repeats_what_was_left_out_until_it_is_fixed(tmp_path: Path) -> None:
    pictures(tmp_path, 6)
    (tmp_path / "images" / "5.png").write_bytes(b"no image")
    save(tmp_path / "masks" / "4.png", blob()[:, :30])
    for i in (7, 8):
        save(tmp_path / "masks" / f"{i}.png", blob())
    (tmp_path / "images" / "README.md").touch()
    dataset = ucseg.init(tmp_path, out=tmp_path / "set", validation="1", test="0")
    assert len(dataset.cases) == 5

    def left_out() -> dict[str, str]:
        return {one.file: one.finding for one in ucseg.check(tmp_path / "set") if one.kind == "left-out"}

    found = left_out()
    assert list(found) == ["images/5.png", "masks/4.png", "masks/7.png"], "not the mask of 5"
    assert "aspect ratios" in found["masks/4.png"]
    assert "(masks/8.png)" in found["masks/7.png"]

    table = tmp_path / "set" / "cases.csv"
    table.write_text(table.read_text() + "seven,7,images/0.png,masks/7.png,train\n")
    assert list(left_out()) == ["images/5.png", "masks/4.png", "masks/8.png"]
    for name in ("images/5.png", "masks/4.png", "masks/5.png", "masks/7.png", "masks/8.png"):
        (tmp_path / name).unlink()
    ucseg.init(tmp_path, out=tmp_path / "set", validation="1", test="0", overwrite=True)
    assert left_out() == {}
    assert not (tmp_path / "set" / "left_out.csv").exists()


def test_no_image_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with refused("no-image", naming=[tmp_path, "is empty"]) as caught:
        ucseg.init(tmp_path, out=tmp_path / "set")
    assert ".nii.gz" not in str(caught.value)
    with refused("folder-missing", naming="gone"):
        ucseg.init(tmp_path / "gone", out=tmp_path / "set")
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", blob(0))
    with refused("masks-empty"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    assert not (tmp_path / "set").exists(), "nothing half-written"


def test_the_command_line_shows_errors_in_a_table_and_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path, 20)
    words = ["init", str(tmp_path), "--out", str(tmp_path / "set"), "--test", "3", "--classes", "background,x"]
    with pytest.raises(SystemExit) as leave:
        main(words)
    assert leave.value.code == 0
    with pytest.raises(SystemExit) as leave:
        main(["check", str(tmp_path / "set")])
    assert leave.value.code == 0
    capsys.readouterr()
    (tmp_path / "images" / "4.png").unlink()
    with pytest.raises(SystemExit) as leave:
        main(["check", str(tmp_path / "set")])
    assert leave.value.code == 2
    shown = capsys.readouterr()
    assert "images/4.png" in shown.out
    assert "20 cases, 1 error, 0 warnings" in shown.err
    with pytest.raises(UnsoundDatasetError) as error:
        ucseg.check(tmp_path / "set")
    assert [finding.file for finding in error.value.findings] == ["images/4.png"]
    for i in range(5, 9):
        (tmp_path / "images" / f"{i}.png").unlink()
    capsys.readouterr()
    for options, named in (([], 3), (["--all"], 5)):
        with pytest.raises(SystemExit):
            main(["check", str(tmp_path / "set"), *options])
        shown = capsys.readouterr()
        assert sum(f"images/{i}.png" in shown.out for i in range(4, 9)) == named
        assert ("and 2 more (--all)" in shown.out) == (named == 3)
        assert "5 errors" in shown.err


def test_many_files_of_one_cause_are_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where each has its own names and numbers in the reason."""
    pictures(tmp_path, 9)
    for i in range(9):
        (tmp_path / "images" / f"{i}.png").unlink()
        (tmp_path / "images" / f"{i}.png").write_bytes(f"no picture {i}".encode())
    pictures(tmp_path / "sound", 4)
    ucseg.init(tmp_path, out=tmp_path / "set", test="1", validation="1")
    assert capsys.readouterr().out.count("images/") < 9
    ucseg.init(tmp_path, out=tmp_path / "set", test="1", validation="1", overwrite=True, every=True)
    shown = capsys.readouterr().out
    assert all(f"  images/{i}.png: " in shown for i in range(9))


def test_findings_of_one_kind_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Finding("near-duplicate", "cases.csv", f"cases {i} and {i + 1} are alike", "look") for i in range(50)]
    assert len(folded(found, every=False)) == 1
    assert "49 more" in folded(found, every=False)[0][2]
    assert len(folded(found, every=True)) == 50
    assert len(folded(found[:3], every=False)) == 3
    left = [Finding("left-out", f"{i}.png", f"{i}.png cannot be read", "fix it") for i in range(9)]
    other = Finding("left-out", "a.mat", "not read", "convert it")
    assert [row[1] for row in folded([*left, other], every=False)] == [
        "0.png\n1.png\n2.png\nand 6 more (--all)",
        "a.mat",
    ]


def linked(root: Path, folder: Path, files: Iterable[str]) -> Path:
    """A folder with links to some of the files of a real set: all of them would take many seconds."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(root / file)
    return folder


@pytest.mark.real
def test_hippocampus(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_data / "hippocampus"
    names = [file.name for file in sorted((root / "images").iterdir())[:20]]
    pairs = [f"{folder}/{name}" for name in names for folder in ("images", "labels")]
    odd = ["images/hippocampus_118.nii.gz", *(f"labels/hippocampus_{number}.nii.gz" for number in ("010", "281"))]
    data = linked(root, tmp_path / "data", {*pairs, *odd})
    dataset = ucseg.init(data, out=tmp_path / "set", test="6", labelled="5%")
    assert (len(dataset.cases), len(reference_masks(dataset)), len(dataset.test)) == (21, 20, 6)
    assert "hippocampus_118" in {case.case for case in dataset.unlabelled} - set(reference_masks(dataset))
    printed = capsys.readouterr().out
    for number in ("010", "281"):
        assert f"labels/hippocampus_{number}.nii.gz: " in printed
    assert (dataset.config.dims, dataset.config.modality, list(dataset.config.classes)) == (3, "mri", [0, 1, 2])
    left_out = [finding for finding in ucseg.check(tmp_path / "set") if finding.kind == "left-out"]
    assert [finding.file for finding in left_out] == ["labels/hippocampus_010.nii.gz"]
    assert "(labels/hippocampus_281.nii.gz)" in left_out[0].finding


@pytest.mark.real
def test_kvasir(shared_data: Path, tmp_path: Path) -> None:
    some = {"train": (222, *range(1, 20)), "validation": range(1, 6), "test": (16, *range(1, 5))}
    files = [f"{split}/{kind}/{n}.jpg" for split in some for n in some[split] for kind in ("images", "masks")]
    data = linked(shared_data / "kvasir", tmp_path / "data", files)
    dataset = ucseg.init(data, out=tmp_path / "set")
    assert [len(part) for part in (dataset.labelled, dataset.validation, dataset.test)] == [20, 5, 5]
    assert (dataset.config.mask_threshold, dataset.config.modality) == (127, "rgb")
    assert all(case.image.name == case.mask.name for case in dataset.cases if case.mask is not None)
    (leak,) = [one.finding for one in ucseg.check(tmp_path / "set") if one.kind == "near-duplicate-leak"]
    named = {case.image.below(data): case.case for case in dataset.cases}
    assert named["train/images/222.jpg"] in leak and named["test/images/16.jpg"] in leak


@pytest.mark.real
def test_hc18(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_data / "hc18"
    names = [file.stem for file in sorted(root.glob("*_*HC.png"))]
    some = [name for name in names if name < "030" or name == "186_HC"]
    data = linked(root, tmp_path / "data", [f"{name}{end}.png" for name in some for end in ("", "_Annotation")])
    dataset = ucseg.init(data, out=tmp_path / "set", modality="ultrasound")
    assert (len(dataset.cases), len(reference_masks(dataset))) == (len(some), len(some) - 1)
    assert dataset.config.fill_outlines
    assert "  186_HC_Annotation.png: " in capsys.readouterr().out
    split = {case.case: case.split for case in dataset.cases}
    assert split["010_HC"] == split["010_2HC"]
    assert len({case.subject for case in dataset.cases}) == 31 < len(some)


@pytest.mark.real
def test_isic(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "isic"
    some = [file for name in ("images", "masks") for file in sorted((root / name).iterdir())[:12]]
    data = linked(root, tmp_path / "data", [str(file.relative_to(root)) for file in some])
    dataset = ucseg.init(data, out=tmp_path / "set")
    assert (len(dataset.cases), len(reference_masks(dataset))) == (12, 12)
    assert (dataset.config.mask_threshold, dataset.config.modality) == (127, "rgb")
    assert [finding for finding in ucseg.check(tmp_path / "set") if finding.severity == "error"] == []


def test_an_impossible_amount_is_refused_before_any_scan_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--test '150%'"):
        ucseg.init(tmp_path / "not-even-looked-for", out=tmp_path / "data", test="150%")
