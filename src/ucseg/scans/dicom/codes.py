"""What a class is in the terms of a coding scheme (SNOMED CT and others), so that a workstation knows it by its code.

In dataset.yaml, and in codes.yaml of a run, which is a copy that may be edited:

    codes:
      1:
        category: {value: 91723000, scheme: SCT, meaning: Anatomical Structure}
        type: {value: 10200004, scheme: SCT, meaning: Liver}
        region: {value: 818981001, scheme: SCT, meaning: Abdomen}    # optional
        laterality: left                                             # optional: left, right or both

A class without an entry is called "Tissue" in both places, which is true of every class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, field_validator, model_validator

from ucseg.config import Strict, build, read_yaml
from ucseg.machine.writing import whole_file

CODES_FILE = "codes.yaml"


class Code(Strict):
    """One code of a scheme, e.g. 10200004, SCT, Liver; lengths are those that DICOM allows."""

    value: str = Field(min_length=1, max_length=64, pattern=r"^[^\\\s]+$", coerce_numbers_to_str=True)
    scheme: str = Field(min_length=1, max_length=16, pattern=r"^[^\\\s]+$")
    meaning: str = Field(min_length=1, max_length=64, pattern=r"^[^\\]+$")

    @field_validator("scheme")
    @classmethod
    def _current(cls, scheme: str) -> str:
        if scheme in ("SRT", "SNM3", "99SDM") or scheme.upper().startswith("SNOMED"):
            raise ValueError("SNOMED CT is called SCT in DICOM, with its numeric identifiers")
        return scheme

    @model_validator(mode="after")
    def _is_snomed_number(self) -> Code:
        number = self.value
        if self.scheme == "SCT" and not (re.fullmatch(r"[1-9]\d{5,17}", number) and _check_digit_fits(number)):
            raise ValueError(f"'{number}' is no SNOMED CT identifier (its last digit checks the others); look it up")
        return self


def _check_digit_fits(number: str) -> bool:
    """Verhoeff's scheme: the digits, each permuted by its place, multiply to the identity of the dihedral group D5."""
    check = 0
    for place, digit in enumerate(map(int, reversed(number))):
        for _ in range(place % 8):
            digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]  # noqa: PLW2901
        check = _product(check, digit)
    return check == 0


def _product(one: int, other: int) -> int:
    """Of two elements of D5: 0..4 are turns, 5..9 mirrorings."""
    turned = (one + other) % 5 if one < 5 else (one - other) % 5
    return turned + 5 * ((one < 5) != (other < 5))


class SegmentCodes(Strict):
    """The codes of one class: what kind of thing it is (`category`, DICOM's CID 7150), and what it is.

    `region`: where in the body, if `type` does not say.
    """

    category: Code
    type: Code
    laterality: Literal["left", "right", "both"] | None = None
    region: Code | None = None


TISSUE = Code(value="85756007", scheme="SCT", meaning="Tissue")
UNKNOWN = SegmentCodes(category=TISSUE, type=TISSUE)
"""For a class without codes."""


class _CodesFile(Strict):
    codes: dict[int, SegmentCodes]


def save_codes(codes: Mapping[int, SegmentCodes], classes: Mapping[int, str], folder: Path) -> None:
    """Write codes.yaml into a folder, whole or not at all."""
    named = ", ".join(f"{index} {name}" for index, name in classes.items() if index)
    lines = [
        "# What DICOM segmentations made with this run call its classes; edit as you like.",
        f"# Classes: {named}. Those without an entry are called 'Tissue'.",
    ]
    plain = {"codes": {index: one.model_dump(exclude_none=True) for index, one in codes.items()}}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    with whole_file(folder / CODES_FILE, ".yaml") as part:
        part.write_text("\n".join(lines) + "\n" + text, encoding="utf-8")


def read_codes(folder: Path) -> dict[int, SegmentCodes]:
    """The codes of a run by class index; empty where it has no codes.yaml, a UserError if that holds something else."""
    file = folder / CODES_FILE
    return build(_CodesFile, read_yaml(file), str(file)).codes if file.exists() else {}
