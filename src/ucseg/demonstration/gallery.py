"""Pictures of cases for a report: image, reference, each method's mask with the reference's outline, uncertainty.

Pictures are PNGs within the HTML (data URIs), so that a report is one file that can be sent or kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from ucseg.evaluation.page import png_uri
from ucseg.types import Array

WIDTH = 220  # of a picture, in pixels
# Foreground classes 1, 2, ..., different to colour-blind eyes too (after Okabe & Ito 2008); more classes start again.
COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0))


@dataclass(frozen=True)
class GalleryCase:
    """One row of pictures.

    Attributes:
        image: C x S as read; C = 3 is shown in colour.
        reference: S class indices.
        predictions: heading -> S class indices.
        scores: heading -> the case's Dice, mean over classes.
        uncertainty: S in (0, 1].
    """

    case: str
    image: Array
    reference: Array
    predictions: Mapping[str, Array]
    scores: Mapping[str, float]
    uncertainty: Array
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """A picture as it stands in the page."""

    heading: str
    caption: str
    source: str  # data URI


def spread(scores: Mapping[str, float], count: int) -> list[str]:
    """`count` cases from the worst to the best score at even ranks, so that a gallery is not a choice of the best."""
    ranked = sorted(scores, key=lambda case: (scores[case], case))
    if len(ranked) <= count:
        return ranked
    return [ranked[round(i)] for i in np.linspace(0, len(ranked) - 1, count)]


def draw_row(case: GalleryCase, highest: float) -> list[Picture]:
    """The pictures of a case. A volume shows the slice, across its last axis, that holds most of the reference.

    `highest` is the uncertainty at the bright end of its colours, the same for all rows of a page.
    """
    index = int(np.argmax((case.reference > 0).sum(axis=(0, 1)))) if case.reference.ndim == 3 else None
    where = "" if index is None else f"slice {index + 1} of {case.reference.shape[2]}"
    view = _View(index, case.spacing)
    canvas = _shown(np.stack([view.plane(channel) for channel in case.image]))
    grey = view.enlarge(canvas, Image.Resampling.BICUBIC)
    reference = view.enlarge(view.plane(case.reference).astype(np.uint8), Image.Resampling.NEAREST)
    pictures = [
        Picture("Image", where, _uri(grey)),
        Picture("Reference", "", _uri(_overlay(grey, reference, outline=None))),
    ]
    for heading, prediction in case.predictions.items():
        mask = view.enlarge(view.plane(prediction).astype(np.uint8), Image.Resampling.NEAREST)
        caption = f"Dice {case.scores[heading]:.3f}"
        pictures.append(Picture(heading, caption, _uri(_overlay(grey, mask, outline=reference > 0))))
    share = np.clip(view.plane(case.uncertainty) / highest, 0, 1)
    heat = (matplotlib.colormaps["magma"](share)[..., :3] * 255).astype(np.uint8)
    mean = float(case.uncertainty.mean())
    pictures.append(Picture("Uncertainty", f"mean {mean:.3f}", _uri(view.enlarge(heat, Image.Resampling.NEAREST))))
    return pictures


def colour_scale() -> str:
    """The colours of the uncertainty pictures, low to high, as a data URI."""
    ramp = matplotlib.colormaps["magma"](np.linspace(0, 1, 128))[None, :, :3]
    return _uri((np.repeat(ramp, 10, axis=0) * 255).astype(np.uint8))


def legend(classes: Mapping[int, str]) -> list[tuple[str, str]]:
    """Name and CSS colour of every foreground class."""
    return [(name, f"rgb{COLOURS[(label - 1) % len(COLOURS)]}") for label, name in sorted(classes.items()) if label]


class _View:
    """How S becomes a picture: which slice, turned how, enlarged to square pixels of equal width."""

    def __init__(self, index: int | None, spacing: Sequence[float]) -> None:
        self.index = index
        across, down = (spacing[0], spacing[1]) if index is not None else (spacing[1], spacing[0])
        self.stretch = down / across

    def plane(self, array: Array) -> Array:
        """Rows x columns. Volumes are x, y, z: x runs to the right and y upwards."""
        return array if self.index is None else np.rot90(array[:, :, self.index])

    def enlarge(self, plane: Array, how: Image.Resampling) -> Array:
        height = max(1, round(WIDTH * plane.shape[0] / plane.shape[1] * self.stretch))
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((WIDTH, height), how))


def _shown(planes: Array) -> Array:
    """C x rows x columns of any range -> rows x columns x 3, uint8. Grey is windowed to its 1st to 99th percentile."""
    if len(planes) == 3 and planes.dtype == np.uint8:
        return np.moveaxis(planes, 0, -1)
    plane = planes[0].astype(np.float64)
    low, high = np.percentile(plane, [1, 99])
    grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _overlay(canvas: Array, mask: Array, outline: Array | None) -> Array:
    """The mask's classes tinted and edged in their colours; `outline` (the reference) drawn over it in white."""
    out = canvas.astype(np.float64)
    for label in np.unique(mask[mask > 0]):
        here = mask == label
        colour = np.array(COLOURS[(int(label) - 1) % len(COLOURS)], dtype=np.float64)
        out[here] = 0.65 * out[here] + 0.35 * colour
        out[here & ~binary_erosion(here, iterations=2)] = colour
    if outline is not None:
        out[outline & ~binary_erosion(outline, iterations=1)] = 255
    return out.astype(np.uint8)


def _uri(picture: Array) -> str:
    return png_uri(lambda file: Image.fromarray(picture).save(file, format="PNG", optimize=True))
