"""Distances between the surfaces of two masks (contours in 2D), weighted by area (length).

Where the surface is. A mask's surface passes *between* voxels, half-way between a voxel inside and its neighbour
outside, as marching cubes (marching squares in 2D) draws it. Every corner point that 2^n voxels share, some inside and
some outside, carries one surface element: its position is the corner point, its weight the area (length) of the
surface within the cell spanned by the centres of those 2^n voxels. This is the definition of Nikolov et al. 2021,
"Clinically applicable segmentation of head and neck anatomy" (doi 10.2196/26151), and results are comparable with
their `surface-distance` package. It was chosen over counting boundary voxels (MedPy, MONAI, scikit-image), because

- on anisotropic voxels a count gives a thick-sliced axis too many or too few votes; an area does not;
- inside and outside are treated alike: a structure of one voxel has a surface around it, and a layer of voxels more
  or less moves the surface by one spacing.

The outside of the image counts as background: a structure cut by the image's edge has a surface there.

Nearest elements are found with a k-d tree, not a distance transform: exact too, but time and memory follow the surface
instead of the volume (measured on a structure of 400 x 360 x 180 voxels: 1 s instead of 28 s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from ucseg.types import Array

# Spacings in headers are often float32 (0.2 is stored as 0.200000003): a distance of ten voxels must still be within a
# tolerance of 2 mm.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDistances:
    """From every surface element of one mask to the nearest one of the other, both ways.

    Attributes:
        first, second: distances of the elements of the first (second) mask to the other, in units of the spacing.
        first_weight, second_weight: the elements' areas (3D) or lengths (2D), in that unit to the power n - 1.
    """

    first: Array
    first_weight: Array
    second: Array
    second_weight: Array

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The larger of the two directed distances that `percentile` % of the surface (by area) does not exceed."""
        return max(
            _weighted_percentile(self.first, self.first_weight, percentile),
            _weighted_percentile(self.second, self.second_weight, percentile),
        )

    def average(self) -> float:
        """Average symmetric surface distance: the mean over both surfaces together, by area."""
        moment = float(self.first @ self.first_weight) + float(self.second @ self.second_weight)
        return moment / float(self.first_weight.sum() + self.second_weight.sum())

    def dice(self, tolerance: float) -> float:
        """Surface Dice: the share of both surfaces together, by area, that lies within `tolerance` of the other."""
        limit = tolerance * (1 + ROUNDING)
        close = self.first_weight[self.first <= limit].sum() + self.second_weight[self.second <= limit].sum()
        return float(close / (self.first_weight.sum() + self.second_weight.sum()))


def surface_distances(
    first: Array, second: Array, spacing: tuple[float, ...], counted: Array | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Args:
        first, second: S bool, of rank 2 or 3, each with something inside.
        spacing: edge lengths of a voxel along the axes of S.
        counted: S + 1 bool, the corner points whose elements count; None: all. It may leave a mask without any.

    Raises:
        ValueError: a mask is empty (its surface does not exist), or ranks or shapes differ.
    """
    if first.shape != second.shape or len(spacing) != first.ndim:
        raise ValueError(f"shapes {first.shape}, {second.shape} and spacing {spacing} do not belong together")
    if not (first.any() and second.any()):
        raise ValueError("an empty mask has no surface")
    weights = element_weights(tuple(float(edge) for edge in spacing))
    codes = (corner_codes(first), corner_codes(second))
    full = len(weights) - 1
    border = tuple((code != 0) & (code != full) for code in codes)
    if counted is not None:
        border = tuple(there & counted for there in border)
    places = tuple(np.argwhere(there) for there in border)
    # An element that both surfaces have is at distance zero; only the others need a search.
    shared = tuple(border[1 - k][border[k]] for k in (0, 1))
    edges = np.asarray(spacing, dtype=np.float64)
    return SurfaceDistances(
        first=_nearest(places[0], places[1], shared[0], edges),
        first_weight=weights[codes[0][border[0]]],
        second=_nearest(places[1], places[0], shared[1], edges),
        second_weight=weights[codes[1][border[1]]],
    )


def known_corners(unknown: Array, box: tuple[slice, ...]) -> Array:
    """The corner points of a box in S whose 2^n voxels are all known: box + 1 bool.

    Args:
        unknown: S bool. Outside of the image all is known: it is background.
    """
    around = np.pad(unknown, 1)[tuple(slice(side.start, side.stop + 2) for side in box)]
    for axis in range(unknown.ndim):
        ahead = np.moveaxis(around, axis, 0)
        around = np.moveaxis(ahead[:-1] | ahead[1:], 0, axis)
    return ~around


def corner_codes(mask: Array) -> Array:
    """Which of the 2^n voxels around every corner point are inside: bit sum_a offset_a 2^a. Shape S + 1, uint8."""
    code: Array = np.zeros([edge + 2 for edge in mask.shape], np.uint8)
    code[(slice(1, -1),) * mask.ndim] = mask
    for axis in range(mask.ndim):
        before = (slice(None),) * axis
        code = code[(*before, slice(None, -1))] | (code[(*before, slice(1, None))] << (1 << axis))
    return code


def element_weights(spacing: tuple[float, ...]) -> Array:
    """Area (length) of the surface in a cell, for each of the 2^(2^n) corner codes. Float64."""
    return _lengths(spacing) if len(spacing) == 2 else _areas(spacing)


@lru_cache(maxsize=256)
def _lengths(spacing: tuple[float, ...]) -> Array:
    """Marching squares. A lone corner is cut off by a diagonal; two neighbours are divided from the others straight."""
    diagonal = 0.5 * math.hypot(*spacing)
    lengths = np.zeros(16)
    for code in range(1, 15):
        inside = {corner for corner in range(4) if code >> corner & 1}  # corner = offset_0 + 2 offset_1
        if len(inside) in (1, 3):
            lengths[code] = diagonal
        elif inside in ({0, 3}, {1, 2}):  # opposite corners: each is cut off
            lengths[code] = 2 * diagonal
        else:  # neighbours along axis 0 ({0, 1}, {2, 3}): the line between runs along axis 0
            lengths[code] = spacing[0] if inside in ({0, 1}, {2, 3}) else spacing[1]
    return lengths


@lru_cache(maxsize=256)
def _areas(spacing: tuple[float, ...]) -> Array:
    edges = np.asarray(spacing)
    areas = np.zeros(256)
    for code, triangles in enumerate(_cell_triangles()):
        a, b, c = np.moveaxis(triangles * edges, 1, 0)
        areas[code] = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return areas


@lru_cache(maxsize=1)
def _cell_triangles() -> tuple[Array, ...]:
    """Triangles (K x 3 corners x 3 coordinates) of the surface within a unit cell, for each of the 256 corner codes.

    Marching cubes after Lorensen & Cline 1987. It leaves open how to connect corners across a face that has its inside
    corners on a diagonal. We draw a cell with more than four corners inside as its complement, as `surface-distance`
    does. So a mask and its complement have the same surface.
    """
    triangles: list[Array] = []
    for code in range(256):
        drawn = code if code.bit_count() <= 4 else 255 - code
        if drawn == 0:
            triangles.append(np.zeros((0, 3, 3)))
            continue
        corners = [(drawn >> bit) & 1 for bit in range(8)]
        cell = np.array(corners, dtype=np.float32).reshape((2, 2, 2), order="F")
        vertices, faces, _, _ = marching_cubes(cell, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
        triangles.append(np.round(2 * vertices.astype(np.float64))[faces] / 2)  # vertices are mid-points of edges
    return tuple(triangles)


def _nearest(places: Array, targets: Array, shared: Array, edges: Array) -> Array:
    distances = np.zeros(len(places))
    apart = places[~shared]
    if len(apart) and len(targets):
        # The sliding mid-point rule suits points on a grid: quicker to build, and no slow queries from far inside.
        tree = KDTree(targets * edges, balanced_tree=False, compact_nodes=False)
        _, found = tree.query(apart * edges)
        # From whole numbers of voxels, so that equal distances are equal wherever in the image they are.
        distances[~shared] = np.sqrt((((apart - targets[found]) * edges) ** 2).sum(axis=1))
    return distances


def _weighted_percentile(values: Array, weights: Array, percentile: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    place = np.searchsorted(share, percentile / 100 * share[-1] * (1 - 1e-12))
    return float(values[order[min(int(place), len(order) - 1)]])
