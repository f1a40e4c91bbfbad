"""Closed lines to pixels and back, beside a slow and literal rule: one pixel, one line at a time."""

from __future__ import annotations

import numpy as np
import scipy
from PIL import Image, ImageDraw

from ucseg.scans.polygons import filled, outlines

RNG = np.random.default_rng(0)


def belongs(row: float, column: float, ring: np.ndarray) -> bool:
    """Whether a point lies on a line or inside: a ray to the right crosses the line an odd number of times."""
    odd = False
    for (r1, c1), (r2, c2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        turned = (c2 - c1) * (row - r1) - (r2 - r1) * (column - c1)
        if turned == 0 and (row - r1) * (row - r2) <= 0 and (column - c1) * (column - c2) <= 0:
            return True
        if (r1 <= row) != (r2 <= row) and column < c1 + (row - r1) / (r2 - r1) * (c2 - c1):
            odd = not odd
    return odd


def test_a_pixel_belongs_where_its_centre_lies_inside_or_on_the_line() -> None:
    for trial in range(60):
        count = int(RNG.integers(3, 9))
        ring = RNG.integers(-6, 30, (count, 2)) / (1 + trial % 2)  # so that no line passes a centre narrowly
        expected = [[belongs(row, column, ring.astype(float)) for column in range(11)] for row in range(12)]
        assert np.array_equal(filled([ring], (12, 11)), expected), ring


def test_shapes_by_hand() -> None:
    square = np.array([[1, 1], [1, 4], [4, 4], [4, 1]])
    assert filled([square], (6, 6)).sum() == 16, "corners on centres: these pixels belong"
    assert filled([square - 0.5], (6, 6)).sum() == 9, "corners between centres: as drawn"
    hole = np.array([[1.5, 1.5], [1.5, 3.5], [3.5, 3.5], [3.5, 1.5]])
    assert filled([square - 0.0, hole], (6, 6)).sum() == 16 - 4
    assert filled([square, np.roll(square, 2, axis=0)], (6, 6)).sum() == 16, "a line drawn twice cuts nothing out"
    assert not filled([square[:2]], (6, 6)).any()
    assert np.array_equal(filled([square + 1000.0, square * 1e-9 - 3], (6, 6)), np.zeros((6, 6), bool))


def test_outlines_of_masks_come_back_as_drawn() -> None:
    for _ in range(150):
        mask = RNG.random(RNG.integers(1, 13, 2)) < RNG.choice([0.2, 0.5, 0.7, 0.9])
        rings = outlines(mask)
        assert np.array_equal(filled(rings, mask.shape), mask)
        assert len(rings) == scipy.ndimage.label(mask)[1], "one line a part, holes included"
    assert outlines(np.zeros((3, 3))) == []


def test_an_outline_holds_corners_on_the_edges_of_pixels_only() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (ring,) = outlines(mask)
    assert sorted(map(tuple, ring)) == [(0.5, 1.5), (0.5, 6.5), (3.5, 1.5), (3.5, 6.5)]
    mask[2, 4] = False
    (ring,) = outlines(mask)
    assert np.array_equal(ring % 1, np.full(ring.shape, 0.5))


def test_another_program_fills_an_outline_with_a_hole_as_drawn() -> None:
    """Of pillow, on a grid ten times as fine: its own rule at the line is another one."""
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:7] = True
    mask[3:5, 2:4], mask[5:7, 5] = False, False
    (ring,) = outlines(mask)
    image = Image.new("1", (90, 90))
    ImageDraw.Draw(image).polygon([((x + 0.5) * 10, (y + 0.5) * 10) for y, x in ring], fill=1)
    assert np.array_equal(np.asarray(image)[5::10, 5::10], mask)
