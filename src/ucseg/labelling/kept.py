"""What does a dataset keep of the one that it replaces? What came back from experts, which `init` cannot find."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CASES_FILE, Dataset
from ucseg.dataset.masks import read_label
from ucseg.errors import UserError
from ucseg.labelling.shortlist import ABOUT
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.content import content_of
from ucseg.scans.reading import read_header

_OF_SERVE = re.compile(r"(.+\.v\d{4,})\.\w.*")


@dataclass
class Kept:
    """The new cases with what stays of the old ones.

    Attributes:
        masks, slices: names of cases whose mask, or labelled_slices, are those of the old table.
        lost: why -> names of the old cases whose mask or labelled_slices the new table does not have.
    """

    cases: list[Case]
    masks: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def kept_of(old: Dataset, new: Dataset, hidden: Mapping[str, Address], left_out: Collection[Path]) -> Kept:
    """What `add-masks` and `serve` noted in a table goes into the new one, with labelled_slices. Nothing is written.

    Masks in the folder of the scans are for `init` to find, so these are not kept: it may have found them wrongly.

    Args:
        old: the dataset that is replaced; its root may be gone.
        hidden: case -> mask of the new dataset that training must not see.
        left_out: files that are named already, with the reason.

    Raises:
        UserError: masks that no longer fit the dataset's classes or images, all of them at once.
    """
    cases = {case.case: case for case in new.cases}
    known = [*hidden.values(), *(one for case in new.cases for one in (case.image, case.mask) if one is not None)]
    used = {*left_out, *(path for one in known for path in (one.path, *one.files))}
    result = Kept([])
    for before in old.cases:
        if before.mask is None:
            continue
        case, added = cases.get(before.case), _is_added(before.mask, old, new)
        there = all(file.exists() for file in before.mask.files)
        own = None if case is None else case.mask or hidden.get(case.case)
        if case is not None and case.mask is not None and case.mask.path == before.mask.path:
            kept = replace(case, slices=before.slices)
        elif not added:
            if own is not None and before.slices is not None:
                result.lost["labelled_slices of a mask that is another one or hidden now"].append(before.case)
            elif own is None and case is not None and there and used.isdisjoint({before.mask.path, *before.mask.files}):
                result.lost["masks in the folder of the scans that are not found as masks now"].append(before.case)
            continue
        elif (why := _why_not(before, case, there, own is not None, old, new)) or case is None:
            result.lost[why].append(before.case)
            continue
        else:
            kept = replace(case, mask=before.mask.as_said(new.config.said), slices=before.slices)
            result.masks.append(case.case)
        if kept.slices is not None:
            result.slices.append(case.case)
        cases[case.case] = kept
    _refuse_unfit([cases[name] for name in dict.fromkeys([*result.masks, *result.slices])], new)
    result.cases = list(cases.values())
    return result


def _is_added(mask: Address, old: Dataset, new: Dataset) -> bool:
    """Whether no `init` can have found a mask: it lies elsewhere, or came from `serve` or a list of `label-next`."""
    of_serve = _OF_SERVE.fullmatch(mask.path.name)
    if of_serve is not None and mask.path.with_name(f"{of_serve[1]}.json").is_file():
        return True
    if (mask.path.parent.parent / ABOUT).is_file():
        return True

    def searched(root: Path) -> bool:
        skipped = new.folder != root and new.folder.is_relative_to(root) and mask.path.is_relative_to(new.folder)
        return mask.path.is_relative_to(root) and not skipped

    return not (searched(old.root) or searched(new.root))


def _why_not(before: Case, case: Case | None, there: bool, has_own: bool, old: Dataset, new: Dataset) -> str:
    """Why an added mask cannot stay; "" if it can."""
    if case is None:
        return "masks of cases that are gone"
    if not there:
        return "masks whose files are gone"
    if not _is_same(before.image, case.image, old, new):
        return "masks of cases that have another image now"
    # It may begin with what a model says. As a reference it would make that model look better than it is.
    if has_own and before.split == "train" != case.split:
        return "masks of cases that are for validation or test now, and have one in the folder"
    return ""


def _is_same(before: Address, image: Address, old: Dataset, new: Dataset) -> bool:
    """Whether two images are one, which may have been moved with its folder."""
    if before.path == image.path:
        return True
    if not all(file.exists() for file in before.files):
        return before.below(old.root) == image.below(new.root)
    try:
        return content_of(before) == content_of(image)
    except OSError:
        return False


def _refuse_unfit(cases: list[Case], dataset: Dataset) -> None:
    def problem(case: Case) -> UserError | None:
        assert case.mask is not None
        try:
            shape, geometry, _ = read_header(case.image)
            read_label(case.mask, shape, dataset.config, geometry, case.slices)
        except UserError as error:
            return error
        return None

    problems = [error for error in for_each(problem, cases) if error is not None]
    if problems:
        file = dataset.folder / CASES_FILE
        what = f"{file}: it names masks that do not fit; correct them, or remove their names there to go on without."
        raise UserError.together([*problems, UserError("kept-mask", what)])
