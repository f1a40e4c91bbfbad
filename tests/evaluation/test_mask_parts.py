"""References and predictions in several files are one mask."""

from __future__ import annotations

from pathlib import Path

import ucseg
from small_scans import blob, save
from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset, save_dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.evaluation.matching import match
from ucseg.scans.address import Address


def test_further_parts_belong_to_their_mask(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"made/{name}.png", blob())
        save(tmp_path / f"true/{name}_mask.png", blob(255))
    save(tmp_path / "true/a_mask_1.png", blob(255, where=6))
    pairs = match(tmp_path / "made", tmp_path / "true").pairs
    assert [(pair.prediction.name, pair.reference.case, len(pair.reference.mask.files)) for pair in pairs] == [
        ("a.png", "a", 2),
        ("b.png", "b", 1),
    ]


def test_parts_of_a_prediction_belong_together(tmp_path: Path) -> None:
    save(tmp_path / "true/a_mask.png", blob(255))
    save(tmp_path / "true/a_mask_1.png", blob(255, where=6))
    save(tmp_path / "made/a_mask.png", blob(255))
    save(tmp_path / "made/a_mask_1.png", blob(255, where=6))
    result = ucseg.evaluate(tmp_path / "made", tmp_path / "true", out=tmp_path / "numbers")
    assert (result.mean("dice"), len(result.cases), result.unmatched) == (1.0, 1, {})


def test_a_case_called_as_a_part_is_none(tmp_path: Path) -> None:
    """A dataset knows its cases."""
    for case in ("a_mask", "a_mask_1"):
        save(tmp_path / f"data/images/{case}.png", blob(200))
        save(tmp_path / f"data/labels/{case}.png", blob(255))
        save(tmp_path / f"made/{case}.png", blob(255))
    config = DatasetConfig(
        name="toy", root=str(tmp_path / "data"), dims=2, modality="other", channels=1, classes={0: "no", 1: "yes"},
        mask_threshold=127,
    )  # fmt: skip
    cases = [
        Case(name, name, Address.of(tmp_path / f"data/images/{name}.png"),
             Address.of(tmp_path / f"data/labels/{name}.png"), "test")
        for name in ("a_mask", "a_mask_1")
    ]  # fmt: skip
    save_dataset(Dataset(tmp_path / "dataset", config, cases), {})
    pairs = match(tmp_path / "made", tmp_path / "dataset").pairs
    assert [(pair.prediction.name, pair.reference.case) for pair in pairs] == [
        ("a_mask.png", "a_mask"),
        ("a_mask_1.png", "a_mask_1"),
    ]
