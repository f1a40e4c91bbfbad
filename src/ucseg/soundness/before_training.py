"""What is wrong with a dataset as a whole? Leaks, shift, too few labels: reported by `check` and before training."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ucseg.dataset.case import Case
from ucseg.dataset.manifest import CACHE, CASES_FILE, CONFIG_FILE, Dataset
from ucseg.dataset.splits import subjects_in_two_splits
from ucseg.errors import UserError
from ucseg.folder.objects import are_objects
from ucseg.machine.writing import whole_file
from ucseg.planning.facts import ScanFacts
from ucseg.planning.fingerprint import Fingerprint, take_fingerprint
from ucseg.planning.measuring import HELD_OUT_FILE, Look, measure_scans
from ucseg.soundness.duplicates import near_duplicates
from ucseg.soundness.finding import Finding
from ucseg.soundness.shift import shifts

PAIRS_FILE = "near_duplicates.json"
PAIRS_VERSION = 2
"""Raise it when other pairs are found: pairs of older versions are then looked for again."""
FEW_LABELS = 3
"""Labelled cases of a class; with fewer, a single one decides what the class looks like."""


def findings_before_training(
    dataset: Dataset, done: Callable[[], None] | None = None, look: Look | None = None
) -> list[Finding]:
    """Subjects in two splits, too few labels for a class, and labelled scans unlike the unlabelled ones.

    Only training scans are read, and only those that have changed; `done` and `look` are those of `take_fingerprint`.
    """
    try:
        seen = take_fingerprint(dataset, done, look)
    except UserError as error:
        return [*subject_leaks(dataset), *_of_all(error, dataset)]
    return [
        *subject_leaks(dataset),
        *few_labels(dataset, seen),
        *_numbers_of_objects(dataset, seen),
        *shifts(seen, dataset.config.modality),
    ]


def _of_all(error: UserError, dataset: Dataset) -> Iterable[Finding]:
    """Why no plan can be made of the scans together; what is wrong with one of them is reported of it."""
    if error.code in ("masks-all-empty", "mixed-units", "mixed-slices"):
        what, _, fix = str(error).removeprefix(f"{dataset.folder}: ").rstrip(".").rpartition("; ")
        yield Finding(error.code, CASES_FILE, what, fix, "error")


def _numbers_of_objects(dataset: Dataset, seen: Fingerprint) -> Iterable[Finding]:
    """Classes without names that are numbers of objects."""
    masks = [seen.scans[name].classes or {} for name in seen.labelled]
    unnamed = all(name == f"class_{value}" for value, name in dataset.config.classes.items() if value)
    if unnamed and are_objects([{value: one.components for value, one in mask.items()} for mask in masks]):
        what = f"the {len(dataset.config.classes) - 1} classes look like numbers of objects, counted in each image"
        fix = "if they are of one class, run ucseg init with --instances; else give the classes names"
        yield Finding("numbers-of-objects", CONFIG_FILE, what, fix)


def subject_leaks(dataset: Dataset) -> Iterable[Finding]:
    for subject, splits in subjects_in_two_splits(dataset.cases).items():
        names = [case.case for case in dataset.cases if case.subject == subject]
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        what = f"leak: subject '{subject}' is in {' and '.join(splits)} ({listed})"
        fix = "give all its cases one split, or fix the subject column"
        yield Finding("subject-leak", CASES_FILE, what, fix, "error")


def thumbnails_before_training(dataset: Dataset) -> dict[str, bytes | None]:
    """Thumbnails by case, of training, validation and test images; no mask of the latter two is opened.

    Only scans that have changed are read. Those that cannot be read have none, and no message here.
    """
    thumbnails: dict[str, bytes | None] = {}
    try:
        thumbnails |= {name: scan.thumbnail for name, scan in take_fingerprint(dataset).scans.items()}
    except UserError:
        return thumbnails  # nothing can be trained on, which training reports
    held_out = [replace(case, mask=None) for case in dataset.validation + dataset.test]
    found = measure_scans(dataset, held_out, None, file=HELD_OUT_FILE) if held_out else []
    measured = zip(held_out, found, strict=True)
    return thumbnails | {case.case: one.thumbnail for case, one in measured if isinstance(one, ScanFacts)}


def alike(
    dataset: Dataset, thumbnails: Mapping[str, bytes | None], known: Mapping[str, str | None] | None = None
) -> list[Finding]:
    """Images of two subjects that are nearly the same, or equal; those in two splits first: figures would be too good.

    Only a warning: a person must judge whether two images are too much alike.

    Args:
        known: digests, or other names of the content, by case; pairs with equal ones are reported elsewhere.
    """
    cases = [case for case in dataset.cases if case.case in thumbnails]
    digests = known or {}

    found = []
    for i, j, likeness in _pairs(dataset, cases, [thumbnails[case.case] for case in cases]):
        one, other = cases[i], cases[j]
        if digests.get(one.case) is not None and digests.get(one.case) == digests.get(other.case):
            continue
        kind, leak = ("near-duplicate-leak", "possible leak: ") if one.split != other.split else ("near-duplicate", "")
        both = f"cases {one.case} ({one.split}) and {other.case} ({other.split})"
        what = f"{leak}{both} show nearly the same image, correlation of details {likeness:.2f}"
        fix = "look at both; if they show the same, give them one subject and one split"
        found.append(Finding(kind, CASES_FILE, what, fix))
    return sorted(found, key=lambda finding: finding.kind != "near-duplicate-leak")


def _pairs(dataset: Dataset, cases: Sequence[Case], thumbnails: Sequence[bytes | None]) -> list[tuple[int, int, float]]:
    """Near-duplicates of different subjects; from the dataset's cache if images and subjects are the same."""
    keep = dataset.folder / CACHE / PAIRS_FILE
    state = hashlib.blake2b(str(PAIRS_VERSION).encode(), digest_size=16)
    for case, thumbnail in zip(cases, thumbnails, strict=True):
        state.update(f"{case.case}\n{case.subject}\n".encode() + (thumbnail or b""))
    try:
        known = json.loads(keep.read_text(encoding="utf-8"))
        if known["state"] == state.hexdigest():
            return [(i, j, likeness) for i, j, likeness in known["pairs"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no file, or only a part: they are looked for again
    found = near_duplicates(thumbnails, lambda i, j: cases[i].subject == cases[j].subject)
    with contextlib.suppress(OSError, UserError):  # a folder that cannot be written to: looked for each time
        keep.parent.mkdir(exist_ok=True)
        with whole_file(keep, ".json") as temporary:
            temporary.write_text(json.dumps({"state": state.hexdigest(), "pairs": found}), encoding="utf-8")
    return found


def same_files(dataset: Dataset) -> list[list[Case]]:
    """Groups of cases of more than one split whose image files are equal byte for byte; none is decoded.

    Uncompressed scans of one shape are all of one size, so pieces of files come before whole ones.
    """
    groups = [[case for case in dataset.cases if case.image.file.is_file()]]  # a series of slices is a folder
    for look in (_size, _pieces, _content):
        groups = [same for group in groups for same in _in_two_splits(group, look)]
    return groups


def copies_across_splits(groups: Iterable[Sequence[Case]]) -> Iterable[Finding]:
    for group in groups:
        what = f"leak: {', '.join(f'{case.case} ({case.split})' for case in group)} are copies of one image"
        fix = "keep it in one split: otherwise figures of validation and test are too good"
        yield Finding("copy-leak", CASES_FILE, what, fix, "error")


def few_labels(dataset: Dataset, seen: Fingerprint) -> Iterable[Finding]:
    """Classes that none or too few of the labelled training cases show."""
    for index, name in dataset.config.classes.items():
        count = seen.cases_with(index) if index else len(seen.labelled)
        if count == 0 and not name.startswith("unused"):
            fix = "label a case that has it, or remove the class if it is the last one"
            what = f"no labelled training mask holds class {index} '{name}'"
            yield Finding("class-without-label", CONFIG_FILE, what, fix)
        elif 0 < count < min(FEW_LABELS, len(seen.labelled)):
            what = f"only {count} of {len(seen.labelled)} labelled training masks hold class {index} '{name}'"
            fix = f"label {FEW_LABELS - count} more that have it; otherwise it will often be missed"
            yield Finding("class-few-labels", CONFIG_FILE, what, fix)


def _in_two_splits(cases: Sequence[Case], look: Callable[[Path], int | bytes]) -> Iterable[list[Case]]:
    """Cases whose images look the same, where they are of more than one split."""
    groups: dict[int | bytes, list[Case]] = defaultdict(list)
    for case in cases:
        groups[look(case.image.file)].append(case)
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
