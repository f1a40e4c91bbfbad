"""Do two scans of one shape lie on one grid? One function answers for every verb.

Headers round, and programs read them in different ways: NIfTI may hold two geometries, or none, and units that some
programs leave out. So a pair that agrees by another of its geometries is right, and reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.scan import Geometry

CLOSE = 0.1
"""Corners may lie so many voxel edges apart: headers are rounded, and in different ways."""
ELSEWHERE = 1.0
"""From here on a voxel of one scan lies in another voxel of the other. In between the pair is used and reported."""


@dataclass(frozen=True)
class Offset:
    """How far one scan lies from the grid of another.

    Attributes:
        edges: the largest distance of two corner voxels, in the shortest edge of a voxel.
        distance: the same in the unit of the other scan.
        only_by: by what the two agree, where it is not their geometries as they are read; "" where it is.
    """

    edges: float
    distance: float
    only_by: str = ""

    @property
    def close(self) -> bool:
        return self.edges <= CLOSE

    @property
    def elsewhere(self) -> bool:
        return self.edges > ELSEWHERE


def offset(own: Geometry, other: Geometry, shape: Sequence[int]) -> Offset:
    """How far a scan lies from the grid of another one of the same shape S.

    Where a header states no place, only the spacings are compared, and only where both files have one.
    """
    if not (own.states_place and other.states_place):
        only = "" if own.states_place == other.states_place else "their voxels: one of the two files states no place"
        stated = own.states_spacing and other.states_spacing
        edges = np.abs(np.subtract(own.spacing, other.spacing)) * np.subtract(shape, 1)
        return _measured(float(np.linalg.norm(edges)) if stated else 0.0, other, only)
    found = _measured(own.displacement(other, shape), other)
    if found.close:
        return found
    for ours in _readings(own):
        for theirs in _readings(other):
            again = _measured(ours[1].displacement(theirs[1], shape), other, ours[0] or theirs[0])
            if again.close:
                return again
    return found


def refuse_elsewhere(place: object, own: Geometry, image: Geometry, shape: Sequence[int]) -> None:
    """Raise a UserError where a mask of S lies elsewhere than its image by the headers of both."""
    found = offset(own, image, shape)
    if found.elsewhere:
        raise UserError(
            "geometry-differs",
            f"{place}: its header puts it elsewhere than its image: corners lie up to {found.edges:.3g} voxel edges "
            "apart; give it the image's header if they agree voxel by voxel, else bring it to the image's grid.",
        )


def _measured(distance: float, other: Geometry, only_by: str = "") -> Offset:
    return Offset(distance / min(other.spacing), distance, only_by)


def _readings(geometry: Geometry) -> list[tuple[str, Geometry]]:
    """The geometry as it is read, and the others that its header holds, each with its name."""
    return [("", geometry), *((name, replace(geometry, affine=affine)) for name, affine in geometry.others)]
