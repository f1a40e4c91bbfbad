"""A case as a picture: a slice of a scan, masks and maps laid over it, and letters that say where its sides are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ucseg.pictures.planes import Planes
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry
from ucseg.types import Array

WIDTH = 220
"""Of a picture, in pixels."""
TALLEST = 1.6
"""Height of a picture in widths; a longer one gets narrower."""
LETTER = 12
"""Height of the letters at the edges of a picture, in pixels."""
LETTER_COLOUR = (255, 225, 120)
_MARGIN = 3
# Foreground classes 1, 2, ..., different to colour-blind eyes too (after Okabe & Ito 2008); more classes start again.
COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0))
_SAMPLED = 200
"""Along each axis of a plane about so many pixels decide its window of grey."""


@dataclass(frozen=True)
class View:
    """A slice of a scan as a picture, enlarged to pixels of equal width and height.

    Attributes:
        planes: all slices of the scan.
        index: of the slice.
    """

    planes: Planes
    index: int

    @classmethod
    def of(cls, geometry: Geometry, shape: tuple[int, ...], image: Address, mask: Array | None = None) -> View:
        """The view of a scan of S = `shape`: of a volume the slice that holds most of the mask, else the middle one.

        Raises:
            UserError: the affine does not span the space.
        """
        planes = Planes.of(geometry, shape, image)
        return cls(planes, planes.fullest(mask))

    @property
    def where(self) -> str:
        """Which slice, by its number as in `labelled_slices`; "" of an image."""
        return self.planes.where(self.index)

    def plane(self, array: Array) -> Array:
        """Rows x columns of S."""
        return np.asarray(self.planes.slices(array)[self.index])

    def enlarge(self, plane: Array, how: Image.Resampling = Image.Resampling.NEAREST) -> Array:
        """A plane (uint8, also with colours) at the size of the picture."""
        rows, columns = plane.shape[:2]
        tall = rows / columns * self.planes.stretch
        width = WIDTH if tall <= TALLEST else max(1, round(WIDTH * TALLEST / tall))
        height = max(1, round(width * tall))
        picture = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(picture.resize((width, height), how, reducing_gap=2.0))

    def canvas(self, image: Array) -> Array:
        """The image, C x S, as a picture, rows x columns x 3. Grey is windowed to its 1st to 99th percentile."""
        colours = len(image) == 3 and image.dtype == np.uint8
        planes = [self.plane(one) for one in (image if colours else image[:1])]
        if colours:
            return self.enlarge(np.stack(planes, -1), Image.Resampling.BICUBIC)
        grey = self.enlarge(_windowed(planes[0]), Image.Resampling.BICUBIC)
        return np.repeat(grey[..., None], 3, axis=2)

    def labels(self, mask: Array) -> Array:
        """The mask, S class indices, at the size of the picture."""
        return self.enlarge(self.plane(mask).astype(np.uint8))

    def heat(self, values: Array, highest: float) -> Array:
        """A map, S from 0, as a picture in the colours of `colour_scale`; `highest` is the bright end."""
        return self.enlarge(_heat(np.clip(np.nan_to_num(self.plane(values)) / max(highest, 1e-12), 0, 1)))

    def lettered(self, picture: Array) -> Array:
        """The picture with letters at its edges (R, L, A, P, S, I), where the file says what lies there."""
        letters = self.planes.letters
        if letters is None:
            return picture
        bottom, right = (edge - _MARGIN for edge in picture.shape[:2])
        places = (
            (_MARGIN, bottom / 2, "lm"),
            (right, bottom / 2, "rm"),
            (right / 2, _MARGIN, "mt"),
            (right / 2, bottom, "mb"),
        )
        drawn = Image.fromarray(np.ascontiguousarray(picture))
        pen = ImageDraw.Draw(drawn)
        font = ImageFont.load_default(LETTER)
        for letter, (x, y, anchor) in zip(letters, places, strict=True):
            pen.text((x, y), letter, LETTER_COLOUR, font, anchor, stroke_width=1, stroke_fill=(0, 0, 0))
        return np.asarray(drawn)


def overlay(canvas: Array, mask: Array, outline: Array | None = None, tint: float = 0.35) -> Array:
    """The mask's classes tinted and edged in their colours; `outline` (a reference) drawn over it in white."""
    out = canvas.copy()
    for label in np.unique(mask[mask > 0]):
        here = mask == label
        colour = np.array(COLOURS[(int(label) - 1) % len(COLOURS)])
        out[here] = (1 - tint) * out[here] + tint * colour
        out[_rim(here, 2)] = colour
    if outline is not None:
        out[_rim(outline, 1)] = 255
    return out


def colour_scale() -> Array:
    """The colours of maps, low to high, as a picture."""
    return np.repeat(_heat(np.linspace(0, 1, 128)[None]), 10, axis=0)


def legend(classes: Mapping[int, str]) -> list[tuple[str, str]]:
    """Name and CSS colour of every foreground class."""
    return [(name, f"rgb{COLOURS[(label - 1) % len(COLOURS)]}") for label, name in sorted(classes.items()) if label]


def _rim(mask: Array, width: int) -> Array:
    """What an erosion takes away. That of scipy takes longer to import than a contact sheet to draw."""
    core = mask
    for _ in range(width):
        near = np.pad(core, 1)
        core = core & near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
    return np.asarray(mask & ~core)


def _heat(share: Array) -> Array:
    import matplotlib

    return np.asarray((matplotlib.colormaps["magma"](share)[..., :3] * 255).astype(np.uint8))


def _windowed(plane: Array) -> Array:
    """Rows x columns of any range -> uint8."""
    some = plane[:: 1 + plane.shape[0] // _SAMPLED, :: 1 + plane.shape[1] // _SAMPLED].astype(np.float64)
    some = some[np.isfinite(some)]
    low, high = np.percentile(some, [1, 99]) if some.size else (0.0, 1.0)
    share = (plane.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-12))
    return np.asarray(np.nan_to_num(share).clip(0, 255).astype(np.uint8))
