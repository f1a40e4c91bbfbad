"""DICOM segmentations as references, and as predictions: laid on the grid of the other side, classes by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dicom_files import save, save_series, segmentation
from refusals import refused
from ucseg.evaluation.evaluate import Settings, evaluate_folder
from ucseg.scans.reading import read_scan
from ucseg.scans.writing import write_like

SLICES = 7
IMAGE = np.random.default_rng(0).integers(0, 1000, (6, 5, SLICES)).astype(np.int16)
LIVER, SPLEEN = np.zeros(IMAGE.shape, bool), np.zeros(IMAGE.shape, bool)
LIVER[1:4, 1:3, 2:5], SPLEEN[4:6, 3:5, 3:6] = True, True


def seg(series: str, liver: int = 1, spleen: int = 2, slices: Any = range(SLICES)) -> Any:
    """A SEG of the slices given, in no order that lies near."""
    order = list(slices)[::-1]
    frames = np.array([mask[..., k] for k in order for mask in (LIVER, SPLEEN)])
    places = [(10, 20, 30 + 2 * k) for k in order for _ in range(2)]
    names = {liver: "liver", spleen: "spleen"}
    return segmentation(frames, places, [liver, spleen] * len(order), dict(sorted(names.items())), series)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Two cases as `ucseg predict` leaves them: NIfTI in the geometry of their series; the first is right, of the
    second the liver is missed."""
    rows = []
    for case in ("a", "b"):
        series = save_series(tmp_path / "scans" / case, IMAGE, f"1.7.{ord(case)}")
        scan = read_scan(series)
        mask = (SPLEEN * 2 + LIVER * (case == "a")).transpose(1, 0, 2).astype(np.uint8)
        write_like(mask, scan, tmp_path / "p" / f"{case}.nii.gz")
        rows.append({"case": case, "file": str(series), "mask": f"{case}.nii.gz"})
    with (tmp_path / "p/cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "file", "mask"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "p"


def dice(result: Any) -> dict[tuple[str, str], float]:
    return {(case.case, row["name"]): row["dice"] for case in result.cases for row in case.rows}


def test_a_folder_of_segmentations_is_a_folder_of_references(predictions: Path, tmp_path: Path) -> None:
    for case in ("a", "b"):
        save(seg(f"1.7.{ord(case)}", slices=range(2, 6)), tmp_path / "r" / f"{case}.dcm")
    save_series(tmp_path / "r" / "images", IMAGE, "1.7.97")  # the series itself beside them is no reference
    result = evaluate_folder(predictions, tmp_path / "r")
    assert dice(result) == {("a", "liver"): 1, ("a", "spleen"): 1, ("b", "liver"): 0, ("b", "spleen"): 1}
    assert result.unit == "mm"


def test_names_say_which_number_is_which(predictions: Path, tmp_path: Path) -> None:
    save(seg("1.7.97"), tmp_path / "r/a.dcm")
    save(seg("1.7.98", liver=2, spleen=1), tmp_path / "r/b.dcm")
    with refused("segment-numbers", naming=["'liver'", "'spleen'", "a.dcm", "b.dcm", "--classes"]):
        evaluate_folder(predictions, tmp_path / "r")
    expected = {("a", "liver"): 1, ("a", "spleen"): 1, ("b", "liver"): 0, ("b", "spleen"): 1}
    said = evaluate_folder(predictions, tmp_path / "r", Settings(classes={1: "liver", 2: "spleen"}))
    assert dice(said) == expected
    (predictions / "prediction.json").write_text(
        json.dumps({"classes": {"0": "background", "1": "liver", "2": "spleen"}})
    )
    assert dice(evaluate_folder(predictions, tmp_path / "r")) == expected


def test_any_file_name_will_do_where_the_series_is_known(predictions: Path, tmp_path: Path) -> None:
    save(seg("1.7.97"), tmp_path / "r/patient1/seg.dcm")
    save(seg("1.7.98"), tmp_path / "r/patient2/seg.dcm")
    result = evaluate_folder(predictions, tmp_path / "r")
    assert dice(result)["patient1_seg", "liver"] == 1
    assert dice(result)["patient2_seg", "liver"] == 0
    assert not result.unmatched


def test_segmentations_on_either_side(predictions: Path, tmp_path: Path) -> None:
    for case in ("a", "b"):
        save(seg(f"1.7.{ord(case)}", slices=range(3, 6)), tmp_path / "s" / f"{case}.dcm")
        save(seg(f"1.7.{ord(case)}"), tmp_path / "r" / f"{case}.dcm")
    both = evaluate_folder(tmp_path / "s", tmp_path / "r")
    assert dice(both)["a", "liver"] == pytest.approx(2 * 2 / 5)  # two of its three slices
    assert dice(both)["a", "spleen"] == 1
    turned = evaluate_folder(tmp_path / "r", predictions, Settings(classes={1: "liver", 2: "spleen"}))
    assert dice(turned)["a", "liver"] == 1


def test_another_place_than_the_reference_is_refused(predictions: Path, tmp_path: Path) -> None:
    save(seg("1.7.97"), tmp_path / "r/a.dcm")
    save(seg("1.7.98"), tmp_path / "r/b.dcm")
    moved = nib.load(predictions / "b.nii.gz")
    affine = moved.affine.copy()
    affine[2, 3] += 1
    nib.save(nib.Nifti1Image(np.asanyarray(moved.dataobj), affine), predictions / "b.nii.gz")
    result = evaluate_folder(predictions, tmp_path / "r")
    assert list(result.failed) == ["b"]
    assert "between the voxels" in result.failed["b"]
