"""Several people drew the same structure in the same images: masks 1stHO and 2ndHO, manual1 and manual2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median

from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import read_mask
from ucseg.types import Array

_NUMBERED = re.compile(r"(?P<before>\D*)(?P<number>\d)(?P<th>st|nd|rd|th)?(?P<after>.*)")
_PERSON = re.compile(
    r"observer|reader|rater|expert|annotator|grader|manual|doctor|radiologist|[ _.-]r\d", re.IGNORECASE
)
_INSIDE = 0.95
"""So much of a mask in the other one, in most images: they are two structures, or nobody knows."""
_SAMPLE = 24
_ALIKE = 0.4
"""Dice of two people's masks, at least. Of retinal vessels it is about .8, of small lesions less."""


def are_observers(kinds: Sequence[tuple[str, Mapping[Address, Address]]]) -> bool:
    """Whether kinds of masks are those of observers 1, 2, ..., and the first drew all images that the others drew.

    Args:
        kinds: pattern of the masks, and mask -> image.
    """
    found = [_NUMBERED.fullmatch(pattern) for pattern, _ in kinds]
    around = {(one["before"], one["after"]) for one in found if one}
    persons = [bool(one and (one["th"] or _PERSON.search(one[0]))) for one in found]
    if (
        not all(persons)
        or len(around) != 1
        or [one and int(one["number"]) for one in found] != list(range(1, len(kinds) + 1))
    ):
        return False
    masks_of = [{image: mask for mask, image in image_of.items()} for _, image_of in kinds]
    return len(kinds) > 1 and all(masks_of[0].keys() >= own.keys() and _alike(masks_of[0], own) for own in masks_of[1:])


def _alike(masks: Mapping[Address, Address], others: Mapping[Address, Address]) -> bool:
    sample = list(others)[:: max(1, len(others) // _SAMPLE)]
    dice, inside = zip(*for_each(lambda image: _shared(masks[image], others[image]), sample), strict=True)
    return bool(median(dice) >= _ALIKE and median(inside) < _INSIDE)


def _shared(mask: Address, other: Address) -> tuple[float, float]:
    """Dice, and how much of the smaller one lies in the other."""
    try:
        one, two = _foreground(mask), _foreground(other)
    except UserError:
        return 0, 0  # whatever reads it later reports what is wrong
    if one.shape != two.shape:
        return 0, 0
    sizes, shared = (int(one.sum()), int(two.sum())), int((one & two).sum())
    return 2 * shared / max(1, sum(sizes)), shared / max(1, min(sizes))


def _foreground(mask: Address) -> Array:
    values = only_channel(read_mask(mask))
    above: Array = values > float(values.max(initial=0)) / 2
    return above
