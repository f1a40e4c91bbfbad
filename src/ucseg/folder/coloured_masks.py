"""Masks in a few flat colours, black besides: each colour is a class, where the user says nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from random import Random

import numpy as np

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.palette import BLACK, Colour, colours_in, from_hex, in_hex, is_near, main_colours
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


def colours_of_classes(cases: Iterable[Case]) -> dict[str, Colour]:
    """Class -> colour, with the background first, of the masks of a sample; {} where they are no such masks."""
    masks = [case.mask for case in cases if case.mask is not None and case.mask.plain and not case.mask.several]
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
    return {"background": BLACK} | {_name(colour): colour for colour in sorted(palette[1:], reverse=True)}


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
