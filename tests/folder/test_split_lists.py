"""Splits that lists or folders of a set name."""

from __future__ import annotations

from pathlib import Path

from refusals import refused
from small_scans import blob, picture, save
from ucseg.folder.pairing import find_cases
from ucseg.folder.roles import own_split
from ucseg.folder.split_lists import by_lists


def test_lists_decide_the_splits(tmp_path: Path) -> None:
    for name in ("p1_slice_1", "p1_slice_2", "p2_slice_1", "p3_slice_1"):
        picture(tmp_path / f"s/images/{name}.png")
        save(tmp_path / f"s/masks/{name}.png", blob())
    cases = find_cases(tmp_path / "s").cases
    train, test = tmp_path / "train.list", tmp_path / "test.csv"
    train.write_text("images/p1_slice_1.png\np1_slice_2\n")
    test.write_text("name,age\np2,40\n")
    both = by_lists(tmp_path / "s", cases, {"train": train, "test": test})
    assert {case.case: case.split for case in both} == {
        "p1_slice_1": "train",
        "p1_slice_2": "train",
        "p2_slice_1": "test",
    }
    rest = by_lists(tmp_path / "s", cases, {"train": None, "test": test})
    assert {case.case for case in rest if case.split == ""} == {"p1_slice_1", "p1_slice_2", "p3_slice_1"}
    test.write_text("p2\np1_slice_1\n")
    with refused("split-list-twice", naming=["p1_slice_1", train]):
        by_lists(tmp_path / "s", cases, {"train": train, "test": test})
    test.write_text("p2\np9\n")
    with refused("split-list-name", naming=[test, "p9"]):
        by_lists(tmp_path / "s", cases, {"train": None, "test": test})
    for content in (b"", b"\xff\xfe\x00"):
        test.write_bytes(content)
        with refused("split-list", naming=test):
            by_lists(tmp_path / "s", cases, {"test": test})


def test_names_of_folders_for_splits() -> None:
    for name, split in (
        ("TrainingSet", "train"),
        ("TestingSet", "test"),
        ("test_data", "test"),
        ("Validation-Set", "validation"),
    ):
        assert own_split(Path(name) / "images/a.png") == split
    assert own_split(Path("testis/a.png")) == ""
