"""Masks whose colours are classes: which colour is which class, as the user or a file of labels says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ucseg.errors import UserError, some
from ucseg.scans.scan import Scan
from ucseg.types import Array

Colour = tuple[int, int, int]
OF_CLASSES = "ucseg: the numbers are classes"
"""Comment in a PNG that ucseg colours for viewers: whatever colours a dataset has, the numbers count."""
BLACK: Colour = (0, 0, 0)
_MAIN, _NEAR, _SHARE = 8, 90, 0.1
"""Of main colours: how many, how far others lie from one, of 255, and the least part of the rest that each has."""
SHOWN = 16
"""Colours that a question lists."""
_BACKGROUND = "background"
_HEX = re.compile(r"#([0-9a-fA-F]{6})\b")
_NUMBERS = re.compile(r"\b(\d{1,3})[ ,;\t]+(\d{1,3})[ ,;\t]+(\d{1,3})\b")


def palette_of(text: str) -> dict[str, Colour]:
    """Class -> colour, the background first (black, if it is not said); of a text or of the file that it names.

    A text is NAME=#rrggbb,NAME=#rrggbb. A file has a class a line, with #rrggbb or three numbers (CVAT's labelmap.txt).

    Raises:
        UserError: it cannot be read so, or a class or colour is there twice.
    """
    file = Path(text)
    named = "#" not in text
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines() if named else text.split(",")
    except (OSError, ValueError) as error:
        raise UserError(
            "palette-file", f"--palette {text[:80]}: cannot be read ({error}); give NAME=#rrggbb,... or a file of such."
        ) from None
    found: dict[str, Colour] = {}
    for line in lines:
        match = _HEX.search(line) or _NUMBERS.search(line)
        if match is None and (not line.strip() or line.lstrip().startswith("#")):
            continue
        name = "" if match is None else (line[: match.start()] or line[match.end() :]).strip(" \t=:;,\"'")
        colour = None if match is None else _colour(match)
        if not name or colour is None or "," in name or "=" in name:
            raise UserError(
                "palette-line",
                f"--palette: '{line[:80]}' is no class with its colour; write NAME=#rrggbb, as liver=#ff0000.",
            )
        name = _BACKGROUND if name.lower() == _BACKGROUND else name
        if name in found or colour in found.values():
            raise UserError("palette-twice", f"--palette: '{line[:80]}' is a second class or colour; name each once.")
        found[name] = colour
    if not found.keys() - {_BACKGROUND}:
        raise UserError("palette-empty", f"--palette {text[:80]}: names no class; give NAME=#rrggbb, as liver=#ff0000.")
    black_is_free = BLACK not in found.values()
    background = found.pop(_BACKGROUND, BLACK if black_is_free else None)
    if background is None:
        raise UserError("palette-background", "--palette: black is a class, so say the background's colour too.")
    return {_BACKGROUND: background} | found


def numbered(colours: Iterable[str]) -> str:
    """The classes of a palette, the background first, as --classes takes them."""
    return ",".join(f"{index}={name}" for index, name in enumerate(colours))


def as_classes(scan: Scan, palette: tuple[Colour, ...], lossy: bool) -> Scan:
    """1 x S, the place of each colour in the palette, of 3 x S.

    A scan of one channel stays as it is, unless its values are greys of the palette and cannot be places.

    Args:
        lossy: colours have changed (JPEG), and the nearest one of the palette counts.

    Raises:
        UserError: it holds a colour that is not in the palette.
    """
    if len(scan.array) != 3:
        held = set(np.unique(scan.array).tolist())
        only_greys = set(greys_of(palette)) >= held and (all_grey(palette) or not held <= set(range(len(palette))))
        if scan.array.dtype != np.uint8 or not only_greys:
            return scan
        scan = replace(scan, array=np.repeat(scan.array, 3, axis=0))
    pixels = scan.array.astype(np.int32)
    out = np.full(pixels.shape[1:], -1, np.int16)
    if lossy:
        away = np.stack([((pixels - np.reshape(colour, (3, *[1] * out.ndim))) ** 2).sum(axis=0) for colour in palette])
        out = away.argmin(axis=0).astype(np.int16)
    else:
        for place, colour in enumerate(palette):
            out[(pixels == np.reshape(colour, (3, *[1] * out.ndim))).all(axis=0)] = place
    if out.min(initial=0) < 0:
        unknown = colours_in(scan.array[:, out < 0])
        raise UserError(
            "mask-colour-unknown",
            f"{scan.source}: its colours {some(unknown)} are of no class; add them to the palette, or fix the mask.",
        )
    return Scan(out.astype(np.uint8)[None], scan.geometry, scan.source, scan.header)


def greys_of(palette: Sequence[Colour]) -> list[int]:
    """The greys of a palette, as a picture of one channel holds them."""
    return [red for red, green, blue in palette if red == green == blue]


def all_grey(palette: Sequence[Colour]) -> bool:
    """Whether a palette has greys alone, so that a picture of one channel can show all of it."""
    return len(greys_of(palette)) == len(palette)


def shows_colours_of(image: Image.Image, palette: Sequence[Colour]) -> bool:
    """Whether a picture of one page has numbers for its colours, and one of these but black is in a palette."""
    if image.info.get("Comment") == OF_CLASSES:
        return False
    used = {*colours_of_numbers(image).values()} if palette else set()
    return bool(used & set(palette) - {BLACK}) or used == {BLACK}


def colours_of_numbers(image: Image.Image) -> dict[int, Colour]:
    """Number -> colour, as far as a picture of one page shows them; {} without a palette, or with one of greys."""
    if image.mode not in ("P", "PA") or getattr(image, "n_frames", 1) > 1:
        return {}
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    if (colours == colours[:, :1]).all():  # a grey picture, stored in another way
        return {}
    used = np.unique(np.asarray(image.getchannel(0))).tolist()
    return {number: tuple(colours[number].tolist()) for number in used if number < len(colours)}


def colours_in(array: Array) -> list[str]:
    """The colours of 3 x S, as #rrggbb, the commonest first."""
    found, counts = _counted(array)
    return [in_hex(tuple(found[:, place])) for place in np.argsort(-counts)]


def _counted(array: Array) -> tuple[Array, Array]:
    """The colours of 3 x S uint8, 3 x N, ascending, and how many pixels have each."""
    red, green, blue = array.reshape(3, -1).astype(np.uint32)
    codes, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)  # by one number: ten times as fast
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255]), counts


def main_colours(array: Array) -> list[str]:
    """The colours of 3 x S around which nearly all pixels lie, as #rrggbb, the commonest first; [] if it has many.

    JPEG blurs flat colours: what lies near one counts for it, and pixels between two colours count for none.
    """
    even = np.ones(array.shape[1:], bool)
    for axis in range(1, array.ndim):
        step = np.abs(np.diff(array.astype(np.int16), axis=axis)).max(axis=0) > _NEAR / 4
        even &= ~(np.insert(step, 0, False, axis - 1) | np.insert(step, step.shape[axis - 1], False, axis - 1))
    if 2 * even.sum() < even.size:
        return []
    found, counts = _counted(array[:, even])
    left, enough = found.astype(np.int32), 0.01 * counts.sum()
    colours: list[str] = []
    while counts.sum() > enough:
        first = left[:, np.argmax(counts)]
        near = ((left - first[:, None]) ** 2).sum(axis=0) <= _NEAR**2
        if len(colours) == _MAIN or counts[near].sum() < _SHARE * enough:
            return []
        colours.append(in_hex(tuple(first)))
        left, counts = left[:, ~near], counts[~near]
    return colours


def is_near(colour: Colour, other: Colour) -> bool:
    """Whether JPEG may have made one colour of the other."""
    return sum((one - its) ** 2 for one, its in zip(colour, other, strict=True)) <= _NEAR**2


def in_hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)


def from_hex(text: str) -> Colour:
    """A ValueError if it is no colour."""
    match = _HEX.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is no colour, such as #ff0000")
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue


def _colour(match: re.Match[str]) -> Colour | None:
    if match.re is _HEX:
        return from_hex(match[0])
    red, green, blue = map(int, match.groups())
    return (red, green, blue) if max(red, green, blue) < 256 else None
