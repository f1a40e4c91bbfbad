"""Several files as the channels of one scan: on one grid, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from ucseg.errors import UserError, some
from ucseg.scans import refusals
from ucseg.scans.address import Address
from ucseg.scans.nesting import put
from ucseg.scans.palette import SHOWN, colours_in, main_colours
from ucseg.scans.same_grid import offset
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Array

Header = tuple[tuple[int, ...], Geometry, int]


def read(scans: list[Scan], address: Address) -> Scan:
    """Several files' scans as one: C x S, the channels in order; geometry and header are the first file's.

    Raises:
        UserError: a file holds several channels, or lies on another grid than the first.
    """
    read_header([(scan.array.shape[1:], scan.geometry, len(scan.array)) for scan in scans], address)
    kind = np.result_type(*(scan.array.dtype for scan in scans))
    array = np.concatenate([scan.array.astype(kind, copy=False) for scan in scans])
    return Scan(array, scans[0].geometry, address.path, scans[0].header)


def read_union(scans: Iterable[Scan], address: Address) -> Scan:
    """The parts of a mask as one: 1 x S, in each voxel the greatest value. One part at a time is in memory.

    Raises:
        UserError: a part is a picture in colours, of another shape than the first, or lies elsewhere.
    """
    first, greatest = None, None
    for scan in scans:
        part = only_channel(scan)
        if first is None or greatest is None:
            first, greatest = scan, part
            continue
        _refuse_other_grid(scan, first)
        greatest = np.maximum(greatest, part)
    assert first is not None
    assert greatest is not None
    return Scan(greatest[None], first.geometry, address.path, first.header)


def read_classes(scans: Iterable[Scan], address: Address) -> Scan:
    """The files of a mask of one file a class as one: 1 x S uint8, numbered 1, 2, ... in the order of the address.

    Where a class lies inside another one, the inner one counts.

    Raises:
        UserError: as `read_union`; or two classes overlap, and neither lies inside the other.
    """
    first, label = None, None
    for number, scan in enumerate(scans, start=1):
        part = only_channel(scan)
        inside = part > float(part.max(initial=0)) / 2
        if first is None or label is None:
            first, label = scan, np.zeros(part.shape, np.uint8)
        _refuse_other_grid(scan, first)
        if put(label, inside, number) is None:
            other = address.class_names[int(label[inside].max()) - 1]
            raise UserError(
                "mask-classes-overlap",
                f"{scan.source}: overlaps the class '{other}', and neither lies inside the other; leave one of them "
                "out of the braces of --masks.",
            )
    assert first is not None
    assert label is not None
    return Scan(label[None], first.geometry, address.path, first.header)


def _refuse_other_grid(scan: Scan, first: Scan) -> None:
    shape, own = first.array.shape[1:], scan.array.shape[1:]
    if own != shape:
        raise UserError(
            "mask-parts",
            f"{scan.source}: has shape {own}, {first.source.name} {shape}; save both in one size.",
        )
    if offset(scan.geometry, first.geometry, shape).elsewhere:
        raise UserError(
            "mask-parts-place",
            f"{scan.source}: does not lie where {first.source.name} lies; bring both to the grid of the image.",
        )


def one_a_class(mask: Scan) -> Scan:
    """A mask with one channel a class as one of class numbers: 1 x S.

    The first channel is class 1; where it is all that the others leave, it is the background. Of a class inside
    another one, the inner class counts.

    Raises:
        UserError: a channel holds more than 0 and one other value, or two of them overlap, and neither lies inside
            the other.
    """
    for number, channel in enumerate(mask.array, start=1):
        values = np.unique(channel)
        if values[0] < 0 or len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise UserError(
                "mask-channel-values",
                f"{mask.source}: channel {number} holds {some([f'{value:g}' for value in values])}, not only 0 and 1; "
                "save one channel of class numbers.",
            )
    inside = mask.array > 0
    first = 0 if len(inside) > 1 and (inside[0] != inside[1:].any(axis=0)).all() else 1
    label = np.zeros(inside.shape[1:], np.uint8)
    for number, channel in enumerate(inside[1 - first :], start=1):
        if put(label, channel, number) is None:
            raise refusals.segments_overlap(mask.source)
    return Scan(label[None], mask.geometry, mask.source, mask.header)


def nested(mask: Scan) -> set[tuple[int, int]]:
    """(inner, outer) numbers of the channels of a mask with one a class, from 1, where one lies inside the other."""
    label, found = np.zeros(mask.array.shape[1:], np.uint8), set[tuple[int, int]]()
    for number, channel in enumerate(mask.array, start=1):
        found |= put(label, channel > float(channel.max(initial=0)) / 2, number) or set()
    return found


def only_channel(mask: Scan) -> Array:
    """The S values of a mask; a UserError if its channels differ.

    Grey that was saved as colour has the same values in every channel.
    """
    first: Array = mask.array[0]
    if any((channel != first).any() for channel in mask.array[1:]):
        colours = colours_in(mask.array) if len(mask.array) == 3 and mask.array.dtype == np.uint8 else []
        colours = main_colours(mask.array) if len(colours) > SHOWN else colours
        few = f" ({', '.join(colours)})" if 0 < len(colours) <= SHOWN else ""
        fix = "name their classes with `ucseg init --palette NAME=#rrggbb,...`" if few else "save it with one channel"
        raise UserError("mask-colours", f"{mask.source}: the mask is a picture in colours{few}; {fix}.")
    return first


def read_header(headers: list[Header], address: Address) -> Header:
    """Shape, geometry and number of channels; raises as `read`."""
    shape, geometry, _ = headers[0]
    first = f"the first channel {address.file.name}"
    for path, (own_shape, own, channels) in zip(address.files, headers, strict=True):
        if channels != 1:
            raise UserError(
                "channel-colours", f"{path}: a channel's file holds one channel, not {channels}; convert it to grey."
            )
        if own_shape != shape:
            raise UserError(
                "channel-shape", f"{path}: has shape {own_shape}, {first} {shape}; resample the channels to one grid."
            )
        if own.unit != geometry.unit or not offset(own, geometry, shape).close:
            raise UserError(
                "channel-place",
                f"{path}: does not lie where {first} lies; register and resample the channels to one grid.",
            )
    return shape, geometry, len(headers)


def missing_channels(address: Address, count: int) -> str:
    """Which files of CASE_0000, CASE_0001, ... are not there, in words; "" where the name is no such one, or none is.

    Args:
        count: channels that an image has.
    """
    match = re.fullmatch(r"(.+_)\d{4}(\.[^/]*)", address.file.name)
    if match is None or len(address.files) >= count:
        return ""
    names = [f"{match[1]}{number:04d}{match[2]}" for number in range(count)]
    missing = [name for name in names if not (address.file.parent / name).exists()]
    listed = " and ".join(missing)
    return f"of its {count} channels {listed} {'is' if len(missing) == 1 else 'are'} not there" if missing else ""
