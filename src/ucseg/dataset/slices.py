"""Which slices of a volume are annotated, as cases.csv says it: `3,17,30`, `3:6`, or `i 3,17` along another axis."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ucseg.errors import UserError
from ucseg.types import NOT_ANNOTATED, Array

AXES = ("i", "j", "k")
_FORM = re.compile(r"(?:([ijk])[ ,]+)?(\d+(?::\d+)?(?:[ ,]+\d+(?::\d+)?)*)")


@dataclass(frozen=True)
class Slices:
    """Slices along an axis of a volume's array, in the order of its file; the first has number 0."""

    axis: int
    numbers: tuple[int, ...]

    @classmethod
    def read(cls, text: str) -> Slices:
        """`3,17,30` or `3 17 30`, with ranges such as `3:6` (3, 4, 5 and 6); the axis before them, k if none is there.

        Raises:
            UserError: it is of another form.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            said = f"labelled_slices '{text}' are no slices; write 3,17,30 or 3:6, or i 3,17,30 along the first axis."
            raise UserError("slices-form", said)
        numbers: set[int] = set()
        for part in re.split("[ ,]+", found[2]):
            first, _, last = part.partition(":")
            numbers |= set(range(int(first), int(last or first) + 1))
        return cls(AXES.index(found[1] or "k"), tuple(sorted(numbers)))

    def __str__(self) -> str:
        axis = "" if self.axis == AXES.index("k") else f"{AXES[self.axis]} "
        return axis + ",".join(map(str, self.numbers))

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
