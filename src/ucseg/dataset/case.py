"""A case: one line of cases.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Case:
    """One line of cases.csv: an image, its mask if it has one that training may see, and the split it belongs to.

    Paths are absolute here and relative to the data root on disk. `mask is None` means unlabelled.
    """

    case: str
    subject: str
    image: Path
    mask: Path | None
    split: str
