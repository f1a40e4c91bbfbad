"""How do the masks of an evaluation become class indices?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ucseg.dataset.manifest import Dataset
from ucseg.dataset.masks import by_names, mask_values, names_of_none, numbers_to_classes, renumbered, values_held
from ucseg.dataset.outlines import fill_outlines
from ucseg.errors import UserError, some
from ucseg.scans.address import Address
from ucseg.scans.reading import segment_names
from ucseg.scans.scan import Geometry
from ucseg.types import Array

_GREY = 32  # more values than that in a plain image: a picture or a lossy mask, not classes
_VARIED = 0.7  # so many neighbours differ in a scan: of masks, even of many small structures, less than half do


@dataclass(frozen=True)
class Reading:
    """How masks become class indices: those of a dataset as it says.

    `named` are the classes that segments with names (.seg.nrrd, DICOM SEG) are looked up in.
    """

    dataset: Dataset | None
    classes: Mapping[int, str] | None
    named: Mapping[int, str]
    filled_predictions: bool
    filled_references: bool
    unnamed: Mapping[int, str] = field(default_factory=dict)
    """Value -> name of what is called "not annotated" or the like: it is no class, and counts nowhere."""
    predicted: Mapping[int, int] | None = None
    """Number in the predictions -> number in the references, where their names agree and the numbers do not."""
    predictions_say: bool = False
    """What the numbers of the predictions mean: `ucseg predict` wrote it beside them."""
    values: Mapping[int, int] | None = None
    """Value in the references -> class index, as in the masks of training; None: they hold class indices."""
    not_annotated: Collection[int] = ()
    """Values of the references that are no class, as in the masks of training."""
    threshold: float | None = None
    """Foreground of the references is where they are greater; None: they hold class numbers."""


def class_indices(
    path: Address,
    reading: Reading,
    filled: bool,
    grid: tuple[tuple[int, ...], Geometry],
    numbers: Mapping[int, int] | None = None,
    above: float | None = None,
    none: Collection[int] = (),
) -> tuple[Array, Array | None]:
    """S, whole numbers, and where they mean "not annotated" (S bool; None: nowhere). There they are 0.

    Args:
        filled: with the inside of outlines.
        numbers: those that stand for others.
        above: foreground, 1, is where the mask is greater.
        none: values that mean "not annotated", beside those that a name says it of.
    """
    wanted = [name for index, name in reading.named.items() if index] or None
    values = mask_values(path, grid, wanted)
    none = {*none, *(number for names in (segment_names(path), reading.unnamed) for number in names_of_none(names))}
    unknown: Array | None = np.isin(values, sorted(none)) if none else None
    if unknown is not None:
        values = np.where(unknown, values.dtype.type(0), values)
    if above is not None:
        values = (values > above).astype(np.uint8)
    if numbers is None:
        values = by_names(values, path, reading.named)
    else:
        values = renumbered(values, numbers, path, "are no classes")
    values = _class_numbers(path, reading.classes, values)
    return fill_outlines(values, path) if filled else values, unknown


def _class_numbers(path: Address, classes: Mapping[int, str] | None, values: Array) -> Array:
    """S, whole numbers. A mask of 0 and 255 only, as paint programs save them, is a mask of 0 and 1."""
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max(initial=0) > 1e-3:
            raise UserError("map-not-mask", f"{path}: holds fractions or NaN, so it is a map, not a mask; give masks.")
        values = whole.astype(np.int32)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    occurring = values_held(values)
    if values.dtype == np.uint8 and set(occurring.tolist()) <= {0, 255} and (classes is None or 255 not in classes):
        return (values // 255).astype(np.uint8)
    if classes is None and len(occurring) > _GREY and (path.plain or _is_varied(values)):
        raise UserError(
            "picture-not-mask",
            f"{path}: holds {len(occurring)} grey values, so it is a picture or a lossy mask. "
            "If it is a mask, repeat with --mask-threshold 127, or with a dataset of 'ucseg init' instead.",
        )
    known = None if classes is None else {0, *classes}
    if unknown := [str(value) for value in occurring.tolist() if value < 0 or (known and value not in known)]:
        raise UserError(
            "unnamed-values",
            f"{path}: holds values that are not classes ({some(unknown)}); name them with --classes or fix the mask.",
        )
    return values


def _is_varied(values: Array) -> bool:
    """Whether nearly all neighbours differ, background apart, as they do in a scan and in no mask."""
    one, other = values[1:], values[:-1]
    shown = (one != 0) | (other != 0)
    return bool(shown.any() and (one != other)[shown].mean() > _VARIED)


def by_number(reference: Address, prediction: Address, reading: Reading, held: Collection[int]) -> bool:
    """Whether classes are matched by number, and names could differ: a header names them, or there are several.

    Args:
        held: the numbers in both masks.
    """
    if {0, 1}.issuperset(held) and not (segment_names(reference) or segment_names(prediction)):
        return False
    masks = [reference] if reading.predictions_say else [reference, prediction]
    return any(_is_unsaid(mask, reading) for mask in masks)


def _is_unsaid(mask: Address, reading: Reading) -> bool:
    """Whether nobody says that the numbers of a mask are those of the classes: no name of a segment, and no user."""
    names = segment_names(mask)
    said = any(one is not None for one in (reading.dataset, reading.classes, reading.threshold, reading.values))
    return numbers_to_classes(mask, names, reading.named, held=()) is None and (bool(names) or not said)
