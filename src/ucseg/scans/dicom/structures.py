"""RT Structure Sets as masks, and masks as Structure Sets: contours in the slices of an image.

A voxel belongs to a structure where its centre lies inside or on a contour of its slice (see `polygons.py`). Contours
inside of contours cut holes. Written contours run along the edges of voxels, so they come back as drawn.

Structures overlap by their nature: a body holds organs, a margin holds its tumour. So the user's classes choose the
structures, by name, and classes that are named later lie on top. Points and open lines are no areas, and left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.dicom.series import dataset, read_file
from ucseg.scans.polygons import filled
from ucseg.scans.refusals import damage_of
from ucseg.scans.scan import LPS, Geometry, Scan
from ucseg.types import Array

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_OFF = 0.1
"""How far, in slices, a contour may lie from the slice it is drawn on: headers round."""
_TILT = 0.2


@dataclass(frozen=True)
class _Structure:
    """A structure with its contours, N x 3 in LPS mm each."""

    name: str
    contours: list[Array]


def is_structures(path: Path) -> bool:
    """Whether a file is an RT Structure Set; False also where it cannot be read."""
    try:
        return path.is_file() and read_file(path).kind == "structures"
    except (UserError, OSError):
        return False


def names(path: Path) -> dict[int, str]:
    """Value -> name of the structures that have closed contours, numbered 1, 2, ... in the order of the file."""
    return {number: one.name for number, one in enumerate(_structures(path), start=1)}


def read(path: Path, grid: tuple[tuple[int, ...], Geometry], wanted: Sequence[str] | None = None) -> Scan:
    """1 x S, unsigned: the numbers of structures as in `names`, 0 elsewhere.

    Args:
        grid: S and geometry of the image that the structures were drawn on.
        wanted: names of the structures to read, in any case; later ones lie on top. None: all, without overlap.

    Raises:
        UserError: structures do not lie in the slices of the image, leave slices out, or overlap unasked.
    """
    shape, geometry = grid
    if len(shape) != 3 or geometry.unit != "mm":
        raise UserError(
            "structures-of-plain-image",
            f"{path}: an RT Structure Set needs a volume as its image; check that they belong together.",
        )
    numbered = list(enumerate(_structures(path), start=1))
    order = None if wanted is None else [name.strip().lower() for name in wanted]
    if order is not None:
        numbered = [one for one in numbered if one[1].name.lower() in order]
        numbered.sort(key=lambda one: order.index(one[1].name.lower()))
    out = np.zeros(shape, np.uint8 if max((number for number, _ in numbered), default=0) < 256 else np.uint16)
    into_voxels = np.linalg.inv(geometry.affine)
    for number, one in numbered:
        mask = _mask(path, one, shape, into_voxels)
        if order is None and (out[mask] != 0).any():
            other = next(two.name for index, two in numbered if index == out[mask].max())
            raise UserError(
                "structures-overlap",
                f"{path}: its structures '{other}' and '{one.name}' overlap; name the structures that you want as "
                f"classes, for example --classes '{one.name}': of these, later ones lie on top.",
            )
        out[mask] = number
    return Scan(out[None], geometry, path)


def _structures(path: Path) -> list[_Structure]:
    header = dataset(path)
    with damage_of(path):
        lines: dict[int, list[Array]] = defaultdict(list)
        for one in header.get("ROIContourSequence") or []:
            for contour in one.get("ContourSequence") or []:
                if contour.get("ContourGeometricType") in _CLOSED and contour.get("ContourData"):
                    points = np.array(contour.ContourData, float).reshape(-1, 3)
                    lines[int(one.ReferencedROINumber)].append(points)
        found = [
            _Structure(str(one.get("ROIName") or f"structure {one.ROINumber}").strip(), lines[int(one.ROINumber)])
            for one in header.get("StructureSetROISequence") or []
            if int(one.ROINumber) in lines
        ]
    if not found:
        raise UserError(
            "structures-none", f"{path}: holds no structure with a closed contour; draw or export it again."
        )
    if any(not np.isfinite(points).all() for one in found for points in one.contours):
        raise UserError("structures-points", f"{path}: a contour has points that are no numbers; export it again.")
    return found


def _mask(path: Path, one: _Structure, shape: tuple[int, ...], into_voxels: Array) -> Array:
    """S bool."""
    lines = [(points * LPS) @ into_voxels[:3, :3].T + into_voxels[:3, 3] for points in one.contours]
    spread = np.max([np.ptp(points, axis=0) for points in lines], axis=0)
    through = int(np.argmin(spread))  # the axis of the image from slice to slice
    if spread[through] > _TILT:
        raise UserError(
            "structures-tilted",
            f"{path}: contours of '{one.name}' do not lie in slices of the image; check that they belong together.",
        )
    slices: dict[int, list[Array]] = defaultdict(list)
    within = [axis for axis in range(3) if axis != through]
    for points in lines:
        height = float(points[:, through].mean())
        if abs(height - round(height)) > _OFF:
            raise UserError(
                "structures-between",
                f"{path}: contours of '{one.name}' lie between the slices of the image; draw them on this image.",
            )
        slices[round(height)].append(points[:, within])
    flat = [shape[axis] for axis in within]
    reach = np.array([[points.min(axis=0), points.max(axis=0)] for rings in slices.values() for points in rings])
    apart = (reach[:, 1].max(axis=0) < -0.5).any() or (reach[:, 0].min(axis=0) > np.array(flat) - 0.5).any()
    if apart or min(slices) < 0 or max(slices) >= shape[through]:
        raise UserError(
            "structures-outside",
            f"{path}: '{one.name}' lies outside the image; check that they belong together.",
        )
    steps = np.diff(sorted(slices))
    if len(steps) and steps.min() > 1:
        raise UserError(
            "structures-gaps",
            f"{path}: '{one.name}' is drawn on every slice number {steps.min()} alone; fill in the slices between.",
        )
    out = np.zeros(shape, bool)
    across = np.moveaxis(out, through, 0)
    for index, rings in slices.items():
        across[index] = filled(rings, flat)
    return out
