"""Codes of classes: checked where they enter, kept in the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ucseg.config import build
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, load_dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.scans.dicom.codes import read_codes, save_codes

ORGAN = {"value": 91723000, "scheme": "SCT", "meaning": "Anatomical Structure"}
LIVER = {"value": 10200004, "scheme": "SCT", "meaning": "Liver"}


def config(codes: object) -> DatasetConfig:
    values = {"name": "d", "root": ".", "dims": 3, "modality": "ct", "channels": 1, "codes": codes}
    return build(DatasetConfig, {**values, "classes": {0: "background", 1: "liver", 2: "spleen"}}, "dataset.yaml")


def test_they_come_back_from_dataset_and_run(tmp_path: Path) -> None:
    given = config({1: {"category": ORGAN, "type": LIVER, "laterality": "right"}})
    save_dataset(Dataset(tmp_path, given, [Case("a", "a", tmp_path / "a.nii", None, "train")]))
    codes = load_dataset(tmp_path).config.codes
    assert codes == given.codes
    assert codes[1].type.value == "10200004"
    save_codes(codes, given.classes, tmp_path)
    assert read_codes(tmp_path) == codes
    assert read_codes(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ({3: {"category": ORGAN, "type": LIVER}}, "3 is no class"),
        ({0: {"category": ORGAN, "type": LIVER}}, "0 is no class"),
        ({1: {"category": ORGAN}}, "codes.1.type"),
        ({1: {"category": ORGAN, "typ": LIVER, "type": LIVER}}, "'type'"),
        ({1: {"category": ORGAN, "type": LIVER, "laterality": "up"}}, "'left', 'right' or 'both'"),
        ({1: {"category": ORGAN, "type": LIVER | {"value": 10200005}}}, "10200005"),
        ({1: {"category": ORGAN, "type": LIVER | {"value": "Liver"}}}, "'Liver'"),
        ({1: {"category": ORGAN, "type": LIVER | {"scheme": "SRT", "value": "T-62000"}}}, "SCT"),
        ({1: {"category": ORGAN, "type": LIVER | {"meaning": "x" * 65}}}, "64"),
    ],
)
def test_a_wrong_code_is_named(codes: object, words: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.yaml") as caught:
        config(codes)
    assert words in str(caught.value)


def test_a_broken_file_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "codes.yaml").write_text("codes:\n  1: liver\n")
    with pytest.raises(UserError, match=r"codes\.yaml"):
        read_codes(tmp_path)
