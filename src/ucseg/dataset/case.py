"""A case: one line of cases.csv."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ucseg.dataset.slices import Slices
from ucseg.scans.address import Address
from ucseg.scans.said import Said

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Case:
    """One line of cases.csv: an image, its mask if it has one that training may see, and the split it belongs to.

    Addresses are absolute here and relative to the data root on disk; paths are taken as addresses.
    `mask is None` means unlabelled. `slices` are those of a volume that its mask annotates; None: all of it.
    """

    case: str
    subject: str
    image: Address
    mask: Address | None
    split: str
    slices: Slices | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", Address.of(self.image))
        if self.mask is not None:
            object.__setattr__(self, "mask", Address.of(self.mask))

    def as_said(self, said: Said) -> Case:
        """The same case, its files read as the user says."""
        mask = None if self.mask is None else self.mask.as_said(said)
        return replace(self, image=self.image.as_said(said), mask=mask)
