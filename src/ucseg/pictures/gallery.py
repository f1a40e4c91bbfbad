"""Pictures of cases for a report: image, reference, each method's mask with the reference's outline, uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ucseg.pictures.drawing import View, overlay
from ucseg.pictures.page import exact_uri
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry
from ucseg.types import Array


@dataclass(frozen=True)
class GalleryCase:
    """One row of pictures.

    Attributes:
        image: C x S as read; C = 3 is shown in colour.
        source: where the image came from.
        reference: S class indices; None: not known.
        predictions: heading -> S class indices.
        captions: heading -> what stands below ("Dice 0.912").
        uncertainty: S in (0, 1]; None: there is no map.
    """

    case: str
    image: Array
    geometry: Geometry
    source: Address
    reference: Array | None = None
    predictions: Mapping[str, Array] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    uncertainty: Array | None = None


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


def draw_row(case: GalleryCase, highest: float, uri: Callable[[Array], str] = exact_uri) -> list[Picture]:
    """The pictures of a case. A volume shows the slice that holds most of the reference, or else of the first mask.

    Args:
        highest: the uncertainty at the bright end of its colours, the same for all rows of a page.
        uri: makes a picture (rows x columns x 3, uint8) a part of the page.

    Raises:
        UserError: the geometry does not span the space.
    """
    leads = [mask for mask in (case.reference, *case.predictions.values()) if mask is not None and mask.any()]
    view = View.of(case.geometry, case.image.shape[1:], case.source, leads[0] if leads else None)
    canvas = view.canvas(case.image)

    def drawn(picture: Array) -> str:
        return uri(view.lettered(picture))

    pictures = [Picture("Image", view.where, drawn(canvas))]
    reference = None
    if case.reference is not None:
        reference = view.labels(case.reference)
        pictures.append(Picture("Reference", "", drawn(overlay(canvas, reference))))
    for heading, prediction in case.predictions.items():
        shown = overlay(canvas, view.labels(prediction), outline=None if reference is None else reference > 0)
        pictures.append(Picture(heading, case.captions.get(heading, ""), drawn(shown)))
    if case.uncertainty is not None:
        mean = float(case.uncertainty.mean())
        heat = drawn(view.heat(case.uncertainty, highest))
        pictures.append(Picture("Uncertainty", f"mean {mean:.3f}", heat))
    return pictures
