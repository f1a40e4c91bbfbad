"""Pictures of cases: the right slice, the right way up, and a choice from the worst to the best."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ucseg.pictures.drawing import COLOURS, LETTER_COLOUR
from ucseg.pictures.gallery import GalleryCase, draw_row, spread
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry

GEOMETRY = Geometry(np.diag([1.0, 2.0, 3.0, 1.0]))


def test_a_gallery_spans_worst_to_best() -> None:
    scores = {f"c{i}": i / 10 for i in range(11)}
    assert spread(scores, 3) == ["c0", "c5", "c10"]
    assert spread({"b": 0.2, "a": 0.1}, 5) == ["a", "b"]


def _pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))


def test_a_volume_is_shown_where_the_reference_is_largest_as_radiologists_see_it() -> None:
    reference = np.zeros((20, 30, 8), dtype=np.uint8)
    reference[2:6, 20:28, 5] = 1  # low x, high y: the patient's left and front, so right and at the top
    reference[2:4, 20:22, 1] = 1
    noise = np.random.default_rng(0).normal(size=(1, 20, 30, 8))
    nothing, half = np.zeros_like(reference), np.full((20, 30, 8), 0.5)
    case = GalleryCase(
        "v", noise, GEOMETRY, Address.of("v.nii.gz"), reference, {"M": nothing}, {"M": "Dice 0.000"}, half
    )
    image, shown, predicted, uncertainty = draw_row(case, highest=1.0)
    assert image.caption == "axial slice k 5 of 0 to 7", "as labelled_slices counts"
    assert predicted.caption == "Dice 0.000"
    assert uncertainty.caption == "mean 0.500"
    picture = _pixels(shown.source)
    rows, columns = picture.shape[:2]
    assert rows / columns == pytest.approx(30 * 2 / (20 * 1), rel=0.02)  # square millimetres
    coloured = np.argwhere((picture == np.array(COLOURS[0])).all(axis=2))
    assert coloured[:, 0].max() < rows / 3
    assert coloured[:, 1].min() > columns * 2 / 3
    heat = _pixels(uncertainty.source).astype(int)
    assert np.ptp(heat[20:60, 20:80], axis=(0, 1)).max() == 0
    assert (picture != heat).any()
    for one in (image, shown, predicted, uncertainty):  # R, L, A and P
        letters = np.abs(_pixels(one.source) - np.array(LETTER_COLOUR)).max(axis=2) < 60
        middle = slice(rows // 2 - 10, rows // 2 + 10), slice(columns // 2 - 10, columns // 2 + 10)
        for edge in (
            letters[middle[0], :16],
            letters[middle[0], -16:],
            letters[:16, middle[1]],
            letters[-16:, middle[1]],
        ):
            assert edge.any()
