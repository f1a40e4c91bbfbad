"""Drawn outlines: the inside of closed lines. A mask that is a region already keeps its holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy  # its parts load where they are first used

from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.types import Array

_WIDTH = 10.0
"""So many pixels a line may be wide, as `init` has it."""
_WIDTH_OF_DIAGONAL = 0.01
"""In large pictures lines are wider: a share of the picture's diagonal."""


def fill_outlines(label: Array, mask: Address | Path) -> Array:
    """H x W class indices with the inside of every closed line; what is filled already stays as it is.

    Masks that a model or an expert filled lie beside drawn ones. So each mask is looked at by itself.

    Raises:
        UserError: a line does not close, or the mask is no plain 2D image; `mask` is named as its file.
    """
    if label.ndim == 3 and label.shape[2] == 1:  # a volume of one slice
        return fill_outlines(label[..., 0], mask)[..., None]
    if label.ndim != 2:
        raise UserError(
            "outlines-of-volume",
            f"{mask}: only plain 2D images have outlines to fill; leave out --fill-outlines (fill_outlines).",
        )
    if _is_region(label > 0):
        return label.copy()
    filled = {int(value): _filled(label == value, mask) for value in np.unique(label) if value != 0}
    out = np.zeros_like(label)
    # Larger structures first: a structure inside another one stays visible.
    for value, inside in sorted(filled.items(), key=lambda item: -int(item[1].sum())):
        out[inside] = value
    return out


def _filled(outline: Array, mask: Address | Path) -> Array:
    filled = np.zeros_like(outline)
    parts, _ = scipy.ndimage.label(outline, structure=np.ones((3, 3)))
    for number, box in enumerate(scipy.ndimage.find_objects(parts), start=1):
        line = parts[box] == number
        region = scipy.ndimage.binary_fill_holes(line)
        if int(region.sum()) < 2 * int(line.sum()) and _compact(line):
            filled[box] |= line  # a small region, with holes or without
            continue
        if not _encloses(line, region):
            row, column = (int(side.start + side.stop) // 2 for side in box)
            raise UserError(
                "outline-open",
                f"{mask}: the line around row {row}, column {column} does not close; close it or leave the case out.",
            )
        filled[box] |= region
    return filled


def _is_region(drawn: Array) -> bool:
    """Whether most of a mask is wider than any line.

    In a band as wide as a line may be, half of the pixels lie deeper than a quarter of its width. The transform counts
    from the next pixel's centre, half a pixel beyond the edge.
    """
    if not drawn.any():
        return False
    depth = max(_WIDTH, _WIDTH_OF_DIAGONAL * float(np.hypot(*drawn.shape))) / 4 + 0.5
    cut = np.pad(drawn[scipy.ndimage.find_objects(drawn.astype(np.uint8))[0]], 1)
    deep = int((scipy.ndimage.distance_transform_edt(cut) > depth).sum())
    return 2 * deep > int(cut.sum())


def _encloses(line: Array, region: Array) -> bool:
    """Whether a line has a real inside: a tenth of its convex hull. Loops of an open line have less."""
    inside = int(region.sum()) - int(line.sum())
    if inside == 0 or inside >= 0.1 * line.size:  # the hull is no larger than the box around the line
        return inside > 0
    return inside >= 0.1 * float(scipy.spatial.ConvexHull(np.argwhere(line)).volume)  # in 2D, `volume` is the area


def _compact(line: Array) -> bool:
    """Whether a part is no line but a region filled already, or a speck: a few squares of its width cover it."""
    width = 2 * float(scipy.ndimage.distance_transform_edt(np.pad(line, 1)).max())
    return int(line.sum()) <= 6 * width**2
