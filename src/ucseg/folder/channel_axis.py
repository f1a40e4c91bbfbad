"""Images that hold their channels in their last axis, where a reader expects slices or time points.

A volume of three slices with masks of one slice (PSFHS), a 4D file with masks of three axes (Decathlon's prostates).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.reading import is_laid, read_header, read_mask
from ucseg.scans.scan import orders_of

CHANNELS = "#channels"
"""Ends a pattern of images: so are they all."""
_MOST = 8
"""Channels. A longer axis is rather one of time."""
_SAMPLE = 5
_FORMATS = ("nifti", "itk")


def with_channel_axis(cases: Sequence[Case], images: str, notes: list[str]) -> tuple[list[Case], str]:
    """The cases with images as FILE#channels, where most masks have all axes of their images but the last.

    Only a sample of the masks is looked at. Images with another number of channels stay as they are.

    Args:
        images: pattern of the images; with CHANNELS at its end, the user says that all images are so.

    Returns:
        the cases; and the pattern, which ends in CHANNELS where images are so.
    """
    count = None if images.endswith(CHANNELS) else _commonest_lack(cases)
    if count == 0:
        return list(cases), images
    if count is not None:
        images = f"{images or '*'}{CHANNELS}"
        notes.append(
            f"the masks lack the last axis of their images, so its {count} entries are taken as channels "
            f"(--images '{images}'). If they are time points, save each as a file."
        )
    return [replace(case, image=in_last_axis(case.image, count) or case.image) for case in cases], images


def in_last_axis(image: Address, count: int | None = None, dims: int | None = None) -> Address | None:
    """The address FILE#channels of a file whose last axis can hold channels; None for any other.

    Args:
        count: how many channels it has to hold; None: any number.
        dims: how many axes have to be left; None: any number.
    """
    if image.several or image.part or image.format not in _FORMATS:
        return None
    address = _as_channels(image)
    try:
        shape, _, found = read_header(address)
    except UserError:  # it has no such axis; or it cannot be read, which reading it will say
        return None
    return address if count in (None, found) and dims in (None, len(shape)) else None


def _as_channels(image: Address) -> Address:
    return Address.of(f"{image.path}{CHANNELS}").as_said(image.said)


def _commonest_lack(cases: Sequence[Case]) -> int:
    """How many entries the axis has that most masks of a sample lack; 0 where they lack none, or too long a one."""
    masked = [case for case in cases if case.mask is not None and case.image.format in _FORMATS]
    counts = Counter(map(_channels_beside_mask, masked[:: max(1, len(masked) // _SAMPLE)]))
    count = counts.most_common(1)[0][0] if counts else 0
    return count if 2 <= count <= _MOST else 0


def _channels_beside_mask(case: Case) -> int:
    """How many entries the last axis of an image has that its mask lacks; 0 where the mask has all axes."""
    assert case.mask is not None
    try:
        shape, geometry, count = read_header(_as_channels(case.image))
        if is_laid(case.mask):  # its own size says nothing
            return count if read_mask(case.mask, (shape, geometry)).array.shape[1:] == shape else 0
        own, of_mask, _ = read_header(case.mask)
        return count if shape in orders_of(own, of_mask, geometry) else 0
    except UserError:
        return 0
