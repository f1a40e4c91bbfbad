"""Which cases of a public data set are for training, and with which masks: by its makers, a paper or the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ucseg.catalogue.layout import Layout, PublicSet, Split
from ucseg.dataset.case import Case
from ucseg.dataset.splits import Amount, split_cases
from ucseg.errors import UserError
from ucseg.scans.address import Address


def chosen_split(name: str, public: PublicSet, split: str | None) -> Split | None:
    """The published split that was asked for; a UserError if the data set has none of this name."""
    if split is None:
        return None
    if split not in public.splits:
        fix = f"choose one of {', '.join(public.splits)}" if public.splits else "draw one with --labelled"
        raise UserError("published-split", f"--split '{split}' is no published split of {name}; {fix}.")
    return public.splits[split]


def layouts_of(public: PublicSet, split: Split | None) -> tuple[Layout, ...]:
    """Those that a split can be read from: one that counts names needs a layout with a list of them."""
    if split is None:
        return public.layouts
    if split.layout is not None:
        return (split.layout,)
    return tuple(layout for layout in public.layouts if any(part.names for part in layout.parts))


def divide(
    cases: Sequence[Case],
    split: Split | None,
    validation: Amount | None = None,
    test: Amount | None = None,
    labelled: Amount | None = None,
    seed: int = 0,
) -> tuple[list[Case], dict[str, Address]]:
    """Give every case (in the published order) its split, and hide the training masks that are not to be seen.

    With a published split nothing is drawn. The first subjects of the list keep their masks, the others' are hidden.
    There are validation cases only if the split has some. Otherwise `split_cases` divides, unless all are test cases.

    Returns:
        the cases in their order, and the hidden masks by case.

    Raises:
        UserError: an amount contradicts the published split or cannot be met, or the list is not the published one.
    """
    if split is None:
        if all(case.split in ("test", "validation") for case in cases):
            return list(cases), {}
        return split_cases(cases, validation, test, labelled, seed)
    amounts = {"--validation": validation, "--test": test, "--labelled": labelled}
    given = [option for option, amount in amounts.items() if amount is not None]
    if given:
        raise UserError("split-and-amount", f"{given[0]} contradicts --split, which decides it; leave one of them out.")
    subjects = list(dict.fromkeys(case.subject for case in cases if case.split == "train"))
    if split.of is not None and len(subjects) != split.of:
        raise UserError(
            "list-not-published",
            f"The list of training cases names {len(subjects)} subjects, but the published one {split.of}; use the "
            f"published list, or --labelled {split.labelled} without --split.",
        )
    unseen = set() if split.labelled is None else set(subjects[split.labelled :])
    unseen_cases = [case for case in cases if case.split == "train" and case.subject in unseen]
    hidden = {case.case: case.mask for case in unseen_cases if case.mask is not None}
    return [replace(case, mask=None) if case.case in hidden else case for case in cases], hidden
