"""What a DICOM file is, by its SOP class: an image, a mask of one, or something else, which has a name."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["image", "segmentation", "structures", "other"]

_MASKS: dict[str, Kind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation",
    "1.2.840.10008.5.1.4.1.1.481.3": "structures",
}
_NEWEST = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image Storage",
}
"""Names that pydicom does not know: classes younger than it, and a private one that is met often."""

_IMAGE = re.compile(r".*\bImage Storage( - .*)?|Enhanced US Volume Storage")


def kind_of(uid: str) -> Kind:
    """What a file of this SOP class is; only the standard's image storage classes are images."""
    if uid in _MASKS:
        return _MASKS[uid]
    return "image" if _IMAGE.fullmatch(name_of(uid)) else "other"


def name_of(uid: str) -> str:
    """The name of a SOP class; the identifier itself where no table knows it."""
    from pydicom.uid import UID

    return _NEWEST.get(uid) or str(UID(uid).name)
