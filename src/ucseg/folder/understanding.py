"""What dataset is in a folder: its cases, the kind of its scans, how its masks are read, what is left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from ucseg.config import build
from ucseg.dataset.case import Case
from ucseg.dataset.masks import read_label
from ucseg.dataset.settings import DatasetConfig, Modality
from ucseg.errors import UserError
from ucseg.folder.answers import find_cases_unasked
from ucseg.folder.as_shown import follow_tags, oddities_of
from ucseg.folder.as_shown import in_words as said_of
from ucseg.folder.channel_axis import CHANNELS, with_channel_axis
from ucseg.folder.classes import classes_of, labels_of_dataset_json, parse_classes, with_classes
from ucseg.folder.coloured_masks import colours_of_classes, taken_in_words
from ucseg.folder.copies import without_copies
from ucseg.folder.listing import LeftOut
from ucseg.folder.mask_values import choose_reading
from ucseg.folder.pairing import Found
from ucseg.folder.place_notes import of_masks, of_spacings
from ucseg.folder.split_lists import by_lists
from ucseg.folder.survey import (
    ImageFacts,
    MaskFacts,
    Surveyed,
    is_stack_to_measure,
    lowest_values,
    reason_of,
    survey_cases,
)
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.channels import missing_channels
from ucseg.scans.palette import in_hex, numbered
from ucseg.scans.reading import modality_of, read_scan
from ucseg.scans.said import NOTHING, Said

_AIR_IN_CT = -500.0


@dataclass(frozen=True)
class ImportOptions:
    """What the user says; None: guess. See `ucseg.init`."""

    images: str | None = None
    masks: str | None = None
    subject: str | None = None
    classes: str | None = None
    modality: str | None = None
    mask_threshold: float | None = None
    fill_outlines: bool | None = None
    instances: bool | None = None
    orientation: str | None = None
    said: Said = NOTHING
    parts: str | None = None
    train_list: Path | None = None
    test_list: Path | None = None
    ignore: int | None = None


@dataclass(frozen=True)
class Understood(Found):
    """The usable cases of a folder, and what kind of dataset they are; shapes and spacing are words to print."""

    config: DatasetConfig
    shapes: str
    spacing: str

    @property
    def to_fix(self) -> dict[Path, str]:
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
        root: the folder as dataset.yaml names it.
        done: called with (stage, number of cases in it) after each case, for progress bars.

    Raises:
        UserError: there is no usable image, an option is wrong, or the masks hold no classes.
    """
    check_options(options.modality, options.classes, options.mask_threshold, options.orientation)
    given = None if options.images is None else options.images.removesuffix(CHANNELS)
    found, images = find_cases_unasked(folder, given, options.masks, options.subject, skip, options.parts)
    found = without_copies(folder, found)
    images = f"{images or '*'}{CHANNELS}" if given != options.images else images
    unsaid = options.classes is None and options.mask_threshold is None
    if not options.said.palette and (colours := colours_of_classes(found.cases, unsaid)):
        how = replace(options.said, palette=tuple(colours.values()))
        options = replace(options, classes=numbered(colours), said=how)
        found = replace(found, notes=[*found.notes, taken_in_words(colours)])
    lists = {"train": options.train_list, "test": options.test_list}
    found = replace(found, cases=by_lists(folder, found.cases, lists))
    return understand_cases(folder, found, replace(options, images=images), root, done)


def check_options(
    modality: str | None, classes: str | None, mask_threshold: float | None, orientation: str | None
) -> None:
    """Before minutes of reading; a UserError if an option cannot be met."""
    if modality is not None and modality not in get_args(Modality):
        known = ", ".join(get_args(Modality))
        raise UserError("modality-unknown", f"--modality '{modality}' is not known; choose one of {known}.")
    if classes is not None:
        parse_classes(classes)
    if mask_threshold is not None and not math.isfinite(mask_threshold):
        raise UserError(
            "threshold-number", f"--mask-threshold {mask_threshold} is no grey level; give one, such as 127."
        )
    if orientation not in (None, "shown", "stored"):
        raise UserError("orientation-unknown", f"--orientation '{orientation}' is not known; choose shown or stored.")


def understand_cases(
    folder: Path,
    found: Found,
    options: ImportOptions,
    root: str,
    done: Callable[[str, int], None] | None = None,
) -> Understood:
    """As `understand`, of cases found already, by `images` of the options; `masks` and `subject` are not used."""
    given = parse_classes(options.classes) if options.classes is not None else None
    left_out, notes = list(found.left_out), list(found.notes)
    pattern = (options.images or "").removeprefix(f"{folder.absolute().as_posix()}/")
    asked, pattern = with_channel_axis([case.as_said(options.said) for case in found.cases], pattern, notes)
    stage = _stage("reading headers and masks", len(found.cases), done)
    wanted = None if given is None else [name for index, name in given.items() if index]
    surveyed, unreadable = survey_cases(asked, stage, wanted)
    for case, reason in unreadable:
        left_out += _with_mask(case, reason)
    if not surveyed:
        case, reason = unreadable[0]
        raise UserError(
            "no-image-readable",
            f"{folder}: none of its {len(unreadable)} images can be read, for example {case.image.name}: {reason}",
        )
    surveyed, dims, channels = _of_commonest_kind(surveyed, left_out)
    surveyed = follow_tags(surveyed, options.orientation, notes)
    notes += [f"{what}; {fix}." for _, _, what, fix in said_of(oddities_of(surveyed))]
    labels, stated_modality, json_notes = labels_of_dataset_json(folder)
    if given is None:
        notes += json_notes
    facts = {one.case.case: one.mask for one in surveyed if isinstance(one.mask, MaskFacts)}
    unfit = {one.case.case: one.mask for one in surveyed if isinstance(one.mask, str)}
    segments = classes_of(facts)
    notes += segments.notes
    for name, reason in segments.unfit.items():
        del facts[name]
        unfit[name] = reason
    named = given or labels or segments.classes
    for name, mask in list(facts.items()):
        try:
            facts[name] = with_classes(mask, named or {})
        except UserError as error:
            del facts[name]
            unfit[name] = reason_of(error, mask.mask)
    if unfit and not facts:
        name, reason = next(iter(unfit.items()))
        raise UserError(
            "no-mask-usable", f"{folder}: none of its {len(unfit)} masks can be used. For example {name}: {reason}"
        )
    reading = choose_reading(
        facts, named, options.mask_threshold, options.fill_outlines, options.instances, options.ignore
    )
    notes += reading.notes
    config = build(
        DatasetConfig,
        {
            "name": folder.absolute().name,
            "root": root,
            "dims": dims,
            "modality": options.modality or stated_modality or _guess_modality(surveyed, dims, channels, notes),
            "channels": channels,
            "classes": reading.classes,
            "values": reading.values,
            "not_annotated": reading.not_annotated,
            "mask_threshold": reading.mask_threshold,
            "fill_outlines": reading.fill_outlines,
            "geometry": options.said.geometry,
            "spacing": list(options.said.spacing) or None,
            "max_voxels": options.said.max_voxels,
            "images": pattern,
            "palette": [in_hex(colour) for colour in options.said.palette],
        },
        "init",
    )
    unfit |= reading.rejected
    unfit |= _misfits([one for one in surveyed if one.case.case not in unfit], config, done)
    notes += [*of_masks([one for one in surveyed if one.case.case not in unfit]), *of_spacings(surveyed, dims)]
    cases = [replace(one.case, mask=None) if one.case.case in unfit else one.case for one in surveyed]
    for case in (one.case for one in surveyed):
        if case.mask is not None and case.case in unfit:
            reason = f"{unfit[case.case].rstrip('.')} (its image is used without a mask)."
            left_out.append(LeftOut(case.mask.path, reason))
    left_out.sort(key=lambda item: item.file)
    images = [one.image for one in surveyed if len(one.image.shape) == dims]
    return Understood(cases, left_out, found.subject_rule, notes, config, _shapes(images), _spacing(images))


def _of_commonest_kind(surveyed: Sequence[Surveyed], left_out: list[LeftOut]) -> tuple[list[Surveyed], int, int]:
    """The images of the commonest rank and number of channels, and both; the others are left out.

    Masks count first: without any, a kind cannot be learned.
    """
    kinds = [(one.image.geometry.dims, one.image.channels) for one in surveyed]
    counts = Counter(kinds)
    masked = Counter(kind for one, kind in zip(surveyed, kinds, strict=True) if one.case.mask is not None)
    dims, channels = max(counts, key=lambda kind: (masked[kind], counts[kind]))
    count = counts[dims, channels]
    usable = []
    for one, kind in zip(surveyed, kinds, strict=True):
        stack = kind[1] == channels and is_stack_to_measure(one.case, one.image.geometry, dims)
        if kind == (dims, channels) or stack:
            usable.append(one)
        elif missing := missing_channels(one.case.image, channels):
            left_out += _with_mask(one.case, f"{missing}; restore it, or remove what is left of the case.")
        else:
            left_out += _with_mask(
                one.case,
                f"the image is {kind[0]}D with {kind[1]} channel(s), but {count} of {len(kinds)} images are {dims}D "
                f"with {channels}; convert it, or make another dataset of its kind (--images).",
            )
    return usable, dims, channels


def _with_mask(case: Case, reason: str) -> list[LeftOut]:
    # The image is what needs a fix.
    because = f"its image {case.image.name} is left out."
    masks = [] if case.mask is None else [LeftOut(case.mask.path, because, rightly=True)]
    return [LeftOut(case.image.path, reason), *masks]


def _misfits(
    surveyed: Sequence[Surveyed], config: DatasetConfig, done: Callable[[str, int], None] | None
) -> dict[str, str]:
    """Case -> why its mask cannot become a label. Masks of their image's size need no second reading, outlines do.

    A mask that its header puts elsewhere stays: a header can be set right without another `init`.
    """

    def problem(one: Surveyed) -> str | None:
        assert one.case.mask is not None
        try:
            read_label(one.case.mask, one.image.shape, config, one.image.geometry)
        except UserError as error:
            return reason_of(error, one.case.mask)
        return None

    again = [
        one
        for one in surveyed
        if isinstance(one.mask, MaskFacts) and (config.fill_outlines or one.mask.shape != one.image.shape)
    ]
    problems = for_each(problem, again, _stage("fitting masks to images", len(again), done))
    return {one.case.case: text for one, text in zip(again, problems, strict=True) if text is not None}


def _guess_modality(surveyed: Sequence[Surveyed], dims: int, channels: int, notes: list[str]) -> str:
    if channels == 3 and dims == 2 and _are_photographs([one.case.image for one in surveyed]):
        return "rgb"
    some_images = [one.case.image for one in surveyed[:: max(1, len(surveyed) // 64)]]
    stated = {modality_of(image) for image in some_images} - {""}
    if len(stated) == 1:
        return stated.pop()
    if stated:
        kinds = ", ".join(sorted(stated))
        notes.append(f"by their DICOM headers the images are of several kinds ({kinds}); give one kind with --images.")
    if all(one.image.geometry.unit == "px" for one in surveyed):
        notes.append(
            "the modality of these images is not known; if they are ultrasound, repeat with "
            "--modality ultrasound --overwrite, or edit dataset.yaml."
        )
        return "other"
    lowest = lowest_values([one.case.image for one in surveyed])
    if lowest and float(np.median(lowest)) <= _AIR_IN_CT:
        notes.append("values reach air in Hounsfield units, so the images are read as CT (--modality changes it).")
        return "ct"
    notes.append("the images are read as MRI (--modality changes it).")
    return "mri"


def _are_photographs(images: Sequence[Address]) -> bool:
    """Whether images of three channels are colours. In files of scanners only numbers of 8 bits are."""
    if any(image.several for image in images):
        return False
    scanned = [image for image in images[:: max(1, len(images) // 8)][:8] if image.format == "itk"]
    try:
        return all(read_scan(image).array.dtype == np.uint8 for image in scanned)
    except UserError:  # `ucseg check` will say what is wrong
        return True


def _stage(name: str, total: int, done: Callable[[str, int], None] | None) -> Callable[[], None] | None:
    return None if done is None else lambda: done(name, total)


def _shapes(images: Sequence[ImageFacts]) -> str:
    unit = "px" if images[0].geometry.unit == "px" else "voxels"
    shapes = {image.shape for image in images}
    return f"{_ranges(shapes, 'd')} {unit}" + (f" ({len(shapes)} sizes)" if len(shapes) > 1 else "")


def _spacing(images: Sequence[ImageFacts]) -> str:
    if images[0].geometry.unit == "px":
        return "none: plain images, measured in pixels"
    return _ranges([image.geometry.spacing for image in images], ".3g") + " mm"


def _ranges(rows: Iterable[Sequence[float]], form: str) -> str:
    """The least and the greatest value of each column."""
    ends = [(format(min(column), form), format(max(column), form)) for column in zip(*rows, strict=True)]
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in ends)
