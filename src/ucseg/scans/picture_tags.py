"""How a picture is to be shown, by its tags: turned, and whether its greatest number is black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ucseg.types import Array

ORIENTATION, PHOTOMETRIC = 274, 262


def orientation_of(path: Path, image: Image.Image) -> int:
    """The orientation tag of the page that is shown: 1 (as stored) to 8."""
    if image.format == "TIFF":
        found = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]
    elif image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys() and not _late_exif(path):
        return 1  # without this, pillow would decode the pixels to look behind them
    else:
        found = image.getexif().get(ORIENTATION)
    return known_turn(found)


def known_turn(found: int | None) -> int:
    """An orientation tag; 1 where it is not there, or means nothing."""
    return found if found is not None and found in range(1, 9) else 1


def _late_exif(path: Path) -> bool:
    """Whether a PNG has EXIF behind its pixels: its chunks are skipped, not read."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            if head[4:] == b"eXIf":
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def photometric(image: Image.Image) -> int | None:
    """What the numbers of a TIFF's page mean; 0: the greatest is black."""
    found: int | None = image.tag_v2.get(PHOTOMETRIC)  # type: ignore[attr-defined]
    return found


def turned(array: Array, orientation: int) -> Array:
    """H x W x ..., turned as an orientation tag says (TIFF 6.0, page 36)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if rows else 1, :: -1 if columns else 1])
