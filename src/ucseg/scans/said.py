"""What a user says of scans whose files do not say it, say two things, or say too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ucseg.errors import UserError

HeaderPart = Literal["qform", "sform", "pixdim"]
MOST_VOXELS = 2**30
"""Voxels of a scan, over all channels, unless the user says otherwise: 1024 x 1024 x 1024."""


@dataclass(frozen=True)
class Said:
    """It goes with the address of a scan, so that every verb reads the scan in the same way.

    Attributes:
        geometry: which part of a NIfTI header counts; None: see `nifti.py`. Where a file has no such part, its own.
        spacing: edges of a voxel in mm along the array's axes, of files that state none; () where nobody says it.
        max_voxels: scans with more are refused before any voxel is read.
        palette: of masks in colours: the colour of each class, the background's first. () where colours are no classes.
    """

    geometry: HeaderPart | None = None
    spacing: tuple[float, ...] = ()
    max_voxels: int = MOST_VOXELS
    palette: tuple[tuple[int, int, int], ...] = ()


NOTHING = Said()


def said(geometry: str | None = None, spacing: str | None = None, max_voxels: int | None = None) -> Said:
    """What the options --geometry, --spacing ("10,1.5,1.5") and --max-voxels say; a UserError if they cannot be met."""
    if geometry is not None and geometry not in get_args(HeaderPart):
        known = ", ".join(get_args(HeaderPart))
        raise UserError("geometry-unknown", f"--geometry {geometry} is not known; use one of {known}.")
    return Said(geometry, _edges(spacing), MOST_VOXELS if max_voxels is None else max_voxels)  # type: ignore[arg-type]


def _edges(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        edges = tuple(float(word) for word in text.split(","))
    except ValueError:
        edges = ()
    if len(edges) not in (2, 3) or not np.isfinite(edges).all() or min(edges) <= 0:
        raise UserError(
            "spacing-numbers",
            f"--spacing {text[:40]} is no spacing; give mm along each axis of the arrays, such as 10,1.5,1.5.",
        )
    return edges
