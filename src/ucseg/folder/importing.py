"""A folder understood: which cases it holds, what kind of scans, how their masks are read, what was left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from ucseg.config import build
from ucseg.dataset.case import Case
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig, Modality
from ucseg.errors import UserError, some
from ucseg.folder.classes import choose_reading, labels_of_dataset_json, parse_classes
from ucseg.folder.likely_masks import in_words, likely_masks
from ucseg.folder.listing import LeftOut
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.segments import classes_of, with_classes
from ucseg.folder.survey import (
    ImageFacts,
    MaskFacts,
    Surveyed,
    is_stack_to_measure,
    lowest_values,
    reason_of,
    survey_cases,
)
from ucseg.machine.threads import for_each
from ucseg.types import Array

_AIR_IN_CT = -500.0


@dataclass(frozen=True)
class ImportOptions:
    """What the user says where guessing ends; None: guess. See `ucseg.init`."""

    images: str | None = None
    masks: str | None = None
    subject: str | None = None
    classes: str | None = None
    modality: str | None = None
    mask_threshold: float | None = None
    fill_outlines: bool | None = None


@dataclass(frozen=True)
class Understood:
    """A folder as it was understood.

    Attributes:
        config: of the dataset.
        cases: usable ones; `split` is "" where no folder names one.
        left_out: every other file, with the reason.
        subject_rule, shapes, spacing: in words, for printing.
        notes: guesses to look at.
    """

    config: DatasetConfig
    cases: list[Case]
    left_out: list[LeftOut]
    subject_rule: str
    shapes: str
    spacing: str
    notes: list[str]

    @property
    def to_mend(self) -> dict[Path, str]:
        """Images and masks that could not be used, with the reasons."""
        return {item.file: item.reason for item in self.left_out if not item.rightly}


def understand(
    folder: Path,
    options: ImportOptions,
    root: str,
    skip: Iterable[Path] = (),
    done: Callable[[str, int], None] | None = None,
) -> Understood:
    """Understand a folder of images and masks. Nothing is written.

    Args:
        folder: of the data.
        options: of the user.
        root: how dataset.yaml is to name the folder.
        skip: files and folders in it that are no data.
        done: called with (stage, number of cases in it) after each case, for progress bars.

    Raises:
        UserError: there is no usable image, or an option or the masks cannot be made sense of.
    """
    if options.modality is not None and options.modality not in get_args(Modality):
        raise UserError(
            "todo",
            f"--modality '{options.modality}' is not one of {', '.join(get_args(Modality))}; choose one.",
        )
    if options.classes is not None:
        parse_classes(options.classes)  # before minutes of reading
    if options.mask_threshold is not None and not math.isfinite(options.mask_threshold):
        raise UserError(
            "todo",
            f"--mask-threshold {options.mask_threshold} is no grey level; give a number, such as 127.",
        )
    found = find_cases(folder, options.images, options.masks, options.subject, skip)
    understood = understand_cases(folder, found, options, root, done)
    return replace(understood, notes=understood.notes + list(_about_likely_masks(understood.cases)))


def understand_cases(
    folder: Path,
    found: Found,
    options: ImportOptions,
    root: str,
    done: Callable[[str, int], None] | None = None,
) -> Understood:
    """As `understand`, of cases found already: `images`, `masks` and `subject` of the options are not used."""
    given = parse_classes(options.classes) if options.classes is not None else None
    left_out, notes = list(found.left_out), list(found.notes)
    surveyed = survey_cases(found.cases, _stage("reading headers and masks", len(found.cases), done))
    surveyed, dims, channels = _usable(surveyed, left_out, folder)
    labels, stated_modality, json_notes = labels_of_dataset_json(folder)
    if given is None:
        notes += json_notes
    facts = {one.case.case: one.mask for one in surveyed if isinstance(one.mask, MaskFacts)}
    named = given or labels or classes_of(one.names for one in facts.values())
    unnamed: dict[str, str] = {}
    for one in surveyed:
        if named and one.case.case in facts and one.case.mask is not None:
            try:
                facts[one.case.case] = with_classes(one.case.mask, facts[one.case.case], named)
            except UserError as error:
                del facts[one.case.case]
                unnamed[one.case.case] = reason_of(error, one.case.mask)
    reading = choose_reading(facts, named, options.mask_threshold, options.fill_outlines)
    notes += reading.notes
    modality = options.modality or stated_modality or _guess_modality(surveyed, dims, channels, notes)
    config = build(
        DatasetConfig,
        {
            "name": folder.absolute().name,
            "root": root,
            "dims": dims,
            "modality": modality,
            "channels": channels,
            "classes": reading.classes,
            "mask_threshold": reading.mask_threshold,
            "fill_outlines": reading.fill_outlines,
        },
        "init",
    )
    unfit = reading.rejected | unnamed
    unfit |= {one.case.case: one.mask for one in surveyed if isinstance(one.mask, str)}
    unfit |= _misfits([one for one in surveyed if one.case.case not in unfit], config, done)
    cases = []
    for one in surveyed:
        reason, mask = unfit.get(one.case.case), one.case.mask
        if reason is not None and mask is not None:
            left_out.append(LeftOut(mask.path, f"{reason.rstrip('.')} (its image is kept as unlabelled)."))
            cases.append(replace(one.case, mask=None))
        else:
            cases.append(one.case)
    images = [one.image for one in surveyed if isinstance(one.image, ImageFacts) and len(one.image.shape) == dims]
    return Understood(
        config, cases, sorted(left_out, key=lambda item: item.file), found.subject_rule,
        _shapes(images), _spacing(images), notes,
    )  # fmt: skip


def _about_likely_masks(cases: Sequence[Case]) -> Iterator[str]:
    found = likely_masks(cases)
    if found:
        files = some([f"{one.file.name} beside {one.image.name}" for one in found])
        yield (
            f"{len(found)} images without a mask look like masks themselves, by their names and their few values "
            f"({files}); if they are, {in_words(found)}."
        )


def _usable(surveyed: list[Surveyed], left_out: list[LeftOut], folder: Path) -> tuple[list[Surveyed], int, int]:
    """Readable images of the commonest rank and number of channels."""
    readable = []
    for one in surveyed:
        if isinstance(one.image, str):
            left_out += _with_mask(one.case, one.image)
        else:
            readable.append((one, (one.image.geometry.dims, one.image.channels)))
    if not readable:
        first = surveyed[0]
        raise UserError(
            "todo",
            f"{folder}: none of {len(surveyed)} images can be read; e.g. {first.case.image.name}: {first.image}",
        )
    (dims, channels), count = Counter(kind for _, kind in readable).most_common(1)[0]
    usable = []
    for one, kind in readable:
        assert isinstance(one.image, ImageFacts)
        stack = kind[1] == channels and is_stack_to_measure(one.case, one.image.geometry, dims)
        if kind == (dims, channels) or stack:
            usable.append(one)
        else:
            words = f"{kind[0]}D with {kind[1]} channel(s), the dataset {dims}D with {channels}"
            most = f"as {count} of {len(readable)} images"
            mend = "convert it, or make a dataset of its kind (--images)."
            left_out += _with_mask(one.case, f"the image is {words}, {most}; {mend}")
    return usable, dims, channels


def _with_mask(case: Case, reason: str) -> list[LeftOut]:
    # The image is what there is to mend.
    because = f"its image {case.image.name} is left out."
    masks = [] if case.mask is None else [LeftOut(case.mask.path, because, rightly=True)]
    return [LeftOut(case.image.path, reason), *masks]


def _misfits(
    surveyed: Sequence[Surveyed], config: DatasetConfig, done: Callable[[str, int], None] | None
) -> dict[str, str]:
    """Case -> why its mask cannot become a label. Masks of their image's size need no second reading, outlines do."""

    def doubtful(one: Surveyed) -> bool:
        if not isinstance(one.mask, MaskFacts) or not isinstance(one.image, ImageFacts):
            return False
        return config.fill_outlines or one.mask.shape != one.image.shape

    def problem(one: Surveyed) -> str | None:
        assert isinstance(one.image, ImageFacts)
        assert one.case.mask is not None
        try:
            read_label(one.case.mask, one.image.shape, config, one.image.geometry)
        except UserError as error:
            return reason_of(error, one.case.mask)
        return None

    again = [one for one in surveyed if doubtful(one)]
    problems = for_each(problem, again, _stage("fitting masks to images", len(again), done))
    return {one.case.case: text for one, text in zip(again, problems, strict=True) if text is not None}


def _guess_modality(surveyed: Sequence[Surveyed], dims: int, channels: int, notes: list[str]) -> str:
    if channels == 3 and dims == 2 and not any(one.case.image.several for one in surveyed):
        return "rgb"
    geometry_unit = {one.image.geometry.unit for one in surveyed if isinstance(one.image, ImageFacts)}
    if geometry_unit == {"px"}:
        notes.append("grey images of unknown modality; if they are ultrasound, say --modality ultrasound.")
        return "other"
    lowest = lowest_values([one.case.image for one in surveyed])
    if lowest and float(np.median(lowest)) <= _AIR_IN_CT:
        notes.append("values reach air in Hounsfield units, so this is taken for CT (--modality changes it).")
        return "ct"
    notes.append("taken for MRI (--modality changes it).")
    return "mri"


def _stage(name: str, total: int, done: Callable[[str, int], None] | None) -> Callable[[], None] | None:
    return None if done is None else lambda: done(name, total)


def _shapes(images: Sequence[ImageFacts]) -> str:
    shapes = np.array([image.shape for image in images])
    unit = "px" if images[0].geometry.unit == "px" else "voxels"
    sizes = len({image.shape for image in images})
    return " x ".join(_range(axis, "d") for axis in shapes.T) + f" {unit}" + (f" ({sizes} sizes)" if sizes > 1 else "")


def _spacing(images: Sequence[ImageFacts]) -> str:
    if images[0].geometry.unit == "px":
        return "none: plain images, measured in pixels"
    spacings = np.array([image.geometry.spacing for image in images])
    return " x ".join(_range(axis, ".3g") for axis in spacings.T) + " mm"


def _range(values: Array, form: str) -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low}-{high}"
