"""Who is trained on, who chooses, who is tested, and which training masks are shown: by whole subjects, from a seed.

Every subject has a place in one order drawn from (seed, purpose, subject). Parts are taken from the head of that order.
So the 5 % set of labelled cases lies inside the 10 % set of the same seed. The test cases depend on neither the amount
of validation nor of labelled cases, and a case added later does not reshuffle the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ucseg.dataset.case import Case
from ucseg.errors import UserError, some
from ucseg.randomness import derive_seed
from ucseg.scans.address import Address

Amount = str | int | float

VALIDATION_DEFAULT = "10%"
TEST_DEFAULT = "20%"


def split_cases(
    cases: Sequence[Case],
    validation: Amount | None = None,
    test: Amount | None = None,
    labelled: Amount | None = None,
    seed: int = 0,
) -> tuple[list[Case], dict[str, Address]]:
    """Give every case its split and hide the training masks that are not to be seen.

    Amounts are "10%" or 0.1 (of the cases with a mask that may be drawn), or a number of cases such as 60. Whole
    subjects are drawn until the amount is reached, so the last one may exceed it. A percentage above zero gives at
    least one case. The defaults leave a set of one or two subjects whole.

    Args:
        cases: `split` is "train", "validation" or "test" where the data came in such folders, else "". Splits that the
            data brought are kept; beside them, a case without one is for training.
        validation: None: the data's own, or 10 %.
        test: None: the data's own, or 20 %.
        labelled: how many of the training masks stay visible; None: all.
        seed: of the draw.

    Returns:
        the cases in their order, and the hidden masks by case.

    Raises:
        UserError: an amount that cannot be read or met, one that contradicts the data's own splits, or no labelled case
            left for training.
    """
    amounts = {"validation": validation, "test": test}
    for split, amount in amounts.items():
        if amount is not None and _has_own(cases, split):
            raise UserError(
                "split-kept",
                f"The folder brings its own {split} cases; leave out --{split}, or give a folder without them.",
            )
    fresh = {case.case for case in cases if case.split in ("", "train")}
    subjects: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.case in fresh:
            subjects[case.subject].append(case)
    # Subjects that also lie in a split of the data's own cannot be drawn into another one.
    fixed = {case.subject for case in cases if case.case not in fresh}
    order = _order([name for name, own in subjects.items() if name not in fixed and _masks(own)], seed, "split")
    with_mask = sum(_masks(subjects[name]) for name in order)
    if not with_mask:
        if in_both := sorted(name for name, own in subjects.items() if _masks(own)):
            raise UserError(
                "subjects-in-two-splits",
                f"All {len(in_both)} subjects with a training mask also have cases in the folder's own validation or "
                f"test ({some(in_both)}); give another --subject, or put the folders together.",
            )
        raise UserError(
            "no-mask",
            f"None of the {len(fresh)} cases for training has a mask; put masks into a folder 'masks', name them like "
            "X_mask, or say with --masks which files they are.",
        )
    place: dict[str, str] = {}
    # Test first: it stays the same whatever amount of validation is asked for.
    for split, default in (("test", TEST_DEFAULT), ("validation", VALIDATION_DEFAULT)):
        if _has_own(cases, split):
            continue
        given = amounts[split]
        amount = given if given is not None else default if len(order) > 2 else 0
        wanted = _count(amount, with_mask, f"--{split}")
        free = [name for name in order if name not in place]
        after = " after --test" if place else ""
        place |= dict.fromkeys(_take(free, subjects, wanted, f"--{split} {amount}{after}"), split)
    done = [replace(one, split=place.get(one.subject, "train")) if one.case in fresh else one for one in cases]
    hidden = hide_masks(done, labelled, seed)
    done = [replace(case, mask=None) if case.case in hidden else case for case in done]
    if not any(case.split == "train" and case.mask is not None for case in done):
        raise UserError(
            "no-labelled-left",
            f"No labelled case is left for training ({with_mask} cases with a mask in {len(order)} subjects); "
            "lower --validation and --test (0 is allowed), or raise --labelled if you gave it.",
        )
    return done, hidden


def subjects_in_two_splits(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Subject -> its splits, for subjects that lie in more than one: a leak, which makes test figures too good."""
    found: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        found[case.subject].add(case.split)
    return {subject: sorted(splits) for subject, splits in sorted(found.items()) if len(splits) > 1}


def _has_own(cases: Iterable[Case], split: str) -> bool:
    """A folder of test images without masks does not count: nothing could be measured on it."""
    return any(case.split == split and case.mask is not None for case in cases)


def hide_masks(cases: Sequence[Case], labelled: Amount | None, seed: int) -> dict[str, Address]:
    """Training masks by case that training must not see when `labelled` are shown; the 5 % are among the 10 %.

    A UserError if the amount cannot be read, or is more than there are.
    """
    if labelled is None:
        return {}
    subjects: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.split == "train" and case.mask is not None:
            subjects[case.subject].append(case)
    order = _order(subjects, seed, "labelled")
    total = sum(_masks(own) for own in subjects.values())
    shown = _take(order, subjects, _count(labelled, total, "--labelled"), f"--labelled {labelled}")
    hidden = [case for name, own in subjects.items() if name not in shown for case in own]
    return {case.case: case.mask for case in hidden if case.mask is not None}


def _order(subjects: Iterable[str], seed: int, purpose: str) -> list[str]:
    return sorted(subjects, key=lambda subject: (derive_seed(seed, f"{purpose}/{subject}"), subject))


def _masks(cases: Iterable[Case]) -> int:
    return sum(case.mask is not None for case in cases)


def _take(order: list[str], subjects: dict[str, list[Case]], wanted: int, option: str) -> set[str]:
    taken: set[str] = set()
    count = 0
    for name in order:
        if count >= wanted:
            break
        taken.add(name)
        count += _masks(subjects[name])
    if count < wanted:
        raise UserError(
            "amount-not-there",
            f"{option} asks for {wanted} cases with a mask, but only {count} are left; ask for less.",
        )
    return taken


def may_join_training(cases: Sequence[Case]) -> list[Case]:
    """Of the cases of one split: those without a mask that may become training cases and leave no subject in both."""
    staying = {case.subject for case in cases if case.mask is not None}
    return [case for case in cases if case.mask is None and case.subject not in staying]


def check_amounts(**amounts: Amount | None) -> None:
    """Raise a UserError for amounts that no number of cases could fulfil ("150%"), before any scan is read."""
    for option, amount in amounts.items():
        if amount is not None:
            _count(amount, 0, f"--{option}")


def share_or_cases(amount: Amount, option: str) -> tuple[float | None, int]:
    """What an amount means: "10%" or 0.1 is (0.1, 0), "25" or 25 is (None, 25).

    Raises:
        UserError: not a number, negative, or a share above 1; `option` is what the user gave it to.
    """
    text = str(amount).strip()
    share, number = None, 0
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
        elif "." in text or isinstance(amount, float):
            share = float(text)
        else:
            number = int(text)
    except ValueError:
        number = -1
    if number < 0 or (share is not None and not 0 <= share <= 1):
        raise UserError(
            "amount-form", f"{option} '{amount}' is not between 0 and 100% or a number of cases; give e.g. 10% or 25."
        )
    return share, number


def _count(amount: Amount, total: int, option: str) -> int:
    share, number = share_or_cases(amount, option)
    if share is None:
        return number
    # Halves round up, on all machines alike; a tiny share of a small set is one case, not none.
    return max(1, int(share * total + 0.5 + 1e-9)) if share > 0 else 0
