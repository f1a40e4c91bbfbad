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
from ucseg.scans.reading import read_header

_MOST = 8
"""Channels. A longer axis is rather one of time."""
_SAMPLE = 5
_FORMATS = ("nifti", "itk")


def with_channel_axis(cases: Sequence[Case], notes: list[str]) -> list[Case]:
    """The cases with images as FILE#channels, where most masks have all axes of their images but the last.

    Only a sample of the masks is looked at. Images with another number of channels stay as they are.
    """
    masked = [case for case in cases if case.mask is not None and case.image.format in _FORMATS]
    sample = masked[:: max(1, len(masked) // _SAMPLE)]
    counts = Counter(map(_channels_beside_mask, sample))
    count = counts.most_common(1)[0][0] if counts else 0
    if not 2 <= count <= _MOST:
        return list(cases)
    notes.append(
        f"the masks lack the last axis of their images, so its {count} entries are taken as channels (FILE#channels)."
    )
    return [replace(case, image=in_last_axis(case.image, count) or case.image) for case in cases]


def in_last_axis(image: Address, count: int) -> Address | None:
    """The address FILE#channels of a file whose last axis holds so many channels; None for any other."""
    if image.several or image.part or image.format not in _FORMATS:
        return None
    address = Address.of(f"{image.path}#channels").as_said(image.said)
    try:
        return address if read_header(address)[2] == count else None
    except UserError:  # it has no such axis; or it cannot be read, which reading it will say
        return None


def _channels_beside_mask(case: Case) -> int:
    """How many entries the last axis of an image has that its mask lacks; 0 where the mask has all axes."""
    assert case.mask is not None
    try:
        shape, _, count = read_header(Address.of(f"{case.image.path}#channels"))
        return count if read_header(case.mask)[0] == shape else 0
    except UserError:
        return 0
