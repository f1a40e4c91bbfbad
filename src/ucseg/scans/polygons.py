"""Closed lines to pixels, and back: the one rule for contours of DICOM and polygons of annotation programs.

A pixel belongs to what is drawn where its centre lies inside or on the line. Lines inside of lines cut holes (an odd
number of crossings is inside). Lines drawn from a mask run along the edges of its pixels, so they come back as drawn.

Points are row, column, with the centre of the first pixel at 0, 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ucseg.types import Array

_SNAP = 0.005
"""Centres this near to a line, in pixels, lie on it: files round their numbers."""


def filled(rings: Iterable[Array], shape: Sequence[int]) -> Array:
    """H x W bool: the pixels inside or on closed lines, N x 2 each; what lies outside of the picture is cut off."""
    height, width = shape
    odd = np.zeros((height, width + 1), np.int32)  # changes along a row; summed, their parity is inside or outside
    on_line = np.zeros((height, width), bool)
    seen: set[bytes] = set()
    for ring in rings:
        points = np.asarray(ring, float)
        key = np.roll(points, -int(np.lexsort(points.T)[0]), axis=0).tobytes() if len(points) else b""
        if len(points) < 3 or key in seen:  # drawn twice it would cut itself out
            continue
        seen.add(key)
        start, end = points, np.roll(points, -1, axis=0)
        rows, columns = _crossings(start, end, height)
        first = np.clip(np.ceil(columns - _SNAP), 0, width).astype(np.intp)
        np.add.at(odd, (rows, first), 1)
        _draw(on_line, start, end)
        _draw(on_line, start[:, ::-1], end[:, ::-1], turned=True)
    inside: Array = (np.cumsum(odd[:, :width], axis=1) % 2 == 1) | on_line
    return inside


def _crossings(start: Array, end: Array, height: int) -> tuple[Array, Array]:
    """Where lines cross the rows of centres: the rows, whole, and the columns. A corner on a row counts once."""
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first, last = np.maximum(np.ceil(low), 0).astype(np.intp), np.minimum(np.ceil(high), height).astype(np.intp)
    counts = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(start)), counts)
    rows = first[edge] + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    part = (rows - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    return rows, start[edge, 1] + part * (end[edge, 1] - start[edge, 1])


def _draw(on_line: Array, start: Array, end: Array, turned: bool = False) -> None:
    """Mark the centres on lines, row by row; `turned`: the points are column, row."""
    steep = np.abs(end[:, 0] - start[:, 0]) >= np.abs(end[:, 1] - start[:, 1])
    start, end = start[steep], end[steep]
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first, last = np.ceil(low - _SNAP).astype(np.intp), np.floor(high + _SNAP).astype(np.intp)
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(start)), counts)
    along = first[edge] + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    length = end[edge, 0] - start[edge, 0]
    part = np.clip((along - start[edge, 0]) / np.where(length == 0, 1, length), 0, 1)
    across = start[edge, 1] + part * (end[edge, 1] - start[edge, 1])
    near = np.abs(across - np.rint(across)) <= _SNAP
    places = np.stack([along[near], np.rint(across[near]).astype(np.intp)], 1)
    places = places[:, ::-1] if turned else places
    places = places[((places >= 0) & (places < on_line.shape)).all(axis=1)]
    on_line[tuple(places.T)] = True


def outlines(mask: Array) -> list[Array]:
    """The edges of a mask, H x W bool, as closed lines, one for each part that hangs together by its pixels' sides.

    A hole is reached by a cut of no width along edges of pixels: every program reads that, also one that knows no
    holes. Corners only, N x 2.
    """
    loops = _loops(mask)
    rings: list[list[tuple[int, int]]] = []
    where: dict[tuple[int, int], int] = {}  # the ring that runs through a corner
    # From left to right: left of a hole's leftmost corner lies a line that is there already.
    for loop in sorted(loops, key=lambda loop: min((column, row) for row, column in loop)):
        leftmost = min(loop, key=lambda point: (point[1], point[0]))
        if _is_outer(loop):
            number = len(rings)
            rings.append(loop)
        else:
            row, column = leftmost
            while (row, column) not in where or column == leftmost[1]:
                column -= 1
            number = where[row, column]
            ring, at = rings[number], loop.index(leftmost)
            meet = ring.index((row, column))
            ring[meet:meet] = [(row, column), *loop[at:], *loop[:at], leftmost]
        where.update(dict.fromkeys(loop, number))
    return [_corners(np.array(ring, float) - 0.5) for ring in rings]


def _loops(mask: Array) -> list[list[tuple[int, int]]]:
    """Closed walks along pixel edges, every corner on the way; what is drawn lies to the right of each step."""
    padded = np.pad(np.asarray(mask, bool), 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for (down, right), inside, outside in (
        ((0, 1), padded[1:, 1:-1], padded[:-1, 1:-1]),  # along the upper side of a pixel, to the right
        ((0, -1), padded[:-1, 1:-1], padded[1:, 1:-1]),
        ((-1, 0), padded[1:-1, 1:], padded[1:-1, :-1]),  # along its left side, upwards
        ((1, 0), padded[1:-1, :-1], padded[1:-1, 1:]),
    ):
        for row, column in np.argwhere(inside & ~outside).tolist():
            begin = (row + (down < 0), column + (right < 0))
            steps[begin].append((down, right))
    loops = []
    while steps:
        point = next(iter(steps))
        walk, step = [], steps[point][0]
        while point in steps:
            ways = steps[point]
            # Where two pixels touch at a corner the walk turns right, and stays at its own pixel.
            turn = (step[1], -step[0])
            step = turn if turn in ways else ways[0]
            ways.remove(step)
            if not ways:
                del steps[point]
            walk.append(point)
            point = (point[0] + step[0], point[1] + step[1])
            if point == walk[0]:
                break
        loops.append(walk)
    return loops


def _is_outer(loop: list[tuple[int, int]]) -> bool:
    """Whether a walk with its pixels to the right goes around them, not around a hole."""
    points = np.array(loop)
    after = np.roll(points, -1, axis=0)
    return int((points[:, 1] * after[:, 0] - after[:, 1] * points[:, 0]).sum()) > 0


def _corners(points: Array) -> Array:
    """Without the points at which a line goes straight on; those at which it turns back stay."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept: Array = points[(before * after).sum(axis=1) <= 0]
    return kept
