"""Every data set by name is read from a small copy of each of its layouts, with its classes, splits and subjects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from trees import grow

import ucseg
from refusals import refused
from ucseg.catalogue import DATASETS
from ucseg.catalogue.folders import FOLDERS
from ucseg.cli.main import main
from ucseg.dataset.manifest import Dataset, load_dataset
from ucseg.folder.inputs import find_inputs
from ucseg.folder.like_training import Wanted
from ucseg.scans.reading import read_mask, read_scan

ISIC_2016, ISIC_2017, ISIC_2018 = "ISBI2016_ISIC_Part1", "ISIC-2017", "ISIC2018_Task1"
Counts = dict[str, int]
"""Of train, validation and test; what is not named is 0."""


def pairs(image: str, mask: str, names: Iterable[object]) -> list[str]:
    return [path.format(name) for name in names for path in (image, mask)]


def lesions(images: str, masks: str, numbers: Iterable[int], ending: str = "segmentation") -> list[str]:
    return pairs(f"{images}/ISIC_{{}}.jpg", f"{masks}/ISIC_{{}}_{ending}.png", numbers)


def of(dataset: Dataset) -> Counts:
    counts = {"train": len(dataset.training), "validation": len(dataset.validation), "test": len(dataset.test)}
    return {split: count for split, count in counts.items() if count}


PLAIN: list[tuple[str, list[str], Counts]] = [
    ("polyps",
     pairs("TrainDataset/image/{}.png", "TrainDataset/mask/{}.png", range(5))
     + pairs("TestDataset/Kvasir/images/{}.png", "TestDataset/Kvasir/masks/{}.png", range(2))
     + pairs("TestDataset/CVC-ClinicDB/images/{}.png", "TestDataset/CVC-ClinicDB/masks/{}.png", range(2))
     + pairs("TestDataset/CVC-300/images/{}.png", "TestDataset/CVC-300/masks/{}.png", range(3)),
     {"train": 4, "validation": 1, "test": 4}),
    ("kvasir-seg", pairs("Kvasir-SEG/images/{}.jpg", "Kvasir-SEG/masks/{}.jpg", "abcdefgh"),
     {"train": 5, "validation": 1, "test": 2}),
    ("kvasir-seg",
     [file for split in ("train", "validation", "test")
      for file in pairs(f"{split}/images/{{}}.jpg", f"{split}/masks/{{}}.jpg", [f"{split}{n}" for n in range(3)])],
     {"train": 3, "validation": 3, "test": 3}),
    ("cvc-clinicdb", pairs("PNG/Original/{}.png", "PNG/Ground Truth/{}.png", [1, 26, 51, 68, 79, 104, 127]),
     {"train": 5, "validation": 1, "test": 1}),
    ("cvc-300", pairs("TestDataset/CVC-300/images/{}.png", "TestDataset/CVC-300/masks/{}.png", range(3)), {"test": 3}),
    ("cvc-colondb", pairs("images/{}.png", "masks/{}.png", range(3)), {"test": 3}),
    ("etis",
     pairs("TestDataset/ETIS-LaribPolypDB/images/{}.png", "TestDataset/ETIS-LaribPolypDB/masks/{}.png", range(3)),
     {"test": 3}),
    ("isic-2016",
     lesions(f"{ISIC_2016}_Training_Data", f"{ISIC_2016}_Training_GroundTruth", range(6), "Segmentation")
     + lesions(f"{ISIC_2016}_Test_Data", f"{ISIC_2016}_Test_GroundTruth", [7, 8], "Segmentation"),
     {"train": 5, "validation": 1, "test": 2}),
    ("isic-2017",
     [*lesions(f"{ISIC_2017}_Training_Data", f"{ISIC_2017}_Training_Part1_GroundTruth", range(3)),
      f"{ISIC_2017}_Training_Data/ISIC_0_superpixels.png",
      *lesions(f"{ISIC_2017}_Validation_Data", f"{ISIC_2017}_Validation_Part1_GroundTruth", [4]),
      *lesions(f"{ISIC_2017}_Test_v2_Data", f"{ISIC_2017}_Test_v2_Part1_GroundTruth", [5])],
     {"train": 3, "validation": 1, "test": 1}),
    ("isic-2018",
     lesions(f"{ISIC_2018}-2_Training_Input", f"{ISIC_2018}_Training_GroundTruth", range(3))
     + lesions(f"{ISIC_2018}-2_Validation_Input", f"{ISIC_2018}_Validation_GroundTruth", [4])
     + lesions(f"{ISIC_2018}-2_Test_Input", f"{ISIC_2018}_Test_GroundTruth", [5]),
     {"train": 3, "validation": 1, "test": 1}),
    ("tn3k",
     pairs("tn3k/trainval-image/{:04d}.jpg", "tn3k/trainval-mask/{:04d}.jpg", range(6))
     + pairs("tn3k/test-image/{:04d}.jpg", "tn3k/test-mask/{:04d}.jpg", range(2)),
     {"train": 5, "validation": 1, "test": 2}),
    ("ddti", pairs("DDTI/2_preprocessed_data/stage1/p_image/{}.PNG", "DDTI/2_preprocessed_data/stage1/p_mask/{}.PNG",
                   range(1, 8)), {"train": 5, "validation": 1, "test": 1}),
    ("ddti", pairs("DDTI/1_or_data/image/{}.PNG", "DDTI/1_or_data/mask/{}.PNG", range(1, 8)),
     {"train": 5, "validation": 1, "test": 1}),
    ("promise12",
     pairs("TrainingData_Part1/Case0{}.mhd", "TrainingData_Part1/Case0{}_segmentation.mhd", range(4))
     + pairs("TrainingData_Part2/Case0{}.mhd", "TrainingData_Part2/Case0{}_segmentation.mhd", range(4, 8))
     + ["TestData/Case00.mhd", "TestData/Case01.mhd"],
     {"train": 5, "validation": 1, "test": 2}),
    ("promise12", pairs("Case0{}.mhd", "Case0{}_segmentation.mhd", range(8)),
     {"train": 5, "validation": 1, "test": 2}),
    ("brats19",
     pairs("HGG/BraTS19_{0}_1/BraTS19_{0}_1_flair.nii.gz", "HGG/BraTS19_{0}_1/BraTS19_{0}_1_seg.nii.gz", range(8)),
     {"train": 5, "validation": 1, "test": 2}),
    ("nnunet",
     [*pairs("Dataset004/imagesTr/h_{}_0000.nii.gz", "Dataset004/labelsTr/h_{}.nii.gz", range(8)),
      "Dataset004/imagesTs/h_9_0000.nii.gz"],
     {"train": 5, "validation": 1, "test": 3}),
    ("bids",
     [f"sub-{n}/anat/sub-{n}_{kind}.nii.gz" for n in range(8) for kind in ("T1w", "T2w")]
     + [f"derivatives/labels/sub-{n}/anat/sub-{n}_T2w_label-lesion_mask.nii.gz" for n in range(7)],
     {"train": 6, "validation": 1, "test": 1}),
    ("bids",
     [f"sub-{n}/ses-{s}/anat/sub-{n}_ses-{s}_FLAIR.nii.gz" for n in range(4) for s in "ab"]
     + [f"derivatives/seg/sub-{n}/ses-{s}/anat/sub-{n}_ses-{s}_dseg.nii.gz" for n in range(4) for s in "ab"],
     {"train": 4, "validation": 2, "test": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "counts"), PLAIN, ids=[f"{name}-{len(files)}" for name, files, _ in PLAIN])
def test_layouts_of_files(tmp_path: Path, name: str, files: list[str], counts: Counts) -> None:
    folder = grow(tmp_path / "data", files)
    if name == "nnunet":
        (folder / "Dataset004" / "dataset.json").write_text(
            '{"channel_names": {"0": "T1"}, "labels": {"background": 0, "head": 1}}'
        )
        folder = folder / "Dataset004"
    dataset = ucseg.import_(name, folder, out=tmp_path / "dataset")
    assert of(dataset) == counts
    assert all(case.mask is not None for case in dataset.cases if case.split == "validation")
    public = DATASETS[name]
    if public.classes:
        assert dataset.config.classes[1] == public.classes.split(",")[0].partition("=")[2]
    assert load_dataset(tmp_path / "dataset").cases == dataset.cases
    if counts.get("train"):
        assert not [line for line in ucseg.check(tmp_path / "dataset") if line.severity == "error"]


def test_a_relative_folder_with_images_of_a_kind_without_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = next(files for name, files, _ in PLAIN if name == "bids")
    grow(tmp_path / "data", files)
    monkeypatch.chdir(tmp_path)
    assert len(ucseg.import_("bids", "data", out="dataset").cases) == 8
    assert "  sub-0/anat/sub-0_T1w.nii.gz: " in capsys.readouterr().out


def test_lesions_of_one_image_are_one_mask(tmp_path: Path) -> None:
    names = [f"benign ({n})" for n in range(1, 8)] + ["normal (1)"]
    kinds = [f"data/Dataset_BUSI_with_GT/{name.split()[0]}/{name}" for name in names]
    folder = grow(tmp_path, [f"{kind}{ending}.png" for kind in kinds for ending in ("", "_mask")]) / "data"
    second = grow(tmp_path, [f"{kinds[0]}_mask_1.png"]) / f"{kinds[0]}_mask_1.png"
    Image.fromarray(np.asarray(Image.open(second))[::-1]).save(second)
    dataset = ucseg.import_("busi", folder, out=tmp_path / "dataset", validation="0", test="0")
    case = next(case for case in dataset.cases if case.case == "benign (1)")
    assert case.mask is not None
    one = read_mask(folder / "Dataset_BUSI_with_GT/benign/benign (1)_mask.png").array
    np.testing.assert_array_equal(read_mask(case.mask).array, np.maximum(one, one[:, ::-1]))
    assert len(dataset.labelled) == 8
    assert not [line for line in ucseg.check(tmp_path / "dataset") if line.severity == "error"]


def test_outlines_and_exams(tmp_path: Path) -> None:
    for name in ("000_HC", "001_HC", "001_2HC", "002_HC", "003_HC"):
        grow(tmp_path / "data", [f"training_set/{name}.png"])
        outline = Image.new("L", (20, 24))
        ImageDraw.Draw(outline).ellipse((3, 4, 15, 18), outline=255)
        outline.save(tmp_path / "data" / "training_set" / f"{name}_Annotation.png")
    dataset = ucseg.import_("hc18", tmp_path / "data", out=tmp_path / "dataset")
    assert {case.subject for case in dataset.cases} == {"000", "001", "002", "003"}
    assert dataset.config.fill_outlines


def test_patients_of_slices(tmp_path: Path) -> None:
    patients = [f"TCGA_CS_494{n}_20000101" for n in range(5)]
    files = [f"kaggle_3m/{p}/{p}_{n}{end}.tif" for p in patients for n in (1, 2) for end in ("", "_mask")]
    dataset = ucseg.import_("lgg-mri", grow(tmp_path / "data", files), out=tmp_path / "dataset")
    assert {case.subject for case in dataset.cases} == set(patients)
    assert of(dataset) == {"train": 6, "validation": 2, "test": 2}


@pytest.mark.parametrize("name", ["halves", "isic-2018", "polyps", "tn3k", "lgg-mri"])
def test_halves_that_papers_share(tmp_path: Path, name: str) -> None:
    files = (
        pairs("labeled/image/{}.png", "labeled/mask/{}.png", range(3))
        + [f"unlabeled/image/{n}.png" for n in range(4)]
        + pairs("val/image/{}.png", "val/mask/{}.png", range(2))
        + pairs("TestDataset/A/image/{}.png", "TestDataset/A/mask/{}.png", range(2))
        + pairs("TestDataset/B/image/{}.png", "TestDataset/B/mask/{}.png", range(2))
    )
    dataset = ucseg.import_(name, grow(tmp_path / "data", files), out=tmp_path / "dataset")
    assert (len(dataset.labelled), len(dataset.unlabelled)) == (3, 4)
    assert of(dataset) == {"train": 7, "validation": 2, "test": 4}
    assert {case.case for case in dataset.test} == {"A_0", "A_1", "B_0", "B_1"}


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("msd-")])
def test_tasks_of_the_decathlon(tmp_path: Path, name: str) -> None:
    public = DATASETS[name]
    prefix = public.layouts[0].words.split("/")[1].split("_")[0]
    classes = len(public.classes.split(",")) + 1
    channels = {"msd-brain-tumour": 4, "msd-prostate": 2}.get(name, 1)
    files = pairs("Task/imagesTr/{}.nii.gz", "Task/labelsTr/{}.nii.gz", [f"{prefix}_00{n}" for n in range(5)])
    files += [f"Task/imagesTs/{prefix}_010.nii.gz", f"Task/imagesTr/._{prefix}_000.nii.gz"]
    folder = grow(tmp_path / "data", files[:-1], tuple(range(classes)), channels)
    (folder / files[-1]).write_bytes(b"not a scan")
    dataset = ucseg.import_(name, folder, out=tmp_path / "dataset")
    assert of(dataset) == {"train": 3, "validation": 1, "test": 1}
    assert (dataset.config.channels, len(dataset.config.classes)) == (channels, classes)
    assert read_scan(dataset.cases[0].image).array.shape == (channels, 12, 10, 5)


def test_names_of_no_data_set_are_corrected(tmp_path: Path) -> None:
    with refused("dataset-unknown", naming=["pancreas_ct", "'pancreas-ct'"]):
        ucseg.import_("pancreas_ct", tmp_path, out=tmp_path / "dataset")
    with refused("dataset-unknown", naming=["qqq", "ucseg datasets"]):
        ucseg.import_("qqq", tmp_path, out=tmp_path / "dataset")


def test_a_folder_of_another_data_set(tmp_path: Path) -> None:
    folder = grow(tmp_path / "data", pairs("{}_HC.png", "{}_HC_Annotation.png", range(3)))
    named = ["NAME/mri_norm2.h5", "*.png (6)", f"ucseg import hc18 {folder}"]
    with refused("layout-unknown", naming=named):
        ucseg.import_("la", folder, out=tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()
    with refused("layout-unknown", naming="ucseg init"):
        ucseg.import_("la", grow(tmp_path / "other", ["a.png"]), out=tmp_path / "dataset")


def test_linked_folders_are_read_and_datasets_in_the_folder_are_not(tmp_path: Path) -> None:
    files = pairs("images/{}.png", "masks/{}.png", range(3))
    grow(tmp_path / "store", files)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store")
    ucseg.import_("etis", tmp_path / "data", out=tmp_path / "data" / "first")
    grow(tmp_path / "data" / "first", files)
    assert len(ucseg.import_("etis", tmp_path / "data", out=tmp_path / "second").cases) == 3


def test_one_case_in_two_places_is_refused(tmp_path: Path) -> None:
    files = pairs("a/Case0{}.mhd", "a/Case0{}_segmentation.mhd", [1, 2])
    files += pairs("b/Case0{}.mhd", "b/Case0{}_segmentation.mhd", [1])
    with refused("case-copied", naming=["a/Case01.mhd", "b/Case01.mhd"]):
        ucseg.import_("promise12", grow(tmp_path / "data", files), out=tmp_path / "dataset")


def test_several_masks_of_a_bids_image_are_for_the_user_to_choose(tmp_path: Path) -> None:
    files = ["sub-1/anat/sub-1_T1w.nii.gz"]
    files += [f"derivatives/x/sub-1/anat/sub-1_T1w_{kind}.nii.gz" for kind in ("brain_mask", "lesion_seg")]
    with refused("bids-several-masks", naming=["sub-1_T1w.nii.gz", "brain_mask, lesion_seg", "ucseg init"]):
        ucseg.import_("bids", grow(tmp_path / "data", files), out=tmp_path / "dataset")


def test_frames_of_one_sequence_stay_together(tmp_path: Path) -> None:
    frames = {1: "01", 25: "01", 26: "02", 199: "09", 200: "10", 205: "10", 592: "29", 612: "29"}
    files = pairs("Original/{}.tif", "Ground Truth/{}.tif", [*frames, 613])
    dataset = ucseg.import_("cvc-clinicdb", grow(tmp_path / "data", files), out=tmp_path / "dataset")
    subjects = {case.case: case.subject for case in dataset.cases}
    assert subjects == {str(frame): f"sequence{number}" for frame, number in frames.items()} | {"613": "613"}
    splits: dict[str, set[str]] = {}
    for case in dataset.cases:
        splits.setdefault(case.subject, set()).add(case.split)
    assert all(len(where) == 1 for where in splits.values())


def test_an_incomplete_copy_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = grow(tmp_path / "data", pairs("Case0{}.mhd", "Case0{}_segmentation.mhd", range(4)))
    ucseg.import_("promise12", folder, out=tmp_path / "dataset")
    printed = capsys.readouterr().out
    assert "4 cases here, 50" in printed


def test_every_statement_on_a_public_set_says_where_it_was_found() -> None:
    for name, public in DATASETS.items():
        if name not in FOLDERS:
            assert public.addresses, name
            if public.licence:
                assert any("licence" in source or "registration" in source for source in public.found), name
            assert public.found, name


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = grow(tmp_path / "data", pairs("images/{}.png", "masks/{}.png", range(3)))
    for words in (["datasets"], ["datasets", "acdc"], ["import", "etis", str(folder), "--out", str(tmp_path / "d")]):
        with pytest.raises(SystemExit) as leaving:
            main(words)
        assert not leaving.value.code
    said = capsys.readouterr().out
    assert all(name in said for name in DATASETS)
    assert "Bernard et al." in said
    assert "Silva et al." in said


def test_channels_of_a_fourth_axis_are_predicted_from_a_folder(tmp_path: Path) -> None:
    folder = grow(tmp_path / "data", ["prostate_01.nii.gz", "prostate_02.nii.gz"], channels=2)
    found = find_inputs([folder, folder / "prostate_01.nii.gz"], tmp_path / "out", wanted=Wanted(channels=2))
    assert not found.problems
    assert [(item.case, read_scan(item.address).array.shape[0]) for item in found.scans] == [
        ("prostate_01", 2),
        ("prostate_02", 2),
    ]


def test_slices_of_acdc_without_lists(tmp_path: Path) -> None:
    data = tmp_path / "ACDC_preprocessed"
    slices = [f"ACDC_training_slices/patient00{n}_frame01_slice_{k}.h5" for n in range(1, 7) for k in range(2)]
    volumes = [f"ACDC_testing_volumes/patient10{n}_frame01.h5" for n in (1, 2)]
    others = [f"ACDC_training_volumes/patient00{n}_frame01.h5" for n in range(1, 7)]
    grow(data, [*slices, *volumes, *others], (0, 1, 2, 3))
    dataset = ucseg.import_("acdc", data, out=tmp_path / "dataset")
    assert of(dataset) == {"train": 10, "validation": 2, "test": 2}
    assert {case.subject for case in dataset.test} == {"patient101", "patient102"}


def test_no_other_set_is_suggested_because_of_names_alone(tmp_path: Path) -> None:
    data = grow(tmp_path / "data", [f"some/patient00{n}_frame01_slice_1.h5" for n in range(4)], (0, 1))
    with refused("layout-unknown", naming="No other data set fits"):
        ucseg.import_("acdc", data, out=tmp_path / "dataset")


def test_import_takes_the_options_that_its_notes_name(tmp_path: Path) -> None:
    names = [f"benign ({n})" for n in range(1, 7)]
    data = grow(tmp_path / "busi", [f"benign/{name}{ending}.png" for name in names for ending in ("", "_mask")])
    dataset = ucseg.import_(
        "busi", data, out=tmp_path / "d", subject=r"benign \((\d)", classes="1=mass", modality="other"
    )
    assert {case.subject for case in dataset.cases} == set("123456")
    assert (dataset.config.modality, dataset.config.classes[1]) == ("other", "mass")
    with refused("modality-unknown"):
        ucseg.import_("busi", data, out=tmp_path / "e", modality="us")
    with refused("subject-not-found"):
        ucseg.import_("busi", data, out=tmp_path / "e", subject="patient")
