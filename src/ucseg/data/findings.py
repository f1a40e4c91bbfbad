"""What `ucseg check` and the start of a training tell of a dataset as a whole: leaks, shift, too few labels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ucseg.data.duplicates import nearly_equal_pairs
from ucseg.data.fingerprint import Fingerprint, take_fingerprint
from ucseg.data.manifest import CASES_FILE, CONFIG_FILE, Dataset
from ucseg.data.shift import find_shifts
from ucseg.data.splits import subjects_in_two_splits
from ucseg.errors import UserError
from ucseg.types import Case

Severity = Literal["error", "warning"]
FEW_LABELS = 3
"""Fewer labelled cases of a class than this are told: one of them alone then decides what the class looks like."""


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        file: where it is, relative to the data root if it lies there.
        finding: what is wrong.
        mend: what to do.
        severity: "error": training or its figures would be wrong; "warning": worth a look.
    """

    file: str
    finding: str
    mend: str
    severity: Severity


def findings_before_training(dataset: Dataset) -> list[Finding]:
    """Subjects in two splits, too few labels for a class, and labelled scans unlike the unlabelled ones.

    Only training scans are read, and those only if they have changed since they were read last.
    """
    try:
        seen = take_fingerprint(dataset)
    except UserError:
        return list(subject_leaks(dataset))  # whoever needs the scans says what is wrong with them
    return [*subject_leaks(dataset), *few_labels(dataset, seen), *shift(dataset, seen)]


def subject_leaks(dataset: Dataset) -> Iterable[Finding]:
    """Subjects with cases in two splits."""
    for subject, splits in subjects_in_two_splits(dataset.cases).items():
        names = [case.case for case in dataset.cases if case.subject == subject]
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield Finding(
            CASES_FILE,
            f"leak: subject '{subject}' is in {' and '.join(splits)} ({listed})",
            "give all its cases one split, or mend the subject column",
            "error",
        )


def alike(dataset: Dataset) -> Iterable[Finding]:
    """Training images that are nearly the same; `ucseg check` looks across the splits too, and opens every image."""
    try:
        scans = take_fingerprint(dataset).scans
    except UserError:
        return
    names = list(scans)
    subjects = {case.case: case.subject for case in dataset.training}
    for i, j, likeness in nearly_equal_pairs([scan.thumbnail for scan in scans.values()]):
        if subjects[names[i]] != subjects[names[j]]:
            yield Finding(
                CASES_FILE,
                f"training cases {names[i]} and {names[j]} show nearly the same image, correlation {likeness:.4f}",
                "look at both; if they show the same, give them one subject",
                "warning",
            )


def copies_across_splits(dataset: Dataset) -> Iterable[Finding]:
    """Image files that are there byte for byte in two splits; none is decoded.

    Uncompressed scans of one shape are all of one size, so pieces of files come before whole ones.
    """
    groups = [[case for case in dataset.cases if case.image.is_file()]]  # a series of slices is a folder
    for look in (_size, _pieces, _content):
        groups = [alike for group in groups for alike in _in_two_splits(group, look)]
    for same in groups:
        yield Finding(
            CASES_FILE,
            f"leak: {', '.join(f'{case.case} ({case.split})' for case in same)} are copies of one image",
            "keep it in one split; figures of validation and test would be too good",
            "error",
        )


def few_labels(dataset: Dataset, seen: Fingerprint) -> Iterable[Finding]:
    """Classes that hardly any labelled training case shows; those that none does are told apart."""
    for index, name in dataset.config.classes.items():
        count = seen.cases_with(index)
        if index and 0 < count < min(FEW_LABELS, len(seen.labelled)):
            yield Finding(
                CONFIG_FILE,
                f"only {count} of {len(seen.labelled)} labelled training masks hold class {index} '{name}'",
                f"label {FEW_LABELS - count} more that have it, or expect it to be missed in others",
                "warning",
            )


def shift(dataset: Dataset, seen: Fingerprint) -> Iterable[Finding]:
    """Figures in which labelled and unlabelled scans differ."""
    for one in find_shifts(seen, dataset.config.modality):
        yield Finding(
            CASES_FILE,
            f"labelled and unlabelled scans differ in {one.what}: median {one.labelled:.3g} and {one.unlabelled:.3g} "
            f"(Kolmogorov-Smirnov distance {one.distance:.2f}, p = {one.p:.1g})",
            f"label some of the unlabelled ones that differ, such as {', '.join(one.examples)}, or leave these out: "
            "pseudo-labels are not to be trusted where no label was seen",
            "warning",
        )


def _in_two_splits(cases: Sequence[Case], look: Callable[[Path], int | bytes]) -> Iterable[list[Case]]:
    """Cases whose images look the same, where they are of more than one split."""
    groups: dict[int | bytes, list[Case]] = defaultdict(list)
    for case in cases:
        groups[look(case.image)].append(case)
    return [group for group in groups.values() if len({case.split for case in group}) > 1]


def _size(file: Path) -> int:
    return file.stat().st_size


def _pieces(file: Path, count: int = 8, length: int = 4096) -> bytes:
    """A few stretches of a file, evenly spread."""
    with file.open("rb") as stored:
        found = []
        for start in range(0, _size(file), max(length, _size(file) // count)):
            stored.seek(start)
            found.append(stored.read(length))
    return b"".join(found)


def _content(file: Path) -> bytes:
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "blake2b").digest()
