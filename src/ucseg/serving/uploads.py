"""A viewer's label, as it came over the wire, as class indices on its image's grid. Its bytes are not trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.dataset.masks import by_names, numbers_to_classes, renumbered
from ucseg.errors import UserError
from ucseg.scans.address import Address, ending_of
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import read_header, read_mask
from ucseg.scans.said import Said
from ucseg.scans.same_grid import refuse_elsewhere
from ucseg.serving.frame import Frame
from ucseg.types import Array

ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".png", ".tif", ".tiff")
"""Formats of one file that hold numbers and no objects."""
RAW = ".bin"
"""Voxels without a header, as OHIF sends them."""


def ending_of_upload(name: str) -> str:
    """The ending that a client's name has: nothing else of it is used.

    Raises:
        UserError: labels are not taken in that format.
    """
    found = RAW if name.lower().endswith(RAW) else ending_of(name)
    if found not in (*ENDINGS, RAW):
        raise UserError("upload-format", f"The label's format is not taken; send one of {', '.join((*ENDINGS, RAW))}.")
    return found


def read_upload(file: Path, segments: Sequence[Mapping[str, Any]], frame: Frame, classes: Mapping[int, str]) -> Array:
    """Class indices of a label that a client sent.

    Args:
        file: where its bytes lie, with the ending of its format.
        segments: what the client says of its numbers, each with "name" and "idx".
        frame: of the image.
        classes: of the dataset by index.

    Returns:
        S uint8.

    Raises:
        UserError: it cannot be read, does not lie on the image's grid, or holds values that are no classes.
    """
    values, named = (_raw(file, frame), False) if file.name.endswith(RAW) else _voxels(file, frame, classes)
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max(initial=0) > 1e-3:
            raise UserError("upload-fractions", "The label holds fractions, not class numbers; send a label map.")
        values = whole.astype(np.int64)
    place = Address.of(Path("The label"))
    held = np.unique(values).tolist()
    if not named and (mapping := _classes_of(segments, classes, held, place)) is not None:
        return renumbered(values, mapping, place, "the client does not name").astype(np.uint8)
    if held[0] < 0 or held[-1] >= len(classes):
        unknown = next(value for value in held if not 0 <= value < len(classes))
        raise UserError("upload-value", f"The label holds {unknown}, which is no class; use 0 to {len(classes) - 1}.")
    return values.astype(np.uint8)


def _raw(file: Path, frame: Frame) -> Array:
    content = file.read_bytes()
    voxels = math.prod(frame.viewer_shape)
    kind = "<u2" if len(content) == 2 * voxels else "u1"
    if len(content) not in (voxels, 2 * voxels):
        raise UserError(
            "upload-size",
            f"The label has {len(content)} bytes, and its image {voxels} voxels; send one or two bytes for each.",
        )
    return frame.from_viewer(np.frombuffer(content, kind).reshape(frame.viewer_shape[::-1]).transpose())


def _voxels(file: Path, frame: Frame, classes: Mapping[int, str]) -> tuple[Array, bool]:
    """S, and whether the file names its segments, so that these are class indices already."""
    if file.name.endswith(".nrrd"):
        _refuse_other_files(file)
    voxels = math.prod(frame.viewer_shape)
    address = Address.of(file).as_said(Said(max_voxels=voxels))
    try:
        read_header(address)  # a small file may claim to be larger than any memory
    except UserError as error:
        if error.code != "scan-too-large":
            raise
        size = " x ".join(map(str, frame.shape if address.plain else frame.viewer_shape))
        raise UserError(
            "upload-large",
            f"The label does not fit its image: it holds more numbers than {size}; send one a voxel, on that grid.",
        ) from None
    if address.plain:
        values = only_channel(read_mask(address))
        if values.shape != frame.shape:
            raise _other_shape(values.shape, frame.shape)
        return values, False
    shape, geometry = frame.viewer_shape, frame.viewer_geometry
    read = read_mask(address, (shape, geometry))
    values = only_channel(read)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape != shape:
        raise _other_shape(values.shape, shape)
    if read.geometry.dims == 3:
        refuse_elsewhere(Path("The label"), read.geometry, geometry, shape)
    mapped = by_names(values, address, classes)
    return frame.from_viewer(mapped), mapped is not values


def _refuse_other_files(file: Path) -> None:
    """NRRD's header may name another file of this machine as its data."""
    with file.open("rb") as lines:
        for line in lines:
            if not line.strip():
                return
            if re.match(rb"data\s*file\s*:", line, re.IGNORECASE):
                raise UserError("upload-detached", "The label names another file as its data; send all in one file.")


def _other_shape(own: tuple[int, ...], wanted: tuple[int, ...]) -> UserError:
    sizes = [" x ".join(map(str, shape)) for shape in (own, wanted)]
    return UserError("upload-shape", f"The label has {sizes[0]} voxels, its image {sizes[1]}; send it on that grid.")


def _classes_of(
    segments: Sequence[Mapping[str, Any]], classes: Mapping[int, str], held: Sequence[int], place: Address
) -> dict[int, int] | None:
    """Value -> class, by the names that the client gives; None: the values are the classes.

    3D Slicer counts its list from the first segment, also those that it leaves out, and writes 1, 2, ... in its order.
    """
    named = [(str(one.get("name", "")), one.get("idx")) for one in segments]
    names = {idx: name for name, idx in named if isinstance(idx, int) and name}
    if not names:
        return None
    in_order = dict(enumerate((name for name, _ in named), start=1))
    values = {value for value in held if value}
    if names == in_order or not values:
        return numbers_to_classes(place, names, classes, values)
    fits = [reading for reading in (names, in_order) if values <= reading.keys()]
    if len(fits) == 2:
        if all(names[value] == in_order[value] for value in values):
            return numbers_to_classes(place, names, classes, values)
        raise UserError(
            "upload-order",
            "The label's numbers fit two of the named segments; remove segments that are no classes and send again.",
        )
    return numbers_to_classes(place, fits[0] if fits else names, classes, values)
