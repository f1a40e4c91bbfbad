"""References in several files are one mask."""

from __future__ import annotations

from pathlib import Path

from small_scans import blob, save
from ucseg.evaluation.matching import match


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
