"""Cases that a folder holds twice: its archive has itself inside (LGG), or all images in two formats (CVC-ClinicDB).

One of each is taken. Else copies of one image would be drawn into training and test.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from filecmp import cmp
from itertools import groupby
from pathlib import Path

import numpy as np

from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.folder.listing import LeftOut
from ucseg.folder.pairing import Found
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import read_header, read_mask, read_scan

_MOST = 0.5
"""Of the images of the smaller folder; more have to be copies."""
_MIDDLE = 1 << 16
"""Bytes that are read of files of one size, before all are."""


def without_copies(folder: Path, found: Found) -> Found:
    """Without the cases whose image has the name and the values of another one, and whose mask is the same or missing.

    Two masks that differ are of two people: both cases stay, and `ucseg check` reports them. So do copies in two splits
    of the folder.
    """
    by_name: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in found.cases:
        by_name[case.split, case.image.stem.lower()].append(case)
    alike = [some for some in by_name.values() if len(some) > 1]
    pairs = _of_folders([pair for of_one in for_each(_copies, alike) for pair in of_one], found.cases)
    if not pairs:
        return found
    left_out = list(found.left_out)
    for copy, kept in pairs:
        where = kept.image.below(folder)
        left_out.append(LeftOut(copy.image.path, f"it is a copy of {where}", rightly=True))
        if copy.mask is not None:
            left_out.append(LeftOut(copy.mask.path, f"its image is a copy of {where}", rightly=True))
    dropped = {copy.case for copy, _ in pairs}
    cases = [case for case in found.cases if case.case not in dropped]
    number = "1 image is" if len(pairs) == 1 else f"{len(pairs)} images are"
    note = f"{number} copied in the folder, as are their masks; one of each is taken."
    return replace(found, cases=cases, left_out=left_out, notes=[*found.notes, note])


def _copies(cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """(copy, the case to keep) of cases whose images have one name."""
    pairs = []
    for same in _equal_images(cases):
        # With a mask before without one; then the one that lies less deep.
        best, *others = sorted(same, key=lambda case: (case.mask is None, len(case.image.path.parts), case.image.path))
        pairs += [(other, best) for other in others if _same_mask(other.mask, best.mask)]
    return pairs


def _of_folders(pairs: Sequence[tuple[Case, Case]], cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Those of folders that share most of their images: the black slices of two patients may be equal, too."""
    sizes = Counter(case.image.parent for case in cases)
    shared = Counter((copy.image.parent, kept.image.parent) for copy, kept in pairs)

    def are_of_copied_folders(pair: tuple[Case, Case]) -> bool:
        folders = pair[0].image.parent, pair[1].image.parent
        return shared[folders] > _MOST * min(sizes[folder] for folder in folders)

    return list(filter(are_of_copied_folders, pairs))


def _same_mask(mask: Address | None, other: Address | None) -> bool:
    """Whether one is missing, or both are equal but for the scale: 1 in one format may be 255 in another one."""
    if mask is None or other is None:
        return True
    try:
        scans = [read_mask(each) for each in (mask, other)]
        alike = scans[0].array.shape == scans[1].array.shape  # colours too, which are no one channel
        one, two = ((scan.array if alike else only_channel(scan)).astype(np.float64) for scan in scans)
    except UserError:
        return False  # whatever reads it later reports what is wrong
    highest = float(one.max(initial=0)), float(two.max(initial=0))
    return all(highest) == any(highest) and np.array_equal(one * highest[1], two * highest[0])


def _equal_images(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Cases with equal images, two or more at a time. Files of one format are compared as they are, others by value."""
    files = [case for case in cases if not case.image.several and not case.image.part and case.image.file.is_file()]
    if len({case.image.ending for case in files}) < 2:
        for some in _grouped(files, lambda case: case.image.file.stat().st_size):
            for few in _grouped(some, lambda case: _middle(case.image.file)):
                yield from _equal(few, lambda one, two: cmp(one.image.file, two.image.file, shallow=False))
        return
    for some in _grouped(files, _shape):
        yield from _equal(some, _equal_values)


def _grouped(cases: Iterable[Case], key: Callable[[Case], object]) -> Iterator[list[Case]]:
    known = [(repr(value), case) for case in cases if (value := key(case)) is not None]
    for _, some in groupby(sorted(known, key=lambda one: one[0]), key=lambda one: one[0]):
        group = [case for _, case in some]
        if len(group) > 1:
            yield group


def _equal(cases: Sequence[Case], equal: Callable[[Case, Case], bool]) -> Iterator[list[Case]]:
    waiting = list(cases)
    while waiting:
        first, *waiting = waiting
        same = [other for other in waiting if equal(first, other)]
        waiting = [other for other in waiting if other not in same]
        if same:
            yield [first, *same]


def _middle(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _MIDDLE) // 2)
        return stream.read(_MIDDLE)


def _shape(case: Case) -> tuple[int, ...] | None:
    try:
        return read_header(case.image)[0]
    except UserError:
        return None


def _equal_values(case: Case, other: Case) -> bool:
    try:
        return np.array_equal(read_scan(case.image).array, read_scan(other.image).array)
    except UserError:
        return False
