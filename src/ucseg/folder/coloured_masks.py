"""Masks in a few flat colours, black besides: each colour is a class, where the user says nothing else.

Where pictures have numbers for their colours (PNG with a palette), these are the classes, unless a number is another
colour in another mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from random import Random

import numpy as np

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.palette import BLACK, Colour, colours_in, colours_of_numbers, from_hex, in_hex, is_near, main_colours
from ucseg.scans.plain_images import opened
from ucseg.scans.reading import read_mask

_SAMPLE = 24
_MOST = 8
"""Colours besides black; more are numbers of objects, or a picture."""
_PURE = 16
"""How far a colour may lie from that of its name. Colours as near to each other look the same."""
_NAMES: dict[str, Colour] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}


def colours_of_classes(cases: Iterable[Case], unsaid: bool = True) -> dict[str, Colour]:
    """Class -> colour, with the background first, of the masks of a sample; {} where they are no such masks.

    Args:
        unsaid: the user has not said which value is which class.

    Raises:
        UserError: numbers of colours differ between masks, and the colours do not say which class is which.
    """
    masks = [case.mask for case in cases if case.mask is not None and case.mask.plain and not case.mask.several]
    if of_numbers := _of_other_numbers(masks, unsaid):
        return _named(of_numbers)
    if not unsaid:
        return {}
    sample = Random(0).sample(masks, min(_SAMPLE, len(masks)))
    found = for_each(_colours, sample)
    if not sample or any(one is None for one in found) or not any(found):
        return {}
    lossy = any(mask.ending in (".jpg", ".jpeg") for mask in sample)
    palette = [BLACK]
    for colour in (colour for one in found for colour in one or ()):
        if colour not in palette and not (lossy and any(is_near(colour, other) for other in palette)):
            palette.append(colour)
    apart = all(np.abs(np.subtract(*pair)).max() > _PURE for pair in combinations(palette, 2))
    if not apart or not 1 < len(palette) <= _MOST + 1:
        return {}
    return _named(palette)


def _named(palette: Iterable[Colour]) -> dict[str, Colour]:
    return {"background": BLACK} | {_name(one): one for one in sorted(palette, reverse=True) if one != BLACK}


def _of_other_numbers(masks: Sequence[Address], unsaid: bool) -> set[Colour]:
    """The colours of pictures with a palette, where a number is two colours; else none."""
    first: dict[int, tuple[Colour, Address]] = {}
    other = ""
    colours = set[Colour]()
    for mask, shown in zip(masks, for_each(_numbers, masks), strict=True):
        colours |= {*shown.values()}
        for number, colour in shown.items():
            before, where = first.setdefault(number, (colour, mask))
            if before != colour and not other:
                other = f"{mask}: number {number} is {in_hex(colour)} here, and {in_hex(before)} in {where.name}"
    if other and (not unsaid or BLACK not in colours or len(colours) > _MOST + 1):
        raise UserError(
            "mask-numbers-differ", f"{other}; say which colours are which classes with --palette NAME=#rrggbb,..."
        )
    return colours if other else set()


def _numbers(mask: Address) -> dict[int, Colour]:
    """Number -> colour of what a picture with a palette shows; {} of another one."""
    try:
        with opened(mask.file) as image:
            return colours_of_numbers(image)
    except UserError:
        return {}  # whatever reads it later reports what is wrong


def taken_in_words(colours: Mapping[str, Colour]) -> str:
    palette = ",".join(f"{name}={in_hex(colour)}" for name, colour in list(colours.items())[1:])
    return f"masks are pictures in colours, which are taken as classes; other names: --palette {palette}."


def _colours(mask: Address) -> list[Colour] | None:
    """The colours of a mask, [] of a black one; None: it is not of flat colours on black, or is read otherwise."""
    try:
        array = read_mask(mask).array
    except UserError:
        return None
    if not array.any():
        return []
    if len(array) != 3 or array.dtype != np.uint8 or (array == array[:1]).all():  # greys are other masks
        return None
    lossy = mask.ending in (".jpg", ".jpeg")
    colours = [from_hex(one) for one in (main_colours(array) if lossy else colours_in(array))]
    black = any(is_near(colour, BLACK) if lossy else colour == BLACK for colour in colours)
    return None if not black or len(colours) > _MOST + 1 else colours


def _name(colour: Colour) -> str:
    near = (name for name, pure in _NAMES.items() if np.abs(np.subtract(colour, pure)).max() <= _PURE)
    return next(near, f"colour_{in_hex(colour)[1:]}")
