"""What the text of a NRRD or MetaImage header says and ITK passes over: units, vectors as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.types import Array

_SPACES = ("space:", "space dimension:", "space directions:")
"""A NRRD header without one of these fields says how large voxels are, but not where they lie."""
_OF_SPACE = ("domain", "space", "time")
"""Kinds of axes that ITK counts."""
_MILLIMETRES = {"": 1.0, "?": 1.0, "pixel": 1.0, "none": 1.0, "???": 1.0} | {
    name: scale
    for scale, names in (
        (1e-6, ("nm", "nanometer", "nanometers", "nanometre", "nanometres")),
        (
            1e-3,
            ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
        ),
        (1.0, ("mm", "millimeter", "millimeters", "millimetre", "millimetres")),
        (10.0, ("cm", "centimeter", "centimeters", "centimetre", "centimetres")),
        (1000.0, ("m", "meter", "meters", "metre", "metres")),
        (25.4, ("in", "inch", "inches")),
    )
    for name in names
}
"""Of a unit's names in lower case. Without a unit: mm, as every program takes it."""


def is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in (".nrrd", ".nhdr")


def units_of(path: Path, dims: int, rank_of_file: int) -> tuple[Array, Array]:
    """Millimetres in the units of the world's axes, and in those of the voxels' axes where these have their own.

    Args:
        dims: of the scan.
        rank_of_file: axes that ITK counts; the scan has the first of them.

    NRRD: `space units`, or `units` of axes with `spacings`. MetaImage: `DistanceUnits`. ITK passes over all of them.

    Raises:
        UserError: a unit is not known.
    """
    world, along = np.ones(dims), np.ones(dims)
    found = {name.strip().lower(): value.strip() for name, value in map(_split_field, header_lines(path))}
    if not is_nrrd(path):
        world[:] = _millimetres(path, found.get("distanceunits", ""))
        return world, along
    if "space units" in found:
        names = re.findall(r'"([^"]*)"', found["space units"])
        if len(names) >= dims:
            world = np.array([_millimetres(path, name) for name in names[:dims]])
    elif "units" in found and "space directions" not in found:
        names, kinds = re.findall(r'"([^"]*)"', found["units"]), found.get("kinds", "").lower().split()
        if len(names) > rank_of_file and len(kinds) == len(names):  # one axis holds the values of a voxel
            names = [name for name, kind in zip(names, kinds, strict=True) if kind in _OF_SPACE]
        names = names[len(names) - rank_of_file :][:dims] if len(names) >= rank_of_file else []
        if len(names) == dims:
            along = np.array([_millimetres(path, name) for name in names])
    return world, along


def _split_field(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=" if ":" not in line.partition("=")[0] else ":")
    return name, value


def _millimetres(path: Path, unit: str) -> float:
    if unit not in _MILLIMETRES and unit.lower() not in _MILLIMETRES:
        raise UserError(
            "scan-unit", f"{path}: its unit '{unit}' is not known; write the header in mm, the unit of all other files."
        )
    return _MILLIMETRES.get(unit, _MILLIMETRES.get(unit.lower(), 1.0))


def nrrd_vectors(path: Path) -> Array:
    """The "space directions" of an NRRD header as columns; an empty array where there are none."""
    for line in header_lines(path):
        if line.lower().startswith("space directions:"):
            rows = re.findall(r"\(([^)]*)\)", line)
            try:
                return np.array([[float(v) for v in row.split(",")] for row in rows]).T
            except ValueError:
                break
    return np.empty((0, 0))


def header_lines(path: Path) -> Iterator[str]:
    """The lines of an NRRD header, which an empty one ends, or of a MetaImage's, which names its data at last."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                break
            yield line.decode("utf-8", "replace").strip()
            if line.partition(b"=")[0].strip() == b"ElementDataFile":
                break


def is_placed(path: Path) -> bool:
    """Whether a header says where its voxels lie, not only how large they are."""
    return not is_nrrd(path) or any(line.lower().startswith(_SPACES) for line in header_lines(path))
