"""ImageJ: the regions of its ROI Manager (X.roi, X_RoiSet.zip), and what its TIFF stacks say of themselves.

A file of regions does not name its picture. So it is of the picture that it is called as, or of the only one beside it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ucseg.errors import UserError
from ucseg.scans import refusals
from ucseg.scans.address import PICTURES
from ucseg.types import Array

ENDINGS = (".roi", ".zip")
DESCRIPTION, _PIXELS_A_UNIT = 270, (282, 283)
"""Tags of TIFF."""
_MOST = 100_000
_MOST_BYTES = 2**24
_SET = re.compile(r"^(roi[ _-]?set|rois?)([ _.-]+|$)|(^|[ _.-]+)(roi[ _-]?set|rois?)$", re.IGNORECASE)
# What the ROI Manager calls a region that nobody named: places of its centre, and of its slice.
_UNNAMED = re.compile(r"|\d+(-\d+)*|F\d+-\w+")
_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4, "nm": 1e-6} | dict.fromkeys(
    ("micron", "microns", "um", "µm", "μm", "\\u00b5m", "micrometer"), 1e-3
)


@dataclass(frozen=True)
class Region:
    """A closed region: what it is called, its lines (x, y, from the corner of the picture), and its slice, from 0."""

    label: str
    rings: list[Array]
    page: int | None


def regions(path: Path) -> list[Region] | None:
    """The closed regions of a file, in order; None where it holds no regions of ImageJ.

    Rectangles, points and open lines are left out.

    Raises:
        UserError: it is damaged, or the library that reads it is not there.
    """
    stored = _stored(path)
    if stored is None:
        return None
    try:
        from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi
    except ImportError:
        raise UserError(
            "regions-need-library", f"{path}: regions of ImageJ need a library; pip install 'ucseg[imagej]'."
        ) from None
    found = []
    for name, content in stored:
        try:
            roi = ImagejRoi.frombytes(content)
            closed = roi.roitype in (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.OVAL)
            if roi.subtype == ROI_SUBTYPE.ROTATED_RECT or not (closed or roi.composite):
                continue
            # Without `multi`, the library gives the largest ring of a region with holes or several parts.
            rings = [np.asarray(ring, float) for ring in roi.coordinates(multi=True)]
            if roi.roitype == ROI_TYPE.OVAL:
                rings = [_oval(float(roi.left), float(roi.top), float(roi.right), float(roi.bottom))]
        except Exception as error:  # of a damaged file the library raises whatever its parts do
            raise refusals.damaged(path, error) from error
        page = roi.z_position or roi.position
        found.append(Region(_label(roi.name or name, roi.group), rings, page - 1 if page > 0 else None))
    return found


def picture_of(path: Path) -> str:
    """The name of the picture that a file of regions is of.

    Raises:
        UserError: it is called as no picture, and not exactly one lies beside it.
    """
    key = _SET.sub("", path.stem)
    beside = [one for one in sorted(path.parent.iterdir()) if one.suffix.lower() in PICTURES]
    if not key:
        if len(beside) != 1:
            raise UserError(
                "regions-of-no-picture",
                f"{path}: does not say of which picture, and {len(beside)} lie beside it; call it PICTURE_RoiSet.zip.",
            )
        return beside[0].name
    return next((one.name for one in beside if one.stem == key), f"{key}.tif")


def channels_of(path: Path, image: Image.Image) -> int:
    """How many pages of a picture are the channels of one slice: 1, unless ImageJ says more.

    Raises:
        UserError: it is of several times, or does not hold as many pages as it says.
    """
    said = _said(image)
    if said is None:
        return 1
    stored, images = int(getattr(image, "n_frames", 1)), _whole(said.get("images"))
    channels, slices, times = (_whole(said.get(key)) for key in ("channels", "slices", "frames"))
    if images != stored:
        raise UserError(
            "stack-pages",
            f"{path}: says that it has {images} pages, and {stored} are there; save it again, or as OME-TIFF.",
        )
    if times > 1:
        raise refusals.film(path, times)
    return channels if channels * slices == images else 1


def spacing_of(image: Image.Image) -> tuple[float, float, float] | None:
    """The spacing of slices, rows and columns in mm; None where it is no stack of ImageJ, or does not say it."""
    said = _said(image) or {}
    unit = _MM.get(said.get("unit", "").strip().lower())
    try:
        deep = abs(float(said.get("spacing", "0")))
        across, down = (float(image.tag_v2.get(tag, 0)) for tag in _PIXELS_A_UNIT)  # type: ignore[attr-defined]
    except (AttributeError, ValueError, ZeroDivisionError):
        return None
    if unit is None or not all(0 < number < float("inf") for number in (deep, across, down)):
        return None
    return deep * unit, unit / down, unit / across


def _said(image: Image.Image) -> Mapping[str, str] | None:
    """What ImageJ wrote into a TIFF; None where another program wrote it."""
    description = image.tag_v2.get(DESCRIPTION) if image.format == "TIFF" else None  # type: ignore[attr-defined]
    if not isinstance(description, str) or not description.startswith("ImageJ="):
        return None
    return dict(line.split("=", 1) for line in description.splitlines() if "=" in line)


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.strip().isdigit() and int(text) > 0 else 1


def _stored(path: Path) -> list[tuple[str, bytes]] | None:
    """Name and content of each region; None where it is another kind of file."""
    try:
        if path.suffix.lower() == ".roi":
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES)
            return [(path.stem, content)] if content.startswith(b"Iout") else None
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if not members or not all(one.filename.lower().endswith(".roi") for one in members):
                return None
            if len(members) > _MOST or any(one.file_size > _MOST_BYTES for one in members):
                raise refusals.damaged(path, "it holds more than a set of regions does")
            return [(Path(one.filename).stem, archive.read(one)) for one in members]
    except zipfile.BadZipFile:
        return None
    except (OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise refusals.damaged(path, error) from error


def _label(name: str, group: Any) -> str:
    """The ROI Manager numbers regions of one name: lesion, lesion-1, lesion-2."""
    name = name.strip()
    if _UNNAMED.fullmatch(name):
        return f"group_{int(group)}" if group else "region"
    return re.sub(r"[ _-]+\d+$", "", name) or name


def _oval(left: float, top: float, right: float, bottom: float) -> Array:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    wide, high = (right - left) / 2, (bottom - top) / 2
    return np.stack([left + wide + wide * np.cos(angles), top + high + high * np.sin(angles)], axis=1)
