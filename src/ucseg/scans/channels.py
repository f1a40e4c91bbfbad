"""Several files as the channels of one scan: on one grid, or refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.scan import Geometry, Scan

TOLERANCE = 0.1
"""Corners of two channels may part by this many voxel edges: headers round, and round differently."""

Header = tuple[tuple[int, ...], Geometry, int]


def read(scans: list[Scan], address: Path) -> Scan:
    """Several files' scans as one: C x S, the channels in order; geometry and header are the first file's.

    Raises:
        UserError: a file cannot be read, holds several channels itself, or lies on another grid than the first.
    """
    for scan in scans:
        _agree((scan.array.shape[1:], scan.geometry, len(scan.array)), scan.source, scans[0].geometry, scans[0])
    kind = np.result_type(*(scan.array.dtype for scan in scans))
    array = np.concatenate([scan.array.astype(kind, copy=False) for scan in scans])
    return Scan(array, scans[0].geometry, address, scans[0].header)


def read_union(scans: list[Scan], address: Path) -> Scan:
    """The parts of a mask as one: 1 x S, in each voxel the greatest value.

    Raises:
        UserError: a part is a picture in colours, or of another shape than the first.
    """
    greatest = scans[0].array[:1]
    for scan in scans:
        if any((channel != scan.array[0]).any() for channel in scan.array[1:]):
            raise UserError("todo", f"{scan.source}: the mask is a picture in colours; save it with one channel.")
        if scan.array.shape[1:] != greatest.shape[1:]:
            raise UserError(
                "todo",
                f"{scan.source}: has shape {scan.array.shape[1:]}, {scans[0].source.name} {greatest.shape[1:]}; "
                "masks of one image must have one size.",
            )
        greatest = np.maximum(greatest, scan.array[:1])
    return Scan(greatest, scans[0].geometry, address, scans[0].header)


def read_header(headers: list[Header], address: Address) -> Header:
    """Shape, geometry and number of channels; raises as `read`."""
    shape, geometry, _ = headers[0]
    for path, header in zip(address.files, headers, strict=True):
        _agree(header, path, geometry, (shape, address.file))
    return shape, geometry, len(headers)


def _agree(found: Header, path: Path, geometry: Geometry, first: Scan | tuple[tuple[int, ...], Path]) -> None:
    shape, name = (first.array.shape[1:], first.source) if isinstance(first, Scan) else first
    if found[2] != 1:
        raise UserError(
            "todo",
            f"{path}: a channel's file holds one channel, this one has {found[2]}; convert it to grey.",
        )
    if found[0] != shape:
        raise UserError(
            "todo",
            f"{path}: has shape {found[0]}, the first channel {name.name} {shape}; "
            "register and resample the channels to one grid.",
        )
    other = found[1]
    if other.unit == geometry.unit:
        corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in shape))], dtype=float).T
        apart = float(np.linalg.norm((geometry.affine - other.affine) @ corners, axis=0).max()) / min(geometry.spacing)
        if apart <= TOLERANCE:
            return
    raise UserError(
        "todo",
        f"{path}: does not lie where the first channel {name.name} lies (spacing, origin or direction differ); "
        "register and resample the channels to one grid.",
    )
