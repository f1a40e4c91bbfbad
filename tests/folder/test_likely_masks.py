"""Images that look like masks although nothing names them so."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from small_scans import blob, picture, save
from ucseg.dataset.case import Case
from ucseg.folder.likely_masks import in_words, likely_masks, looks_like_label
from ucseg.folder.pairing import find_cases
from ucseg.scans.address import Address


def test_masks_of_unknown_names_are_found(tmp_path: Path) -> None:
    for i in range(8):
        picture(tmp_path / f"A{i}.png")
        save(tmp_path / f"A{i}_mask.png", blob())
    for name in ("A1x", "A10", "bA2"):  # images, whatever they are called
        picture(tmp_path / f"{name}.png")
    save(tmp_path / "lonely.png", blob())
    for i in (4, 6):
        picture(tmp_path / f"B{i}.png")
        save(tmp_path / f"B{i}_outline.png", blob())
    masks = {file.stem.removesuffix("_mask"): Address.of(file) for file in tmp_path.glob("*_mask.png")}
    images = [Address.of(file) for file in sorted(tmp_path.glob("*.png")) if not file.stem.endswith("_mask")]
    found = likely_masks(Case(one.stem, one.stem, one, masks.get(one.stem), "train") for one in images)
    assert [(one.file.name, one.image.name, one.pattern) for one in found] == [
        ("B4_outline.png", "B4.png", "*_outline.png"),
        ("B6_outline.png", "B6.png", "*_outline.png"),
    ]
    assert "--masks '*_outline.png'" in in_words(found)
    named = find_cases(tmp_path, masks_glob="*_outline.png").cases
    assert {case.image.name for case in named if case.mask is not None} == {"B4.png", "B6.png"}


def test_pictures_of_few_flat_colours_look_like_masks(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    save(tmp_path / "flat.png", colours[blob(1) + blob(1, 3)])
    picture(tmp_path / "photo.png", channels=3)
    save(
        tmp_path / "many.png",
        np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 2 + [np.zeros((16, 16), np.uint8)], -1),
    )
    looks = {name: looks_like_label(Address.of(tmp_path / f"{name}.png")) for name in ("flat", "photo", "many")}
    assert looks == {"flat": True, "photo": False, "many": False}
