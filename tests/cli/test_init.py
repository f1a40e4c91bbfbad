"""`ucseg init` and `ucseg check` on the layouts that people have, and on the real sets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageDraw

import ucseg
from ucseg.cli.main import main
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks
from ucseg.errors import UserError
from ucseg.folder.pairing import find_cases
from ucseg.soundness.check import UnsoundDatasetError
from ucseg.types import Array

SIZE = (40, 48)


def blob(kind: int = 1, where: int = 0) -> Array:
    array = np.zeros(SIZE, np.uint8)
    array[10 + where % 7 : 25 + where % 7, 12:30] = kind
    return array


def picture(path: Path, seed: int = 0, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng([seed, *path.as_posix().encode()]).integers(0, 256, (*SIZE, channels), dtype=np.uint8)
    Image.fromarray(array.squeeze()).save(path)


def save(path: Path, array: Array, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def volume(path: Path, array: Array | None = None, low: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng([*path.name.encode()]).normal(low, 20, (8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)


def label(values: tuple[int, ...] = (0, 1)) -> Array:
    return np.resize(np.array(values, np.uint8), (8, 9, 10))


def pairs(dataset: Dataset) -> dict[str, tuple[str, str]]:
    root = dataset.root
    return {
        case.case: (
            case.image.below(root),
            case.mask.below(root) if case.mask else "",
        )
        for case in dataset.cases
    }


@pytest.mark.parametrize(
    ("image", "mask", "case"),
    [
        ("images/{}.png", "labels/{}.png", "{}"),
        ("image/{}.png", "mask/{}.png", "{}"),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png", "{}"),
        ("images/{}.jpg", "masks/{}_segmentation.png", "{}"),
        ("{}.png", "{}_mask.png", "{}"),
        ("images/{}.png", "images/{}_mask.png", "{}"),
        ("{}.png", "{}_seg.png", "{}"),
        ("{}.png", "{}_Annotation.png", "{}"),
        ("{}.png", "{} mask.png", "{}"),
        ("{}.png", "{}_lbl.png", "{}"),
        ("{}.png", "{}_roi.png", "{}"),
        ("{}.png", "mask_{}.png", "{}"),
        ("{}.png", "seg-{}.png", "{}"),
        ("image_{}.png", "mask_{}.png", "image_{}"),
        ("images/img_{}.png", "labels/label_{}.png", "img_{}"),
        ("images/{}.png", "images/label_{}.png", "{}"),
        ("images/{}_roi.png", "masks/{}_roi.png", "{}_roi"),
        ("images/label_{}.png", "masks/label_{}.png", "label_{}"),
        ("images/{}_seg.png", "masks/{}_seg.png", "{}_seg"),
        ("{}_image.png", "{}_label.png", "{}"),
        ("{}/image.png", "{}/mask.png", "{}"),
        ("{}/scan/{}_T1.png", "derivatives/labels/{}/{}_T1_seg-manual.png", "{}_T1"),
    ],
)
def test_usual_layouts_pair(tmp_path: Path, image: str, mask: str, case: str) -> None:
    data = tmp_path / "data"
    for i, name in enumerate(("a", "b", "c")):
        picture(data / image.format(name, name), i)
        if name != "c":
            save(data / mask.format(name, name), blob(where=i))
    dataset = ucseg.init(data, out=tmp_path / "set")
    assert pairs(dataset) == {
        case.format(name): (image.format(name, name), "" if name == "c" else mask.format(name, name))
        for name in ("a", "b", "c")
    }
    assert load_dataset(tmp_path / "set").cases == dataset.cases
    assert dataset.config.classes == {0: "background", 1: "foreground"}
    assert dataset.config.mask_threshold is None


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a_roi", "b_roi", "mask_c", "seg_d"], []),  # nothing beside them that they could be masks of
        (["a", "a_roi", "b", "label_b"], ["a_mask", "b_mask"]),  # the images have their masks
        (["images/a", "images/a_roi", "images/seg_a"], ["masks/a", "masks/a_roi", "masks/seg_a"]),
        (["a", "a_roi"], ["a_roi_mask"]),
        (["images/a", "images/a_roi"], ["masks/a_roi"]),
    ],
)
def test_images_whose_names_hold_a_word_for_masks_stay_images(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    for name in images:
        picture(tmp_path / f"{name}.png")
    for name in masks:
        save(tmp_path / f"{name}.png", blob())
    cases = find_cases(tmp_path).cases
    assert {case.image.path.relative_to(tmp_path).with_suffix("").as_posix() for case in cases} == set(images)
    assert sum(case.mask is not None for case in cases) == len(masks)


def test_masks_of_unknown_names_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for i in range(8):
        picture(data / f"A{i}.png")
        save(data / f"A{i}_mask.png", blob())
    for name in ("A1x", "A10", "bA2"):  # images, whatever they are called
        picture(data / f"{name}.png")
    save(data / "lonely.png", blob())
    for i in (4, 6):
        picture(data / f"B{i}.png")
        save(data / f"B{i}_outline.png", blob())
    ucseg.init(data, out=tmp_path / "set")
    told = (
        "2 images without a mask look like masks themselves, by their names and their few values "
        "(B4_outline.png beside B4.png, B6_outline.png beside B6.png); if they are, say which files are masks with "
        "--masks, e.g. --masks '*_outline.png', or put them into a folder called masks."
    )
    assert told in capsys.readouterr().out
    (finding,) = [one for one in ucseg.check(tmp_path / "set") if "look like masks" in one.finding]
    assert (finding.file, finding.severity) == ("B4_outline.png", "warning")
    assert "B6_outline.png beside B6.png" in finding.finding
    assert "--masks '*_outline.png'" in finding.fix
    named = find_cases(data, masks_glob="*_outline.png").cases
    assert {case.image.name for case in named if case.mask is not None} == {"B4.png", "B6.png"}


def test_globs_say_which_is_which(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a", "b"):
        picture(data / "all" / f"T1_{name}.png")
        picture(data / "all" / f"T2_{name}.png")
        save(data / "all" / f"{name}_lesion.png", blob())
    dataset = ucseg.init(data, out=tmp_path / "set", images="all/T1_*.png", masks="*_lesion.png")
    assert pairs(dataset) == {name: (f"all/T1_{name}.png", f"all/{name}_lesion.png") for name in ("a", "b")}
    with pytest.raises(UserError, match=r"--masks '\*\.tif' matches no file"):
        ucseg.init(data, out=tmp_path / "other", masks="*.tif")


def test_globs_whose_stars_stand_for_other_parts_of_names_pair_by_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for number in range(10, 26):
        picture(data / f"{number}_HC.png")
        save(data / f"{number}_HC_Annotation.png", blob(where=number % 5))
    dataset = ucseg.init(data, out=tmp_path / "set", images="1*HC.png", masks="1*_Annotation.png")
    expected = {f"{n}_HC": (f"{n}_HC.png", f"{n}_HC_Annotation.png") for n in range(10, 20)}
    assert pairs(dataset) == expected
    printed = [line for line in capsys.readouterr().out.splitlines() if "does not match --images or --masks" in line]
    assert len(printed) == 5 and printed[-1].strip().startswith("and 8 more: ")


def test_everything_left_out_is_listed_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for i in range(6):
        picture(data / "images" / f"{i}.png")
        save(data / "masks" / f"{i}.png", blob(where=i))
    save(data / "masks" / "lonely.png", blob())
    (data / "images" / "._0.png").write_bytes(b"x")
    (data / "images" / "notes.docx").write_bytes(b"x")
    picture(data / "images" / "colour.png", channels=3)
    (data / "images" / "broken.png").write_bytes(b"\x89PNG")
    save(data / "masks" / "5.png", np.stack([blob(255), blob(0), blob(0)], -1))
    save(data / "masks" / "4.png", np.zeros((10, 48), np.uint8) + blob()[:10] + 1)
    (data / "dataset.json").write_text("{}")
    dataset = ucseg.init(data, out=tmp_path / "set")
    printed = capsys.readouterr().out
    expected = {
        "masks/lonely.png": "a mask without an image",
        "images/._0.png": "companion file of macOS",
        "images/notes.docx": "files ending in '.docx' are not read",
        "images/colour.png": "2D with 3 channel(s), the dataset 2D with 1, as 6 of 7 images;",
        "images/broken.png": "damaged at its start; copy it again",
        "masks/5.png": "a picture in colours",
        "masks/4.png": "aspect ratios differ",
    }
    for file, reason in expected.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"  {file}: ")]
        assert reason in line
    assert f"left out ({len(expected)})" in printed
    assert {case.case for case in dataset.unlabelled} == {"4", "5"}, "their images still train, unlabelled"


def test_classes_are_found_named_and_checked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(4):
        volume(data / "images" / f"{i}.nii.gz")
        volume(data / "labels" / f"{i}.nii.gz", label((0, 1, 3)).astype(np.float64))

    def init(classes: str | None = None) -> dict[int, str]:
        return ucseg.init(data, out=tmp_path / "set", classes=classes, overwrite=True).config.classes

    assert init() == {0: "background", 1: "class_1", 2: "unused_2", 3: "class_3"}
    assert init("air,liver,vein,tumour") == {0: "background", 1: "air", 2: "liver", 3: "vein", 4: "tumour"}
    assert init("background,liver,vein,tumour") == {0: "background", 1: "liver", 2: "vein", 3: "tumour"}
    assert init("1=liver,3=tumour") == {0: "background", 1: "liver", 2: "unused_2", 3: "tumour"}
    with pytest.raises(UserError, match="No mask fits the classes 0 background, 1 liver"):
        init("background,liver")
    with pytest.raises(UserError, match="is not of the form"):
        init("1=liver,tumour")
    (data / "dataset.json").write_text(
        json.dumps({"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "vein", "3": "cyst"}})
    )
    named = ucseg.init(data, out=tmp_path / "named").config
    assert named.classes == {0: "background", 1: "liver", 2: "vein", 3: "cyst"}
    assert named.modality == "ct"


def test_one_odd_mask_does_not_decide_the_classes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(30):
        volume(data / "images" / f"{i}.nii.gz")
        volume(data / "labels" / f"{i}.nii.gz", label((0, 1, 2, 77) if i == 7 else (0, 1, 2)))
    dataset = ucseg.init(data, out=tmp_path / "set")
    assert list(dataset.config.classes) == [0, 1, 2]
    assert [case.case for case in dataset.cases if case.mask is None] == ["7"]


@pytest.mark.parametrize("lossy", [False, True])
def test_binary_pictures_are_cut_in_the_middle(tmp_path: Path, lossy: bool) -> None:
    ending = "jpg" if lossy else "png"
    for i in range(4):
        picture(tmp_path / "data" / "images" / f"{i}.png", channels=3)
        save(tmp_path / "data" / "masks" / f"{i}.{ending}", blob(255, i), **({"quality": 75} if lossy else {}))
    config = ucseg.init(tmp_path / "data", out=tmp_path / "set").config
    assert config.mask_threshold == 127
    assert config.classes == {0: "background", 1: "foreground"}
    assert (config.modality, config.channels, config.fill_outlines) == ("rgb", 3, False)
    named = ucseg.init(tmp_path / "data", out=tmp_path / "b", classes="polyp", mask_threshold=60).config
    assert (named.classes[1], named.mask_threshold) == ("polyp", 60)
    for threshold, said in ((math.nan, "nan is no grey level"), (math.inf, "inf is no"), (255, "255, only up to 255")):
        with pytest.raises(UserError, match=f"threshold {said}"):
            ucseg.init(tmp_path / "data", out=tmp_path / "c", mask_threshold=threshold)


def test_masks_of_two_kinds_are_told_apart_and_the_threshold_told_works(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "data" / "images" / f"{i}.png")
        save(tmp_path / "data" / "masks" / f"{i}.png", blob(1 if i == 3 else 255, i))
    said = r"0 in 4, e\.g\. 0\.png; 1 in 1, e\.g\. 3\.png; 255 in 3, e\.g\. 0\.png.*give --mask-threshold 0;"
    with pytest.raises(UserError, match=said):
        ucseg.init(tmp_path / "data", out=tmp_path / "set")
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set", mask_threshold=0, validation="0", test="0")
    assert len(dataset.labelled) == 4


def test_outlines_are_recognised_and_an_open_one_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        picture(tmp_path / "data" / f"{i:03}_HC.png")
        line = Image.new("L", (100, 80))
        ImageDraw.Draw(line).arc((15 + i, 10, 80, 70), 0, 300 if i == 2 else 360, 255, 2)
        line.save(tmp_path / "data" / f"{i:03}_HC_Annotation.png")
        Image.new("L", (100, 80), i).save(tmp_path / "data" / f"{i:03}_HC.png")
    config = ucseg.init(tmp_path / "data", out=tmp_path / "set").config
    assert config.fill_outlines
    printed = capsys.readouterr().out
    assert "their inside is filled" in printed
    assert "002_HC_Annotation.png: the outline around" in printed
    lines = ucseg.init(tmp_path / "data", out=tmp_path / "lines", fill_outlines=False)
    assert not lines.config.fill_outlines
    assert all(case.mask is not None for case in lines.cases)


def test_modality_is_guessed_from_what_is_there(tmp_path: Path) -> None:
    for kind, low in (("mri", 100.0), ("ct", -1000.0)):
        for i in range(3):
            volume(tmp_path / kind / "images" / f"{i}.nii.gz", low=low)
            volume(tmp_path / kind / "labels" / f"{i}.nii.gz", label())
        assert ucseg.init(tmp_path / kind, out=tmp_path / f"{kind}_set").config.modality == kind
    stated = ucseg.init(tmp_path / "ct", out=tmp_path / "x", modality="other")
    assert stated.config.modality == "other"
    with pytest.raises(UserError, match="--modality 'xray' is not one of mri, ct"):
        ucseg.init(tmp_path / "ct", out=tmp_path / "y", modality="xray")


@pytest.mark.parametrize(
    ("names", "subjects"),
    [
        (["010_HC", "010_2HC", "011_HC", "012_HC", "013_HC", "014_HC"], ["010", "010", "011", "012", "013", "014"]),
        (["sub-01_T1", "sub-01_T2", "sub-02_T1"], ["sub-01", "sub-01", "sub-02"]),
        (["patient001_frame01", "patient001_frame12", "patient2_frame1"], ["patient001", "patient001", "patient2"]),
        (["lea_slice_1", "lea_slice_2", "tom_slice_1"], ["lea", "lea", "tom"]),
        (["2018_01", "2018_02", "2018_03"], ["2018_01", "2018_02", "2018_03"]),
        (["hippocampus_001", "hippocampus_003"], ["hippocampus_001", "hippocampus_003"]),
    ],
)
def test_subjects_by_name(tmp_path: Path, names: list[str], subjects: list[str]) -> None:
    for name in names:
        picture(tmp_path / "data" / "images" / f"{name}.png")
        save(tmp_path / "data" / "masks" / f"{name}.png", blob())
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set", validation="0", test="0")
    assert {case.case: case.subject for case in dataset.cases} == dict(zip(names, subjects, strict=True))


def test_a_subject_pattern_of_the_user(tmp_path: Path) -> None:
    for name in ("x7/a", "x7/b", "x8/c"):
        picture(tmp_path / "data" / f"{name}.png")
        save(tmp_path / "data" / f"{name}_mask.png", blob())
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set", subject=r"x(\d)/", validation="0", test="0")
    assert [case.subject for case in dataset.cases] == ["7", "7", "8"]
    with pytest.raises(UserError, match=r"finds no subject in x8/c\.png"):
        ucseg.init(tmp_path / "data", out=tmp_path / "b", subject="x(7)/")
    with pytest.raises(UserError, match="not a regular expression"):
        ucseg.init(tmp_path / "data", out=tmp_path / "b", subject="(")


def test_own_folders_are_splits_and_names_stay_apart(tmp_path: Path) -> None:
    for split in ("train", "val", "TestDataset/clinic"):
        for i in range(3):
            picture(tmp_path / "data" / split / "images" / f"{i}.png")
            save(tmp_path / "data" / split / "masks" / f"{i}.png", blob())
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set")
    assert [(case.case, case.split) for case in dataset.cases if case.case.endswith("_0")] == [
        ("TestDataset_clinic_0", "test"),
        ("train_0", "train"),
        ("val_0", "validation"),
    ]
    assert all(case.mask is not None and case.mask.parent.parent == case.image.parent.parent for case in dataset.cases)


def test_hidden_masks_are_kept_from_training(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / "data" / "images" / f"{i}.png")
        save(tmp_path / "data" / "masks" / f"{i}.png", blob(where=i))
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
    with pytest.raises(UserError, match="there already is a dataset"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    again = ucseg.init(tmp_path, out=tmp_path / "set", overwrite=True)
    assert len(again.cases) == 3, "the dataset's own folder inside the data is no data"


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
    with pytest.raises(UserError, match=r"set: this is a dataset that ucseg made, .* scans are in .*/data/us, so"):
        ucseg.init(inside, out=tmp_path / "a")
    capsys.readouterr()
    assert len(ucseg.init(tmp_path / "data", out=tmp_path / "a").cases) == 6
    told = capsys.readouterr().out
    for place in ("set", "us/set"):
        assert f"  {place}: a dataset that ucseg made, whose scans lie elsewhere" in told
    assert "left out (2)" in told


def test_scans_that_share_the_folder_of_their_dataset_are_read_again_without_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        picture(tmp_path / f"{i}.png")
        save(tmp_path / f"{i}_mask.png", blob())
    first = ucseg.init(tmp_path, out=tmp_path, labelled="2")
    ucseg.prepare(tmp_path)
    again = ucseg.init(tmp_path, out=tmp_path, labelled="2", overwrite=True)
    assert pairs(again) == pairs(first)
    assert "left out" not in capsys.readouterr().out


def test_what_was_left_out_is_told_even_when_no_dataset_can_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume(tmp_path / "images" / "a.nii.gz")
    volume(tmp_path / "images" / "b.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    volume(tmp_path / "labels" / "b.nii.gz", label())
    with pytest.raises(UserError, match="None of the 1 cases has a mask"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    printed = capsys.readouterr().out
    assert "images/b.nii.gz: the file is 4D" in printed
    assert "labels/b.nii.gz: its image b.nii.gz is left out" in printed


def test_check_repeats_what_was_left_out_until_it_is_mended(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", blob(where=i))
    (tmp_path / "images" / "5.png").write_bytes(b"no image")
    save(tmp_path / "masks" / "4.png", blob()[:, :30])
    for i in (7, 8):
        save(tmp_path / "masks" / f"{i}.png", blob())
    (tmp_path / "images" / "README.md").write_text("nothing to mend")
    dataset = ucseg.init(tmp_path, out=tmp_path / "set", validation="1", test="0")
    assert len(dataset.cases) == 5

    def told() -> dict[str, str]:
        findings = ucseg.check(tmp_path / "set")
        return {one.file: one.finding for one in findings if "left out by ucseg init" in one.finding}

    found = told()
    assert list(found) == ["images/5.png", "masks/4.png", "masks/7.png"], "of 5 the image is what there is to mend"
    assert "aspect ratios differ" in found["masks/4.png"]
    assert "with 1 more for the same reason (masks/8.png): a mask without an image" in found["masks/7.png"]

    table = tmp_path / "set" / "cases.csv"
    table.write_text(table.read_text() + "seven,7,images/0.png,masks/7.png,train\n")
    assert list(told()) == ["images/5.png", "masks/4.png", "masks/8.png"], "a case uses 7 now"
    for name in ("images/5.png", "masks/4.png", "masks/5.png", "masks/7.png", "masks/8.png"):
        (tmp_path / name).unlink()
    ucseg.init(tmp_path, out=tmp_path / "set", validation="1", test="0", overwrite=True)
    assert told() == {}
    assert not (tmp_path / "set" / "left_out.csv").exists()


def test_no_image_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image was found"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    with pytest.raises(UserError, match="there is no such folder"):
        ucseg.init(tmp_path / "gone", out=tmp_path / "set")
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", blob(0))
    with pytest.raises(UserError, match="All masks are empty"):
        ucseg.init(tmp_path, out=tmp_path / "set")
    assert not (tmp_path / "set").exists(), "nothing half-written"


def test_the_command_line_tells_errors_by_table_and_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(20):
        picture(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", blob(where=i))
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
    told = capsys.readouterr()
    assert "images/4.png" in told.out
    assert "there is no such file" in told.out
    assert "20 cases, 1 error, 0 warnings; fix the errors before training." in told.err
    with pytest.raises(UnsoundDatasetError) as error:
        ucseg.check(tmp_path / "set")
    assert [finding.file for finding in error.value.findings] == ["images/4.png"]
    for i in range(5, 9):
        (tmp_path / "images" / f"{i}.png").unlink()
    capsys.readouterr()
    for option, named in (("--no-every-file", 3), ("--every-file", 5)):
        with pytest.raises(SystemExit):
            main(["check", str(tmp_path / "set"), option])
        shown = capsys.readouterr()
        assert sum(f"images/{i}.png" in shown.out for i in range(4, 9)) == named
        assert ("and 2 more (--every-file)" in shown.out) == (named == 3)
        assert shown.out.count("there is no such file") == 1
        assert "5 errors" in shown.err


@pytest.mark.real
def test_hippocampus(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = ucseg.init(shared_data / "hippocampus", out=tmp_path, test="60", labelled="5%")
    assert (len(dataset.cases), len(reference_masks(dataset)), len(dataset.test)) == (261, 260, 60)
    assert "hippocampus_118" in {case.case for case in dataset.unlabelled} - set(reference_masks(dataset))
    printed = capsys.readouterr().out
    for number in ("010", "281"):
        assert f"labels/hippocampus_{number}.nii.gz: a mask without an image" in printed
    assert (dataset.config.dims, dataset.config.modality, list(dataset.config.classes)) == (3, "mri", [0, 1, 2])
    (finding,) = ucseg.check(tmp_path)
    assert finding.file == "labels/hippocampus_010.nii.gz"
    assert "with 1 more for the same reason (labels/hippocampus_281.nii.gz): a mask without an image" in finding.finding


@pytest.mark.real
def test_kvasir(shared_data: Path, tmp_path: Path) -> None:
    dataset = ucseg.init(shared_data / "kvasir", out=tmp_path)
    assert [len(part) for part in (dataset.labelled, dataset.validation, dataset.test)] == [800, 100, 100]
    assert (dataset.config.mask_threshold, dataset.config.modality) == (127, "rgb")
    assert all(case.image.name == case.mask.name for case in dataset.cases if case.mask is not None)
    findings = ucseg.check(tmp_path)
    leaks = [finding.finding for finding in findings if finding.kind == "near-duplicate-leak"]
    named = {case.image.below(shared_data / "kvasir"): case.case for case in dataset.cases}
    here, there = named["train/images/222.jpg"], named["test/images/16.jpg"]
    assert any(here in leak and there in leak for leak in leaks)
    assert len(leaks) == 5, "each is one polyp in two splits, to the eye"


@pytest.mark.real
def test_hc18(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = ucseg.init(shared_data / "hc18", out=tmp_path, modality="ultrasound")
    assert (len(dataset.cases), len(reference_masks(dataset))) == (248, 247)
    assert dataset.config.fill_outlines
    assert "186_HC_Annotation.png: the outline around" in capsys.readouterr().out
    split = {case.case: case.split for case in dataset.cases}
    assert split["010_HC"] == split["010_2HC"]
    assert len({case.subject for case in dataset.cases}) == 200


@pytest.mark.real
def test_isic(shared_data: Path, tmp_path: Path) -> None:
    # A part of the set, linked: all 800 large masks take half a minute.
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((shared_data / "isic" / name).iterdir())[:40]:
            (tmp_path / "data" / name / file.name).symlink_to(file)
    dataset = ucseg.init(tmp_path / "data", out=tmp_path / "set")
    assert (len(dataset.cases), len(reference_masks(dataset))) == (40, 40)
    assert (dataset.config.mask_threshold, dataset.config.modality) == (127, "rgb")
    assert [finding for finding in ucseg.check(tmp_path / "set") if finding.severity == "error"] == []


def test_an_impossible_amount_is_refused_before_any_scan_is_read(tmp_path):
    with pytest.raises(UserError, match="--test '150%' is not between 0 and 100%"):
        ucseg.init(tmp_path / "not-even-looked-for", out=tmp_path / "data", test="150%")
