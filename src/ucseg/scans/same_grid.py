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
"""Corners may lie so many voxels apart along an axis: headers are rounded, and in different ways."""
ELSEWHERE = 0.6
"""From here on a voxel of one scan lies in another voxel of the other. In between the pair is used and reported: some
programs place the corner of a voxel where others place its centre."""


@dataclass(frozen=True)
class Offset:
    """How far one scan lies from the grid of another.

    Attributes:
        voxels: how far two corner voxels lie apart at most along an axis of the other scan, in its voxels.
        distance: how far they lie apart at most, in the unit of the other scan.
        only_by: by what the two agree, where it is not their geometries as they are read; "" where it is.
    """

    voxels: float
    distance: float
    only_by: str = ""

    @property
    def close(self) -> bool:
        return self.voxels <= CLOSE

    @property
    def elsewhere(self) -> bool:
        return self.voxels > ELSEWHERE


def offset(own: Geometry, other: Geometry, shape: Sequence[int]) -> Offset:
    """How far a scan lies from the grid of another one of the same shape S.

    Where a header states no place, only the spacings are compared, and only where both files have one.
    """
    if not (own.states_place and other.states_place):
        only = "" if own.states_place == other.states_place else "their voxels: one of the two files states no place"
        apart = np.abs(np.subtract(own.spacing, other.spacing)) * np.subtract(shape, 1)
        if not (own.states_spacing and other.states_spacing):
            apart = np.zeros(len(shape))
        return Offset(float((apart / other.spacing).max()), float(np.linalg.norm(apart)), only)
    found = _measured(own, other, shape)
    if found.close:
        return found
    for ours in _readings(own):
        for theirs in _readings(other):
            again = _measured(ours[1], theirs[1], shape, ours[0] or theirs[0])
            if again.close:
                return again
    return found


def refuse_elsewhere(place: object, own: Geometry, image: Geometry, shape: Sequence[int]) -> None:
    """Raise a UserError where a mask of S lies elsewhere than its image by the headers of both."""
    found = offset(own, image, shape)
    if found.elsewhere:
        raise UserError(
            "geometry-differs",
            f"{place}: its header puts it elsewhere than its image: corners lie up to {found.voxels:.3g} voxels apart; "
            "give it the image's header if they agree voxel by voxel, else bring it to the image's grid.",
        )


def _measured(own: Geometry, other: Geometry, shape: Sequence[int], only_by: str = "") -> Offset:
    corners = own.corners(shape)
    at = corners @ np.linalg.solve(other.affine, own.affine).T
    return Offset(float(np.abs(at - corners).max()), own.displacement(other, shape), only_by)


def _readings(geometry: Geometry) -> list[tuple[str, Geometry]]:
    """The geometry as it is read, and the others that its header holds, each with its name."""
    return [("", geometry), *((name, replace(geometry, affine=affine)) for name, affine in geometry.others)]
