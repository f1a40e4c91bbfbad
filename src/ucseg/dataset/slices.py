"""Which slices of a volume are annotated, as cases.csv says it: `3,17,30`, `3:6`, or `i 3,17` along another axis."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.types import NOT_ANNOTATED, Array

AXES = ("i", "j", "k")
_FORM = re.compile(r"(?:([ijk])[ ,]+)?(\d+(?::\d+)?(?:[ ,]+\d+(?::\d+)?)*)")


def axis_of_slices(image: Address) -> int | None:
    """The axis that numbers slices where nobody says it, of the array in the order of its file.

    The pages of a TIFF or OME-Zarr come first. Arrays of HDF5 and NumPy have no such order: None.
    """
    return {"plain_images": 0, "ome": 0, "arrays": None}.get(image.format, AXES.index("k"))


@dataclass(frozen=True)
class Slices:
    """Slices along an axis of a volume's array, in the order of its file; the first has number 0."""

    axis: int
    numbers: tuple[int, ...]

    @classmethod
    def read(cls, text: str, across: int | None = AXES.index("k")) -> Slices:
        """`3,17,30` or `3 17 30`, with ranges such as `3:6` (3, 4, 5 and 6); before them the axis, if it is said.

        Args:
            across: the axis where none is said; None: it has to be said.

        Raises:
            UserError: it is of another form, or does not say the axis.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            said = f"labelled_slices '{text}' are no slices; write 3,17,30 or 3:6, or i 3,17,30 along the first axis."
            raise UserError("slices-form", said)
        if found[1] is None and across is None:
            said = (
                f"labelled_slices '{text}' do not say along which axis of the array; write i {text} for the first one."
            )
            raise UserError("slices-axis", said)
        numbers: set[int] = set()
        for part in re.split("[ ,]+", found[2]):
            first, _, last = part.partition(":")
            numbers |= set(range(int(first), int(last or first) + 1))
        return cls((across or 0) if found[1] is None else AXES.index(found[1]), tuple(sorted(numbers)))

    def __str__(self) -> str:
        return self.text()

    def text(self, across: int | None = AXES.index("k")) -> str:
        """What `read` makes these slices of."""
        return ("" if self.axis == across else f"{AXES[self.axis]} ") + ",".join(map(str, self.numbers))

    def joined(self, other: Slices) -> Slices:
        """These and others along the same axis.

        Raises:
            UserError: the others lie along another axis.
        """
        if self.axis != other.axis:
            said = f"slices along {AXES[self.axis]} and {AXES[other.axis]} cannot be joined; label along one axis."
            raise UserError("slices-cross", said)
        return Slices(self.axis, tuple(sorted({*self.numbers, *other.numbers})))

    def mark(self, label: Array, source: object) -> Array:
        """The label, S uint8 of a volume; what is in none of the slices is NOT_ANNOTATED.

        Raises:
            UserError: it has no such slice, or is no volume.
        """
        if label.ndim != len(AXES) or not self.numbers or self.numbers[-1] >= label.shape[self.axis]:
            has = f"{label.shape[self.axis]} slices along {AXES[self.axis]}" if label.ndim == len(AXES) else "no slices"
            said = f"{source}: it has {has}, counted from 0; correct labelled_slices ({self}) in cases.csv."
            raise UserError("slices-outside", said)
        out = label.copy()
        outside = [number for number in range(label.shape[self.axis]) if number not in set(self.numbers)]
        out[(slice(None),) * self.axis + (outside,)] = NOT_ANNOTATED
        return out
