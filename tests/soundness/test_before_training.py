"""What is reported about a dataset before training, beside shift and few labels (test_shift.py)."""

from __future__ import annotations

from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import Dataset
from ucseg.dataset.settings import DatasetConfig
from ucseg.soundness.before_training import copies_across_splits, same_files


def test_only_files_equal_to_the_last_byte_are_copies(tmp_path: Path) -> None:
    """Uncompressed scans are all of one size, and may differ between the places that are looked at first."""
    content = bytes(100_000)
    almost = bytearray(content)
    almost[6000] = 1
    files = {"a": content, "b": content, "c": bytes(almost), "d": content, "e": content[:-1], "f": b"", "g": b""}
    splits = {"a": "train", "b": "test", "c": "test", "d": "train", "e": "test", "f": "train", "g": "train"}
    for name, stored in files.items():
        (tmp_path / name).write_bytes(stored)
    (tmp_path / "series").mkdir()
    cases = [Case(name, name, tmp_path / name, None, splits[name]) for name in files]  # type: ignore[arg-type]
    cases.append(Case("series", "series", tmp_path / "series", None, "test"))
    config = DatasetConfig(
        name="any", root=str(tmp_path), dims=2, modality="ultrasound", channels=1, classes={0: "background", 1: "one"}
    )
    dataset = Dataset(tmp_path, config, cases)
    (found,) = copies_across_splits(same_files(dataset))
    assert (found.kind, found.severity) == ("copy-leak", "error")
    assert "a (train), b (test), d (train)" in found.finding
