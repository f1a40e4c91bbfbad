"""From a mask file to class indices on the image's grid: thresholds, drawn outlines, masks of another size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy  # its parts load where they are first used

from ucseg.dataset.settings import DatasetConfig
from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import is_segmentation, read_header, read_mask, segment_names
from ucseg.scans.same_grid import Offset, offset, refuse_elsewhere
from ucseg.scans.scan import Geometry
from ucseg.types import Array


def read_label(
    mask: Address | Path, image_shape: tuple[int, ...], config: DatasetConfig, geometry: Geometry | None = None
) -> Array:
    """The label of an image.

    First, values above `config.mask_threshold` become class 1 (lossy JPEG masks, 0/255 masks). Then outlines are filled
    if `config.fill_outlines`. Last, a plain mask of another size is brought to the image's grid by nearest neighbour.

    Args:
        mask: in any readable format; integers stored as floating point are integers.
        image_shape: S of the image.
        geometry: of the image: a DICOM segmentation is laid on it, any other mask must lie there by its own header.

    Returns:
        S uint8, the classes' indices.

    Raises:
        UserError: the mask cannot be read, holds values that are no classes, an outline does not close, or its grid is
            not the image's.
    """
    mask = Address.of(mask)
    read = read_mask(mask, None if geometry is None else (image_shape, geometry))
    if geometry is not None and read.array.shape[1:] == tuple(image_shape):
        refuse_elsewhere(mask, read.geometry, geometry, image_shape)
    values = by_names(only_channel(read), mask, config.classes)
    if config.fill_outlines:  # a thin line does not survive another grid: fill it first
        return _on_grid(fill_outlines(_classes(values, mask, config), mask), image_shape, mask)
    return _classes(_on_grid(values, image_shape, mask), mask, config)


def mask_offset(mask: Address, image_shape: tuple[int, ...], geometry: Geometry) -> Offset:
    """How far a mask lies from its image of S, by the headers of both; of several parts, the one that is farthest.

    0 where there is nothing to compare: a DICOM segmentation has no grid, and a mask of another shape is another fault.
    """
    found = Offset(0.0, 0.0)
    for part in mask.singles:
        if not is_segmentation(part):
            shape, own, _ = read_header(part)
            if shape == tuple(image_shape):
                found = max(found, offset(own, geometry, shape), key=lambda one: (one.edges, one.only_by))
    return found


def classes_held(label: Array) -> set[int]:
    """The classes of a label, S class indices, without the background."""
    return {value for value, box in enumerate(scipy.ndimage.find_objects(label), start=1) if box}


def by_names(values: Array, mask: Address, classes: Mapping[int, str]) -> Array:
    """Segment numbers as class indices, where a mask names its segments as the classes are; else as they are.

    The names count: one program numbers the liver 1, the next one 2.

    Raises:
        UserError: some of the names are classes and some are not.
    """
    mapping = numbers_to_classes(mask, segment_names(mask), classes)
    if mapping is None:
        return values
    out = values.copy()
    for number, index in mapping.items():
        out[values == number] = index
    return out


def numbers_to_classes(mask: Address, names: Mapping[int, str], classes: Mapping[int, str]) -> dict[int, int] | None:
    """Segment number -> class index; None where no name is one of the classes: then the number is the class.

    Raises:
        UserError: some of the names are classes and some are not.
    """
    index = {name.lower(): number for number, name in classes.items()}
    unknown = [name for name in names.values() if name.lower() not in index]
    if len(unknown) == len(names):
        return None
    if unknown:
        raise UserError(
            "mask-segment",
            f"{mask}: its segment '{unknown[0]}' is no class ({', '.join(classes.values())}); add or rename it.",
        )
    return {number: index[name.lower()] for number, name in names.items()}


def mask_values(mask: Address | Path, grid: tuple[tuple[int, ...], Geometry] | None = None) -> Array:
    """S: what a mask file holds before any threshold, e.g. to find out which classes there are.

    A palette with colours yields its indices; colour images whose channels agree are taken as grey.

    Raises:
        UserError: the mask cannot be read, or is a picture in colours.
    """
    return only_channel(read_mask(mask, grid))


def _classes(values: Array, mask: Address, config: DatasetConfig) -> Array:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError("mask-not-finite", f"{mask}: the mask holds NaN or infinite values; export it again.")
    if config.mask_threshold is not None:
        return (values > config.mask_threshold).astype(np.uint8)
    if values.dtype.kind == "f":
        whole = np.rint(values)
        off = np.abs(values - whole)
        if off.max(initial=0) > 1e-3:  # whole numbers that went through scaled storage have rounding errors, no more
            example = values.ravel()[np.argmax(off)]
            raise UserError(
                "mask-fractions",
                f"{mask}: holds fractions (e.g. {example:.3g}), not class numbers; set mask_threshold in dataset.yaml.",
            )
        values = whole
    # Classes are numbered without a gap, so the range is enough; to list all values of a large volume takes seconds.
    if values.min(initial=0) < 0 or values.max(initial=0) >= len(config.classes):
        unknown = [int(value) for value in np.unique(values) if int(value) not in config.classes]
        listed = ", ".join(str(value) for value in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        fix = "name them under classes in dataset.yaml"
        if len(config.classes) == 2:
            middle = (float(values.min()) + float(values.max())) / 2
            fix = f"set mask_threshold in dataset.yaml (e.g. {middle:g})"
        raise UserError(
            "mask-not-classes", f"{mask}: the mask holds values that are no classes ({listed}); {fix}, or correct it."
        )
    return values.astype(np.uint8)


def fill_outlines(label: Array, mask: Address | Path) -> Array:
    """H x W class indices with the inside of every closed line; what is filled already stays as it is.

    Raises:
        UserError: a line does not close, or the mask is no plain 2D image; `mask` is named as its file.
    """
    if label.ndim != 2:
        raise UserError(
            "outlines-of-volume",
            f"{mask}: only plain 2D images have outlines to fill; leave out --fill-outlines (fill_outlines).",
        )
    filled = {int(value): _filled(label == value, mask) for value in np.unique(label) if value != 0}
    out = np.zeros_like(label)
    # Larger structures first: a structure inside another one stays visible.
    for value, inside in sorted(filled.items(), key=lambda item: -int(item[1].sum())):
        out[inside] = value
    return out


def _filled(outline: Array, mask: Address | Path) -> Array:
    filled = np.zeros_like(outline)
    parts, _ = scipy.ndimage.label(outline, structure=np.ones((3, 3)))
    for number, box in enumerate(scipy.ndimage.find_objects(parts), start=1):
        line = parts[box] == number
        region = scipy.ndimage.binary_fill_holes(line)
        if not (_encloses(line, region) or _compact(line)):
            row, column = (int(side.start + side.stop) // 2 for side in box)
            raise UserError(
                "outline-open",
                f"{mask}: the line around row {row}, column {column} does not close; close it or leave the case out.",
            )
        filled[box] |= region
    return filled


def _encloses(line: Array, region: Array) -> bool:
    """Whether a line has a real inside: a tenth of its convex hull. Loops of an open line have less."""
    inside = int(region.sum()) - int(line.sum())
    if inside == 0 or inside >= 0.1 * line.size:  # the hull is no larger than the box around the line
        return inside > 0
    return inside >= 0.1 * float(scipy.spatial.ConvexHull(np.argwhere(line)).volume)  # in 2D, `volume` is the area


def _compact(line: Array) -> bool:
    """Whether a part is no line but a region filled already, or a speck: a few squares of its width cover it."""
    width = 2 * float(scipy.ndimage.distance_transform_edt(np.pad(line, 1)).max())
    return int(line.sum()) <= 6 * width**2


def _on_grid(label: Array, shape: tuple[int, ...], mask: Address) -> Array:
    if label.shape == tuple(shape):
        return label
    if not mask.plain or len(shape) != 2:
        raise UserError(
            "mask-shape",
            f"{mask}: has shape {label.shape}, its image {tuple(shape)}; resample it to its image or pair them again.",
        )
    if not _aspect_allows(label.shape, shape):
        sizes = ", ".join(f"{width} x {height} px" for height, width in (label.shape, shape))
        raise UserError(
            "mask-aspect",
            f"{mask}: the aspect ratios of mask and image differ ({sizes}); check that they belong together.",
        )
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(shape, label.shape, strict=True)
    )
    return label[np.ix_(rows, columns)]


def _aspect_allows(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a mask and an image of different size may show the same field.

    They do when their aspect ratios agree within 2 %. A square image or mask may also be a picture that was squeezed
    into a square for a network (public dermoscopy and endoscopy sets are distributed so): then up to 2:1 is allowed.
    """
    mask_aspect, image_aspect = mask[1] / mask[0], image[1] / image[0]
    if abs(np.log(mask_aspect / image_aspect)) <= 0.02:
        return True
    return 1.0 in (mask_aspect, image_aspect) and 0.5 <= mask_aspect / image_aspect <= 2.0
