"""A contact sheet of the list: each case's picture with the outline of the model's mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from ucseg.dataset.case import Case
from ucseg.labelling.measures import slice_axis
from ucseg.machine.writing import whole_file
from ucseg.planning.plan import Plan
from ucseg.scans.orientation import canonical_axes, to_canonical
from ucseg.scans.reading import read_mask, read_scan
from ucseg.scans.scan import Scan
from ucseg.types import Array

EDGE, CAPTION, COLUMNS = 240, 16, 5
# Different to colour-blind eyes too (after Okabe & Ito 2008); more classes start again.
COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0))


def write_sheet(
    file: Path, folder: Path, rows: Sequence[Mapping[str, Any]], cases: Mapping[str, Case], plan: Plan
) -> None:
    """Write one PNG with a picture for each row that has a mask to start from, in their order.

    Args:
        rows: of list.csv; `start` is relative to `folder`.
    """
    tiles = []
    for row in rows:
        if not row["start"]:
            continue
        scan = read_scan(cases[str(row["case"])].image)
        mask = read_mask(folder / str(row["start"])).array[0]
        number = None if row["slice"] == "" else int(row["slice"])
        caption = f"{row['rank']}  {row['case']}" + ("" if number is None else f"  slice {number}")
        tiles.append(_tile(_picture(scan, mask, number, plan), caption))
    if not tiles:
        return
    wide, high = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (wide * EDGE, high * (EDGE + CAPTION)))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % COLUMNS * EDGE, index // COLUMNS * (EDGE + CAPTION)))
    with whole_file(file, ".png") as part:
        sheet.save(part)


def _picture(scan: Scan, mask: Array, number: int | None, plan: Plan) -> Image.Image:
    """The scan, or its slice `number`, else the one with most foreground; pixels become square."""
    image, spacing = scan.array, list(scan.geometry.spacing)
    if mask.ndim == 3:
        axis = slice_axis(scan, plan)
        sizes = (mask > 0).sum(axis=tuple(other for other in range(3) if other != axis))
        at = number if number is not None else int(sizes.argmax()) if sizes.any() else mask.shape[axis] // 2
        order, flips = canonical_axes(scan.geometry, scan.source)
        image = to_canonical(np.take(image, [at], axis=1 + axis), order, flips)
        mask = to_canonical(np.take(mask, [at], axis=axis)[None], order, flips)[0]
        across = order.index(axis)
        image, mask = image.squeeze(1 + across), mask.squeeze(across)
        spacing = [spacing[own] for own in order if own != axis]
        if scan.geometry.unit == "mm":  # x to the right and y upwards
            image, mask, spacing = np.rot90(image, axes=(1, 2)), np.rot90(mask), spacing[::-1]
    shown = _grey(image)
    for value in np.unique(mask[mask > 0]):
        here = mask == value
        shown[here & ~binary_erosion(here)] = COLOURS[(int(value) - 1) % len(COLOURS)]
    height, width = mask.shape[0] * spacing[0], mask.shape[1] * spacing[1]
    scale = EDGE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR)


def _grey(image: Array) -> Array:
    """C x rows x columns of any range -> rows x columns x 3, uint8; grey from its 1st to its 99th percentile."""
    if len(image) == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(image, 0, -1))
    plane = image[0].astype(np.float64)
    low, high = np.percentile(plane, [1, 99])
    grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _tile(picture: Image.Image, caption: str) -> Image.Image:
    tile = Image.new("RGB", (EDGE, EDGE + CAPTION))
    tile.paste(picture, ((EDGE - picture.width) // 2, CAPTION + (EDGE - picture.height) // 2))
    ImageDraw.Draw(tile).text((3, 2), caption, fill=(255, 255, 255))
    return tile
