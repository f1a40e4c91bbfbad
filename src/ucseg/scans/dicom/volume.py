"""A DICOM series as a volume: slices of one kind, in order, evenly along one line; or the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.dicom.series import DicomFile, Slice
from ucseg.scans.scan import LPS, Geometry
from ucseg.types import Array

_SAME_COSINE = 1e-3
_SAME_EDGE = 1e-3
"""Of a pixel's edge, as a part of it: over 500 pixels it adds up to half of one."""


def in_order(address: Path, files: Sequence[DicomFile]) -> tuple[list[Slice], Geometry]:
    """The slices of a series from first to last along their normal, and the geometry of columns x rows x slices.

    A tilted gantry shifts each slice within its plane; the affine is then sheared, as it is in truth.

    Raises:
        UserError: slices differ in size or orientation, do not lie on one line, are missing or are there twice.
    """
    slices = [one for file in files for one in file.slices]
    bare = [file for file in files if not file.slices]
    if bare:
        raise UserError(
            "slices-no-position",
            f"{address}: {len(bare)} files state no position (e.g. {bare[0].file.name}); export them with geometry.",
        )
    _alike(address, files, slices)
    first = slices[0]
    places = np.array([one.position for one in slices])
    along = places @ first.normal
    order = np.argsort(along, kind="stable")
    slices, places, along = [slices[i] for i in order], places[order], along[order]
    return slices, geometry_of(first, _step(address, slices, places, along), places[0])


def geometry_of(one: Slice, step: Array, position: Array) -> Geometry:
    """Of columns x rows x slices like this one, the first at a position, each a step from the last (both LPS, mm)."""
    columns, rows = np.array(one.rows) * one.spacing[0], np.array(one.columns) * one.spacing[1]
    affine = np.eye(4)
    affine[:3] = np.column_stack([columns, rows, step, position]) * LPS[:, None]
    return Geometry(affine, columns_first=True)


def _alike(address: Path, files: Sequence[DicomFile], slices: Sequence[Slice]) -> None:
    for what, found in (
        ("sizes", list(Counter(file.shape for file in files).values())),
        ("orientations", _alike_in(np.array([[*one.rows, *one.columns] for one in slices]), _SAME_COSINE)),
        ("pixel spacings", _alike_in(np.log([one.spacing for one in slices]), _SAME_EDGE)),
    ):
        if len(found) > 1:
            odd = min(found)
            raise UserError(
                "slices-mixed",
                f"{address}: its slices have {len(found)} different {what} ({odd} of {sum(found)} differ); "
                "put each kind into its own folder.",
            )


def _alike_in(values: Array, tolerance: float) -> list[int]:
    """How many rows of N x n values are alike, for each kind of them.

    Distances decide, from the middle of all. Rounded values would differ where they lie beside the edge of a digit.
    """
    found = []
    while len(values):
        near = (np.abs(values - np.median(values, axis=0)) <= tolerance).all(axis=1)
        if not near.any():  # two kinds that are equally many
            near = (np.abs(values - values[0]) <= tolerance).all(axis=1)
        found.append(int(near.sum()))
        values = values[~near]
    return found


def _step(address: Path, slices: Sequence[Slice], places: Array, along: Array) -> Array:
    """From one slice to the next, LPS mm; through a single slice."""
    if len(slices) == 1:
        return slices[0].normal * (slices[0].thickness or 1.0)
    gaps = np.diff(along)
    same = gaps < 1e-3
    if same.all() or same.sum() >= len(gaps) / 2:
        times = len(slices) / (1 + int((~same).sum()))
        raise UserError(
            "slices-repeated",
            f"{address}: {times:.3g} slices lie at each place (time points, echoes, copies); give each its own folder.",
        )
    if same.any():
        at = int(np.argmax(same))
        pair = " and ".join(_name(one) for one in slices[at : at + 2])
        raise UserError(
            "slices-twice",
            f"{address}: two slices lie at one place, {int(same.sum())} times (e.g. {pair}); remove one of each pair.",
        )
    usual = float(np.median(gaps))
    wide = gaps > 1.5 * usual
    if wide.any():
        at = int(np.argmax(wide))
        missing = round(float((gaps[wide] / usual - 1).sum()))
        raise UserError(
            "slices-missing",
            f"{address}: about {missing} slices are missing, the first after {_name(slices[at])} "
            f"(gap {gaps[at]:.4g} mm, elsewhere {usual:.4g} mm); copy the series again.",
        )
    step: Array = (places[-1] - places[0]) / (len(slices) - 1)
    off = np.linalg.norm(places - (places[0] + np.arange(len(slices))[:, None] * step), axis=1).max()
    if off > 0.1 * usual:
        raise UserError(
            "slices-uneven",
            f"{address}: its slices are not evenly spaced along one line (up to {off:.3g} mm off, gaps from "
            f"{gaps.min():.4g} to {gaps.max():.4g} mm); resample the series to even slices, e.g. to NIfTI.",
        )
    return step


def _name(one: Slice) -> str:
    return one.file.name if one.frame == 0 else f"{one.file.name}, frame {one.frame + 1}"
