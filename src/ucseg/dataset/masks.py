"""From a mask file to class indices on the image's grid: thresholds, drawn outlines, names and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ucseg.dataset.fitting import fitted
from ucseg.dataset.outlines import fill_outlines
from ucseg.dataset.settings import DatasetConfig, means_not_annotated
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError, some
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import is_drawn, is_segmentation, read_header, read_mask, segment_names
from ucseg.scans.same_grid import Offset, offset, refuse_elsewhere
from ucseg.scans.scan import Geometry
from ucseg.types import NOT_ANNOTATED, Array


def read_label(
    mask: Address | Path,
    image_shape: tuple[int, ...],
    config: DatasetConfig,
    geometry: Geometry | None = None,
    slices: Slices | None = None,
) -> Array:
    """The label of an image.

    First, values become class numbers: by the names of segments, by `config.values`, or as class 1 where they are above
    `config.mask_threshold` (lossy JPEG masks, 0/255 masks). Then outlines are filled if `config.fill_outlines`. Last, a
    plain mask of another size is brought to the image's grid by nearest neighbour.

    Args:
        mask: in any readable format; integers stored as floating point are integers.
        image_shape: S of the image.
        geometry: of the image: a DICOM segmentation is laid on it, any other mask must lie there by its own header.
        slices: those that the mask annotates; None: all.

    Returns:
        S uint8, the classes' indices; NOT_ANNOTATED where nobody has said what is there.

    Raises:
        UserError: the mask cannot be read, holds values that are no classes, is not annotated anywhere, is coded
            otherwise than the threshold expects, an outline does not close, or its grid is not the image's.
    """
    mask = Address.of(mask)
    wanted = [name for index, name in config.classes.items() if index]
    read = read_mask(mask, None if geometry is None else (image_shape, geometry), wanted)
    if geometry is not None and read.array.shape[1:] == tuple(image_shape):
        refuse_elsewhere(mask, read.geometry, geometry, image_shape)
    values = only_channel(read)
    mapping = _numbers_held(values, mask, config.classes)
    if config.fill_outlines:  # a thin line does not survive another grid: fill it first
        drawn = _classes(values, mask, config, mapping)
        unknown = drawn == NOT_ANNOTATED
        filled = fill_outlines(np.where(unknown, 0, drawn), mask)
        filled[unknown] = NOT_ANNOTATED
        label = fitted(filled, image_shape, mask)
    else:
        label = _classes(fitted(values, image_shape, mask), mask, config, mapping)
    if slices is not None:
        label = slices.mark(label, mask)
    if (slices is not None or config.not_annotated or mapping) and (label == NOT_ANNOTATED).all():
        raise nothing_annotated(mask)
    return label


def mask_offset(mask: Address, image_shape: tuple[int, ...], geometry: Geometry) -> Offset:
    """How far a mask lies from its image of S, by the headers of both; of several parts, the one that is farthest.

    0 where there is nothing to compare: a DICOM segmentation has no grid, and a mask of another shape is another fault.
    """
    found = Offset(0.0, 0.0)
    for part in mask.singles:
        if not is_segmentation(part):
            shape, own, _ = read_header(part)
            if shape == tuple(image_shape):
                found = max(found, offset(own, geometry, shape), key=lambda one: (one.voxels, one.only_by))
    return found


def classes_held(label: Array) -> set[int]:
    """The classes of a label, S class indices, without the background and what is not annotated."""
    return set(values_held(label).tolist()) - {0, NOT_ANNOTATED}


def values_held(values: Array) -> Array:
    """The different values of a mask, ascending, in its dtype: what `numpy.unique` finds, of uint8 in half the time."""
    if values.dtype != np.uint8:
        return np.unique(values)
    flat = values.reshape(-1)  # counted in pieces: a count takes eight bytes a voxel
    counts = sum(np.bincount(flat[at : at + 2**20], minlength=256) for at in range(0, flat.size, 2**20))
    return np.flatnonzero(counts).astype(np.uint8)


def unknown_in(label: Array) -> Array | None:
    """S bool, where a label (S class indices) is not annotated; None: nowhere."""
    unknown: Array = label == NOT_ANNOTATED
    return unknown if unknown.any() else None


def by_names(values: Array, mask: Address, classes: Mapping[int, str]) -> Array:
    """Segment numbers as class indices, where a mask names its segments as the classes are; else as they are.

    The names count: one program numbers the liver 1, the next one 2.

    Raises:
        UserError: some of the names are classes and some are not.
    """
    mapping = _numbers_held(values, mask, classes)
    return values if mapping is None else renumbered(values, mapping, mask, "have no name in its header")


def names_of_none(names: Mapping[int, str]) -> set[int]:
    """The numbers of names that mean "not annotated". 0 is none of them: programs call their background so."""
    return {number for number, name in names.items() if number and means_not_annotated(name)}


def numbers_to_classes(
    mask: Address, names: Mapping[int, str], classes: Mapping[int, str], held: Collection[float]
) -> dict[int, int] | None:
    """Segment number -> class index, or NOT_ANNOTATED of a segment called so.

    None where no name is one of the classes: then the number is the class.

    Of a mask that `is_drawn` the classes choose: it may hold more, and its numbers say nothing.

    Args:
        names: those that the mask's header gives; some programs list all that they know.
        held: the numbers in the mask.

    Raises:
        UserError: some of the names are classes and some that it holds are not; or it is drawn, and none is a class.
    """
    index = {name.lower(): number for number, name in classes.items()}
    known = {number: index[name.lower()] for number, name in names.items() if name.lower() in index}
    if names and classes and is_drawn(mask):
        if not known:
            raise UserError(
                "mask-no-class",
                f"{mask}: it holds {some(list(names.values()))}, but no class ({', '.join(classes.values())}); "
                "name the classes so.",
            )
        return known
    if not any(known.values()):
        return None
    known |= dict.fromkeys(names_of_none(names) - known.keys(), NOT_ANNOTATED)
    unknown = next((name for number, name in names.items() if number and number in held and number not in known), None)
    if unknown is not None:
        raise UserError(
            "mask-segment",
            f"{mask}: its segment '{unknown}' is no class ({', '.join(classes.values())}); add or rename it.",
        )
    return known


def _numbers_held(values: Array, mask: Address, classes: Mapping[int, str]) -> dict[int, int] | None:
    names = segment_names(mask)
    return numbers_to_classes(mask, names, classes, set(np.unique(values).tolist())) if names else None


def mask_values(
    mask: Address | Path,
    grid: tuple[tuple[int, ...], Geometry] | None = None,
    wanted: Sequence[str] | None = None,
) -> Array:
    """S: what a mask file holds before any threshold, e.g. to find out which classes there are.

    A palette with colours yields its indices; colour images whose channels agree are taken as grey. `grid` and `wanted`
    are those of `read_mask`.

    Raises:
        UserError: the mask cannot be read, or is a picture in colours.
    """
    return only_channel(read_mask(mask, grid, wanted))


NOTHING_ANNOTATED = "all of it is marked as not annotated; annotate some of it, or leave out the mask."
"""Why a mask is not used, and what to do."""


def nothing_annotated(mask: Address) -> UserError:
    return UserError("mask-not-annotated", f"{mask}: {NOTHING_ANNOTATED}")


def values_not_kept(mask: object) -> UserError:
    return UserError(
        "ignore-lossy",
        f"{mask}: JPEG does not keep the value that means 'not annotated'; save such masks as PNG, from their source.",
    )


def coded_otherwise(high: float, threshold: float, lossy: bool) -> str | None:
    """Why a mask does not fit a threshold: it holds small numbers, not grey levels. None where it does."""
    return None if lossy or not 0 < high < threshold / 10 else other_coding(high, threshold)


def other_coding(high: float, threshold: float) -> str:
    """Why a mask of small numbers is not used where others have grey levels, and what to do."""
    return (
        f"it holds values up to {high:g}, and the foreground of the others is above {threshold:g}; save it with their "
        "values, or leave out the mask."
    )


def _classes(values: Array, mask: Address, config: DatasetConfig, mapping: Mapping[int, int] | None) -> Array:
    """`mapping`: of a mask whose header names its numbers."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError("mask-not-finite", f"{mask}: the mask holds NaN or infinite values; export it again.")
    if mapping is not None:
        return renumbered(
            _whole(values, mask, len(config.classes)), mapping, mask, "have no name in its header"
        ).astype(np.uint8)
    if config.not_annotated:
        if is_lossy(mask):
            raise values_not_kept(mask)
        unknown = np.isin(np.rint(values) if values.dtype.kind == "f" else values, config.not_annotated)
        if unknown.any():
            whole = config.model_copy(update={"not_annotated": []})
            label = _classes(np.where(unknown, values.dtype.type(0), values), mask, whole, None)
            label[unknown] = NOT_ANNOTATED
            return label
    if config.mask_threshold is not None:
        otherwise = coded_otherwise(float(values.max(initial=0)), config.mask_threshold, is_lossy(mask))
        if otherwise is not None:
            raise UserError("mask-coding", f"{mask}: {otherwise}")
        return (values > config.mask_threshold).astype(np.uint8)
    values = _whole(values, mask, len(config.classes))
    fix = "name them under classes and values in dataset.yaml"
    if config.values:
        return renumbered(values, config.values, mask, "are no classes", fix).astype(np.uint8)
    # Classes are numbered without a gap, so the range is enough; to list all values of a large volume takes seconds.
    if values.min(initial=0) < 0 or values.max(initial=0) >= len(config.classes):
        if len(config.classes) == 2:
            middle = (float(values.min()) + float(values.max())) / 2
            fix = f"save it with 0 and 1, or, if all masks are so, set mask_threshold in dataset.yaml (e.g. {middle:g})"
        raise _no_classes(mask, np.unique(values), config.classes, "are no classes", fix)
    return values.astype(np.uint8)


def is_lossy(mask: Address) -> bool:
    """Whether its format (JPEG) does not keep values; of colours that are said, the nearest counts."""
    return mask.ending in (".jpg", ".jpeg") and not mask.said.palette


def _whole(values: Array, mask: Address, classes: int) -> Array:
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    off = np.abs(values - whole)
    if off.max(initial=0) > 1e-3:  # whole numbers that went through scaled storage have rounding errors, no more
        example = values.ravel()[np.argmax(off)]
        fix = "set mask_threshold in dataset.yaml" if classes == 2 else "save it with whole class numbers"
        raise UserError("mask-fractions", f"{mask}: holds fractions (e.g. {example:.3g}), not class numbers; {fix}.")
    return whole


def renumbered(values: Array, mapping: Mapping[int, int], mask: Address, what: str, fix: str = "name them") -> Array:
    """Whole numbers through a mapping, 0 -> 0; a UserError for those that it lacks."""
    mapping = {0: 0} | dict(mapping)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < min(mapping) or high > max(mapping):
        raise _no_classes(mask, np.unique(values), mapping, what, fix)
    kind = np.int16 if max(mapping.values()) <= 255 else np.int32
    table = np.full(max(mapping) - min(mapping) + 1, -1, kind)
    for value, index in mapping.items():
        table[value - min(mapping)] = index
    places = values.astype(np.intp) if values.dtype.kind == "f" or min(mapping) < 0 else values
    out: Array = table[places - min(mapping) if min(mapping) < 0 else places]
    if out.min(initial=0) < 0:
        raise _no_classes(mask, np.unique(values), mapping, what, fix)
    return out


def _no_classes(mask: Address, held: Array, known: Collection[int], what: str, fix: str) -> UserError:
    unknown = [int(value) for value in held if int(value) not in known]
    listed = ", ".join(str(value) for value in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
    return UserError("mask-not-classes", f"{mask}: the mask holds values that {what} ({listed}); {fix}, or correct it.")
