"""Which file is compared with which, and when two grids are the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.evaluation.common_grid import grid_difference
from ucseg.evaluation.matching import match
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.scan import Geometry


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def named(predictions: Path, references: Path, subject: str | None = None) -> dict[str, str]:
    found = match(predictions, references, subject=subject)
    return {pair.prediction.name: pair.reference.mask.name for pair in found.pairs}


@pytest.mark.parametrize(
    "reference",
    [
        "a.nii.gz",
        "a_mask.nii.gz",
        "a_seg.nrrd",
        "a_segmentation.nii",
        "a_Annotation.mha",
        "deep/er/a_SEG.nii",
        "a roi.nii",
        "a-lbl.nii",
    ],
)
def test_a_prediction_finds_its_reference_under_every_usual_name(tmp_path: Path, reference: str) -> None:
    predictions = touch(
        tmp_path / "p", "a.nii.gz", "uncertainty/a.nii.gz", "members/u_net/a.nii.gz", "cases.csv", "._a.nii"
    )
    references = touch(tmp_path / "r", reference, "ab.nii.gz")
    assert named(predictions, references) == {"a.nii.gz": Path(reference).name}


def test_accents_in_their_letters_or_apart_are_one_name(tmp_path: Path) -> None:
    apart, together = (unicodedata.normalize(form, "F\u00e4ll.png") for form in ("NFD", "NFC"))
    assert named(touch(tmp_path / "p", together), touch(tmp_path / "r", apart)) == {together: apart}
    assert named(touch(tmp_path / "q", apart), touch(tmp_path / "s", together)) == {apart: together}


def test_an_image_named_as_nnunet_does_finds_its_mask(tmp_path: Path) -> None:
    predictions = touch(tmp_path / "p", "a_0000.nii.gz", "b_0000.nii.gz", "c_0000.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b_seg.nii.gz", "c_0000.nii.gz", "c.nii.gz")
    assert named(predictions, references) == {
        "a_0000.nii.gz": "a.nii.gz",
        "b_0000.nii.gz": "b_seg.nii.gz",
        "c_0000.nii.gz": "c_0000.nii.gz",
    }


def test_names_may_be_longer_on_either_side(tmp_path: Path) -> None:
    predictions = touch(tmp_path / "p", "a_seg.nii.gz", "b.nii.gz", "c_mask.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b_seg.nii.gz", "c_seg.nii.gz")
    assert named(predictions, references) == {
        "a_seg.nii.gz": "a.nii.gz",
        "b.nii.gz": "b_seg.nii.gz",
        "c_mask.nii.gz": "c_seg.nii.gz",
    }


def test_images_beside_their_masks_are_not_taken_for_references(tmp_path: Path) -> None:
    references = touch(tmp_path / "r", "a.png", "a_Annotation.png", "b.png", "b_Annotation.png")
    assert named(touch(tmp_path / "p", "a.png", "b.png"), references) == {
        "a.png": "a_Annotation.png",
        "b.png": "b_Annotation.png",
    }


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    predictions = touch(tmp_path / "p", "a.nii.gz", "a_seg.nii.gz", "stray.nii.gz", "d.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz", "d_seg.nii.gz", "d_mask.nii.gz")
    found = match(predictions, references)
    assert [pair.prediction.name for pair in found.pairs] == ["a.nii.gz"]
    assert [reference.case for reference in found.missing] == ["b", "d_mask", "d_seg"]
    reasons = {file.name: reason for file, reason in found.unmatched.items()}
    assert sorted(reasons) == ["a_seg.nii.gz", "d.nii.gz", "stray.nii.gz"]
    assert reasons["a_seg.nii.gz"].endswith(" a.nii.gz")
    assert reasons["d.nii.gz"].endswith(" 2 references: d_mask.nii.gz, d_seg.nii.gz")


def test_two_files_are_compared_whatever_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "mine.nii.gz", "theirs.nrrd")
    assert named(tmp_path / "mine.nii.gz", tmp_path / "theirs.nrrd") == {"mine.nii.gz": "theirs.nrrd"}


def test_subjects_of_a_folder_come_from_a_pattern(tmp_path: Path) -> None:
    names = ["010_HC.png", "010_2HC.png", "011_HC.png"]
    touch(tmp_path / "p", *names)
    touch(tmp_path / "r", *names)
    pairs = match(tmp_path / "p", tmp_path / "r", subject=r"^(\d+)_").pairs
    assert [pair.reference.subject for pair in pairs] == ["010", "010", "011"]
    assert len({pair.reference.subject for pair in match(tmp_path / "p", tmp_path / "r").pairs}) == 3


def test_a_folder_a_case(tmp_path: Path) -> None:
    """As KiTS and 3D Slicer have it: `ucseg predict` calls such scans by their folders."""
    cases = [f"case_0000{n}" for n in range(3)]
    touch(tmp_path / "r", *(f"data/{case}/{name}.nii.gz" for case in cases for name in ("imaging", "segmentation")))
    assert named(touch(tmp_path / "p", *(f"{case}_imaging.nii.gz" for case in cases)), tmp_path / "r") == {
        f"{case}_imaging.nii.gz": "segmentation.nii.gz" for case in cases
    }
    found = match(touch(tmp_path / "q", "case_00001.nii.gz", "case_9_imaging.nii.gz"), tmp_path / "r")
    assert [pair.reference.mask.parent.name for pair in found.pairs] == ["case_00001"]
    assert list(found.unmatched.values()) == ["has no reference"]
    touch(tmp_path / "r", "data/case_00000/second_mask.nii.gz")  # of two masks nobody knows which one
    with refused("references-same-name"):
        match(tmp_path / "p", tmp_path / "r")


def test_subjects_of_a_folder_are_found_as_init_finds_them(tmp_path: Path) -> None:
    cases = [f"{who}_slice_{n}" for who in ("lea", "tom") for n in (1, 2)]
    found = match(
        touch(tmp_path / "p", *(f"{case}.png" for case in cases)),
        touch(tmp_path / "r", *(f"{case}_mask.png" for case in cases)),
    )
    assert [pair.reference.subject for pair in found.pairs] == ["lea", "lea", "tom", "tom"]
    scans = match(
        touch(tmp_path / "q", "v1_1.png", "v1_2.png", "v2_1.png"),
        touch(tmp_path / "s", "v1_1_seg.png", "v1_2_seg.png", "v2_1_seg.png"),
    )
    assert scans.subjects is not None
    assert "--subject" in scans.subjects.notes[0]  # proposed, since the names alone are no proof
    pattern = scans.subjects.notes[0].split("--subject '")[1].split("'")[0]
    again = match(tmp_path / "q", tmp_path / "s", subject=pattern)
    assert [pair.reference.subject for pair in again.pairs] == ["v1", "v1", "v2"]


def test_a_pattern_is_searched_in_a_whole_name_before_the_path(tmp_path: Path) -> None:
    names = ["A/p0_1_seg.png", "B/p0_2_seg.png"]
    touch(tmp_path / "r", *names)
    pairs = match(touch(tmp_path / "p", "p0_1.png", "p0_2.png"), tmp_path / "r", subject=r"(.+)_\d+_seg").pairs
    assert [pair.reference.subject for pair in pairs] == ["p0", "p0"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = touch(tmp_path / "data", *(f"images/{name}_0000.nii.gz" for name in "abcdef"), "l/e.nii.gz", "l/a.nii.gz")
    image = {name: root / "images" / f"{name}_0000.nii.gz" for name in "abcdef"}
    mask = {name: root / "l" / f"{name}.nii.gz" for name in "abcdef"}
    cases = [
        Case("case_a", "anna", image["a"], mask["a"], "test"),
        Case("case_b", "bert", image["b"], mask["b"], "test"),
        Case("case_c", "bert", image["c"], None, "test"),
        Case("case_d", "dora", image["d"], None, "train"),
        Case("case_e", "emil", image["e"], mask["e"], "train"),
    ]
    config = DatasetConfig(
        name="toy", root=str(root), dims=3, modality="mri", channels=1, classes={0: "background", 1: "organ"}
    )
    save_dataset(Dataset(tmp_path / "dataset", config, cases), {"case_d": Address.of(mask["d"])})
    return tmp_path / "dataset"


def test_a_dataset_answers_for_its_whole_split(tmp_path: Path, dataset: Path) -> None:
    predictions = touch(tmp_path / "p", "case_a.nii.gz", "case_e.nii.gz")
    found = match(predictions, dataset)
    assert [(pair.prediction.name, pair.reference.subject) for pair in found.pairs] == [("case_a.nii.gz", "anna")]
    assert [reference.case for reference in found.missing] == ["case_b"]
    assert found.unreferenced == ["case_c"]
    assert list(found.unmatched.values()) == ["has no reference"]


def test_masks_hidden_from_training_are_references(tmp_path: Path, dataset: Path) -> None:
    found = match(touch(tmp_path / "p", "case_d.nii.gz", "e_0000.nii.gz"), dataset / "dataset.yaml", split="train")
    assert [(pair.reference.case, pair.reference.mask.name) for pair in found.pairs] == [
        ("case_d", "d.nii.gz"),
        ("case_e", "e.nii.gz"),
    ]


def test_mistakes_are_refused(tmp_path: Path, dataset: Path) -> None:
    predictions = touch(tmp_path / "p", "x.nii.gz")
    with refused("no-pairs", naming=[predictions, tmp_path / "r", "x.nii.gz", "y.nii.gz"]):
        match(predictions, touch(tmp_path / "r", "y.nii.gz"))
    with refused("no-pairs", naming=["case_e.nii.gz", "case case_e", "split is train", "--split"]):
        match(touch(tmp_path / "trained", "case_e.nii.gz"), dataset)
    with refused("no-pairs", naming=["case_c.nii.gz", "has no mask"]):
        match(touch(tmp_path / "bare", "case_c.nii.gz"), dataset)
    with refused("references-same-name", naming=[tmp_path / "r", "'y'"]):
        match(predictions, touch(tmp_path / "r", "images/y.nii.gz"))
    with refused("masks-missing", naming=tmp_path / "nowhere"):
        match(tmp_path / "nowhere", tmp_path / "r")
    with refused("no-masks", naming=[tmp_path / "empty", ".nii.gz"]):
        match(touch(tmp_path / "empty", "cases.csv"), tmp_path / "r")
    (tmp_path / "nothing").mkdir()
    with refused("no-masks", naming=[tmp_path / "nothing", "is empty"]) as caught:
        match(tmp_path / "nothing", tmp_path / "r")
    assert ".nii.gz" not in str(caught.value)
    with refused("split-unknown", naming=["--split tests", "validation"]):
        match(predictions, dataset, split="tests")
    with refused("split-no-mask", naming=[dataset, "'validation'"]):
        match(predictions, dataset, split="validation")
    with refused("subject-of-dataset", naming="--subject"):
        match(predictions, dataset, subject="x")


def test_grids_are_compared_with_a_tolerance() -> None:
    affine = np.diag([0.7, 0.7, 3.0, 1.0])
    affine[:3, 3] = [-90.0, 120.0, -500.0]
    shape, geometry = (256, 256, 100), Geometry(affine)
    rounded = Geometry(affine.astype(np.float32).astype(np.float64) * (1 + 1e-7))
    assert grid_difference(shape, rounded, shape, geometry) is None
    moved, turned, stretched = affine.copy(), affine.copy(), affine.copy()
    moved[0, 3] += 0.35
    turned[:, 0] *= -1
    stretched[2, 2] *= 1.01  # 1 % of 100 slices of 3 mm: 3 mm at the far end
    for wrong, distance in ((moved, "0.35 mm"), (turned, "357 mm"), (stretched, "2.97 mm")):
        assert f"{distance} away" in (grid_difference(shape, Geometry(wrong), shape, geometry) or "")
    assert "256 x 100 x 256" in (grid_difference((256, 100, 256), geometry, shape, geometry) or "")
    assert "px" in (grid_difference(shape, Geometry(affine, "px"), shape, geometry) or "")


def table(folder: Path, rows: dict[str, Path | tuple[Path, str]]) -> None:
    """cases.csv as `ucseg predict` writes it: mask -> scan, or scan and the digest of what it held."""
    lines = ["case,file,content,status,reason,mask"]
    for mask, made in rows.items():
        scan, content = made if isinstance(made, tuple) else (made, "")
        lines.append(f"{mask.partition('.')[0]},{scan},{content},ok,,{mask}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")


def test_the_table_says_of_which_scan_a_mask_with_a_made_up_name_is(tmp_path: Path) -> None:
    """Scans A and a, whose masks may not differ in case alone; a_2 is another case, which was not predicted."""
    predictions = touch(tmp_path / "p", "A.nii.gz", "a_2.nii.gz")
    references = touch(tmp_path / "r", "A.nii.gz", "a.nii.gz", "a_2.nii.gz")
    assert named(predictions, references) == {"A.nii.gz": "A.nii.gz", "a_2.nii.gz": "a_2.nii.gz"}
    table(predictions, {"A.nii.gz": tmp_path / "s/A.nii.gz", "a_2.nii.gz": tmp_path / "s/a.nii.gz"})
    assert named(predictions, references) == {"A.nii.gz": "A.nii.gz", "a_2.nii.gz": "a.nii.gz"}
    (references / "a.nii.gz").unlink()
    assert named(predictions, references) == {"A.nii.gz": "A.nii.gz"}, "a name that was made up is no name of a case"


def test_names_of_folders_before_a_scan_count_where_several_scans_have_its_name(tmp_path: Path) -> None:
    predictions = touch(tmp_path / "p", "one_scan.nii.gz", "two_scan.nii.gz")
    references = touch(tmp_path / "r", "one_scan.nii.gz", "two_scan.nii.gz")
    table(predictions, {f"{one}_scan.nii.gz": tmp_path / f"s/{one}/scan.nii.gz" for one in ("one", "two")})
    assert named(predictions, references) == {name: name for name in ("one_scan.nii.gz", "two_scan.nii.gz")}


@pytest.fixture
def scanned(tmp_path: Path) -> Path:
    """A dataset of two test cases, x and y, whose scans hold something."""
    for name in ("x", "y"):
        touch(tmp_path / "data", f"{name}.nii.gz", f"{name}_seg.nii.gz")
        (tmp_path / f"data/{name}.nii.gz").write_text(name)
    cases = [
        Case(name, name, tmp_path / f"data/{name}.nii.gz", tmp_path / f"data/{name}_seg.nii.gz", "test")
        for name in ("x", "y")
    ]
    config = DatasetConfig(
        name="d", root=str(tmp_path / "data"), dims=3, modality="mri", channels=1, classes={0: "background", 1: "a"}
    )
    save_dataset(Dataset(tmp_path / "dataset", config, cases))
    return tmp_path / "dataset"


def test_a_scan_is_known_by_what_it_holds_wherever_it_lies(scanned: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    x, y = (content_of(Address.of(data / f"{name}.nii.gz")) for name in ("x", "y"))
    predictions = touch(tmp_path / "p", "x.nii.gz", "y.nii.gz")
    table(predictions, {"x.nii.gz": (tmp_path / "away/y.nii.gz", y), "y.nii.gz": (tmp_path / "away/x.nii.gz", x)})
    found = match(predictions, scanned)
    assert {pair.prediction.name: pair.reference.case for pair in found.pairs} == {"x.nii.gz": "y", "y.nii.gz": "x"}
    assert not found.of_other_scans and not found.missing


def test_scans_of_the_dataset_without_a_reference_are_not_called_strangers(scanned: Path, tmp_path: Path) -> None:
    data = load_dataset(scanned)
    root = data.root
    for name, split in (("bare", "test"), ("young", "train"), ("edited", "test")):
        (root / f"{name}.nii.gz").write_text(name)
        data.cases.append(Case(name, name, root / f"{name}.nii.gz", None, split))
    save_dataset(data)
    (root / "away.nii.gz").write_text("away")
    names = ("x", "bare", "young", "edited", "away")
    predictions = touch(tmp_path / "p", *(f"{name}.nii.gz" for name in names))
    files = {f"{name}.nii.gz": root / f"{name}.nii.gz" for name in names}
    table(predictions, {name: (file, content_of(Address.of(file))) for name, file in files.items()})
    (root / "edited.nii.gz").write_text("another")
    found = match(predictions, scanned)
    assert [pair.reference.case for pair in found.pairs] == ["x"] and not found.of_other_scans
    why = {file.stem: reason for file, reason in found.unmatched.items()}
    assert why.keys() == {"bare", "young", "edited", "away"}
    assert "case bare" in why["bare"] and "no mask" in why["bare"]
    assert "case young" in why["young"] and "train" in why["young"]
    assert "case edited" in why["edited"] and "dataset" in why["away"]


def test_what_a_scan_holds_says_more_than_its_name(scanned: Path, tmp_path: Path) -> None:
    data = load_dataset(scanned)
    (data.root / "young.nii.gz").write_text("young")
    data.cases.append(Case("young", "young", data.root / "young.nii.gz", None, "train"))
    save_dataset(data)
    (tmp_path / "away.nii.gz").write_text("away")
    predictions = touch(tmp_path / "p", "young.nii.gz")
    table(predictions, {"young.nii.gz": (tmp_path / "away.nii.gz", content_of(Address.of(tmp_path / "away.nii.gz")))})
    with refused("no-pairs", naming=["young.nii.gz", "a scan that the dataset does not have"]):
        match(predictions, scanned)


def test_a_prediction_of_another_scan_of_this_name_is_not_compared(scanned: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = {name: content_of(Address.of(data / f"{name}.nii.gz")) for name in ("x", "y")}
    predictions = touch(tmp_path / "p", "x.nii.gz", "y.nii.gz")
    table(predictions, {f"{name}.nii.gz": (data / f"{name}.nii.gz", before[name]) for name in ("x", "y")})
    (data / "x.nii.gz").write_text("replaced")
    found = match(predictions, scanned)
    assert [pair.reference.case for pair in found.pairs] == ["y"] and not found.missing
    assert found.of_other_scans["x"].code == "prediction-of-other-scan"
    assert str(predictions / "x.nii.gz") in str(found.of_other_scans["x"])
    (data / "y.nii.gz").write_text("replaced too")
    with refused(*2 * ["prediction-of-other-scan"], naming=["case x", "case y", data / "x.nii.gz"]):
        match(predictions, scanned)
