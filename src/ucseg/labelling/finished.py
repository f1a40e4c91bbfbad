"""How does an expert's mask come into a dataset? By its name; it stays where it is, and cases.csv names it."""

from __future__ import annotations

import filecmp
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.fitting import require_same_aspect, stretch
from ucseg.dataset.manifest import Dataset
from ucseg.dataset.masks import classes_held, read_label
from ucseg.dataset.slices import Slices
from ucseg.errors import UserError
from ucseg.folder.listing import is_empty, list_scans
from ucseg.folder.roles import MASK_WORDS
from ucseg.labelling.shortlist import ABOUT, START, slices_of_list
from ucseg.scans.address import Address, absolute, composed, without_ending
from ucseg.scans.reading import read_header

_MASK_OF = re.compile(rf"(?P<case>.+)[ _.-]{MASK_WORDS}", re.IGNORECASE)


@dataclass
class Finished:
    """What a folder of masks means for a dataset.

    Attributes:
        cases: those of the dataset with the masks that are new, in the dataset's order.
        added, replaced, kept: names of cases: without a mask before, with another one, with this one.
        strangers: files of no case.
        uncorrected: those of `added` and `replaced` whose mask is, byte by byte, the model's own of the list.
        empty: those of `added` and `replaced` whose mask holds no class, where all other masks hold some.
        stretched: new masks of another size than their images -> how they are stretched to fit.
    """

    cases: list[Case]
    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    uncorrected: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    stretched: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = ("added", "replaced", "kept", "strangers", "uncorrected", "empty")
        return f"<Finished: {', '.join(f'{len(getattr(self, name))} {name}' for name in counts)}>"


def finished_masks(
    dataset: Dataset, folder: Path, *, overwrite: bool = False, report: Callable[[int, int], None] | None = None
) -> Finished:
    """The dataset's cases with the masks of a folder. Nothing is written.

    A mask belongs to the case of its name: CASE.nii.gz, CASE.png, or CASE_mask, CASE_seg and the like. In the folder of
    a list of slices, only these slices of it are annotated, and those that were before.

    Args:
        overwrite: a mask may take the place of another one.
        report: called with how many masks are read, and of how many.

    Raises:
        UserError: the folder holds the model's own masks, or no mask of a case; or a mask is not fit for its image. All
            such masks are named at once.
    """
    folder = absolute(folder)
    if not folder.is_dir():
        raise UserError("finished-no-folder", f"{folder}: is no folder; name the folder of the finished masks.")
    if folder.name == START and (folder.parent / ABOUT).is_file():
        raise UserError(
            "masks-are-starts",
            f"{folder}: these are the model's own masks; save those that are corrected into another folder.",
        )
    names = {case.case: case for case in dataset.cases}
    found, strangers = _by_case(dataset, names, folder)
    result = Finished([], strangers=strangers)
    slices = slices_of_list(folder.parent)
    problems = []
    for number, (name, masks) in enumerate(found.items(), start=1):
        case = names[name]
        holds_none = False
        try:
            names[name], holds_none = _with_mask(dataset, case, masks, slices.get(name), overwrite)
        except UserError as error:
            problems.append(error)
        changed = result.added if case.mask is None else result.replaced
        (result.kept if names[name] == case else changed).append(name)
        if names[name] != case and _is_the_models_own(masks[0].path, folder.parent):
            result.uncorrected.append(name)
        if names[name] != case and masks[0].plain and (sizes := stretch(masks[0], *read_header(case.image)[:2])):
            result.stretched[masks[0].name] = sizes
        if holds_none:
            result.empty.append(name)
        if report is not None:
            report(number, len(found))
    if problems:
        raise UserError.together(problems)
    result.cases = list(names.values())
    if result.empty and not _usual(dataset, result):
        result.empty.clear()
    return result


def _by_case(dataset: Dataset, names: Collection[str], folder: Path) -> tuple[dict[str, list[Address]], list[str]]:
    """The masks of a folder by the names of their cases, and the names of files of no case."""
    listed, _ = list_scans(folder, set())
    found: dict[str, list[Address]] = defaultdict(list)
    strangers = []
    cases = {composed(case): case for case in names}
    for one in listed:
        if one.is_mask is False:
            continue
        name = composed(without_ending(one.name))
        match = _MASK_OF.fullmatch(name)
        case = cases.get(name) or (cases.get(match["case"]) if match else None)
        if case is None:
            strangers.append(one.name)
        else:
            found[case].append(one.address)
    if is_empty(folder):
        raise UserError(
            "finished-empty",
            f"{folder}: the folder holds no file; save the corrected masks into it, each under the name of its case.",
        )
    if not found:
        raise UserError(
            "no-finished-mask",
            f"{folder}: no file in it has the name of a case of {dataset.folder}; name masks as their cases, e.g. "
            f"{dataset.cases[0].case}.",
        )
    return found, strangers


def _usual(dataset: Dataset, result: Finished) -> bool:
    """Whether all masks of training cases but those of `result.empty` hold a class, and there are some."""
    read = {*result.added, *result.replaced}
    others = [case for case in dataset.labelled if case.case not in read]
    if not others and len(read) == len(result.empty):
        return False
    for case in others:
        try:
            shape, geometry, _ = read_header(case.image)
            label = None if case.mask is None else read_label(case.mask, shape, dataset.config, geometry, case.slices)
        except UserError:
            continue  # `ucseg check` and training name it; it says nothing of the new masks
        if label is not None and not classes_held(label):
            return False
    return True


def _is_the_models_own(mask: Path, next_to: Path) -> bool:
    """Whether a finished mask is the file that `label-next` gave to start from, as it was."""
    start = next_to / START / mask.name
    there = (next_to / ABOUT).is_file() and start.is_file() and mask.is_file()
    return there and filecmp.cmp(mask, start, shallow=False)


def _with_mask(
    dataset: Dataset, case: Case, masks: list[Address], slices: Slices | None, overwrite: bool
) -> tuple[Case, bool]:
    """The case with the one mask that was found for it, read and fit for its image, and whether it holds no class.

    Of a mask whose case names slices, nobody says that it should hold one. A UserError says why a mask is not taken.
    """
    if len(masks) > 1:
        found = " and ".join(mask.name for mask in masks)
        raise UserError("masks-of-one-case", f"{masks[0].parent}: {found} are both of {case.case}; keep one.")
    mask = masks[0].as_said(dataset.config.said)
    more = case.slices is not None and slices is not None
    if case.slices is not None and slices is not None:
        slices = slices.joined(case.slices)
    if case.mask == mask and slices in (None, case.slices):
        return case, False
    if case.mask not in (None, mask) and not (more or overwrite):
        raise UserError(
            "mask-there", f"{mask}: {case.case} already has the mask {case.mask}; add --overwrite to replace it."
        )
    shape, geometry, _ = read_header(case.image)
    require_same_aspect(mask, shape, geometry)
    label = read_label(mask, shape, dataset.config, geometry, slices)
    return replace(case, mask=mask, slices=slices), slices is None and not classes_held(label)
