"""Questions about a folder that answer themselves: sequences that are channels, structures that are classes.

A case with files called t1, t2 and flair on one grid has three channels. An image with masks called liver and spleen,
which share no voxel, has two classes. What overlaps otherwise, and two copies of one sequence, stay questions.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from random import Random
from statistics import median

import numpy as np

from ucseg.errors import UserError
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.patterns import Pattern
from ucseg.folder.questions import Option, Question
from ucseg.folder.sequences import sequences_in
from ucseg.machine.pool import for_each
from ucseg.scans.address import CLASSES, Address, ending_of
from ucseg.scans.channels import only_channel
from ucseg.scans.nesting import touch
from ucseg.scans.reading import read_header, read_mask
from ucseg.types import Array

_SAMPLE = 24
_MOST_OF_OUTER = 0.5
"""Of a structure inside another one. Larger parts may be one structure, drawn twice."""
_FEW = 0.1
"""Of the cases; so many files of incomplete ones may be left out unasked."""
_ORGANS = 8
_SCANNERS = ({"ct", "cta", "cect", "ncct", "nect"}, {"mr", "mri"})
"""Who was in both may have been registered, or be two patients of one number."""
_DATE = re.compile(r"\d{4,}")
_NO_STRUCTURE = re.compile(
    r".*(contour|edge|border|boundar|outline|skeleton|center|centre|kontur|observer|reader|rater|expert|annotator"
    r"|grader|manual|automatic|pred|unet|model|output|result|correct|final|draft|version).*"
    r"|lines?|rand|(brain|body|head)mask|fov|obs|ai|auto|old|new|pre|post|before|after|ed|es"
)
"""Words, in lower case, of lines, and for who or what drew, or when: they may be of one structure."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MEANT = {
    "images": "several images of a case are taken as its channels",
    "masks": "several masks of an image are taken as classes",
    "parts": "several masks of an image are joined, as parts of one mask",
}


def find_cases_unasked(
    folder: Path,
    images: str | None = None,
    masks: str | None = None,
    subject: str | None = None,
    skip: Iterable[Path] = (),
    parts: str | None = None,
) -> tuple[Found, str | None]:
    """As `find_cases`; a question that answers itself is a note.

    Returns:
        the cases, and the pattern of images, given or found.
    """
    skipped = list(skip)
    try:
        return find_cases(folder, images, masks, subject, skipped, parts), images
    except Question as question:
        asked = question
    given: dict[Option, str | None] = {"images": images, "masks": masks, "parts": parts}
    if not asked.every or given[asked.option] is not None or not _say_one_case(folder, asked):
        raise asked
    for every in _wider(asked.every):
        now = given | asked.also | {asked.option: every}
        try:
            found, pattern = find_cases_unasked(folder, now["images"], now["masks"], subject, skipped, now["parts"])
        except Question:
            raise
        except UserError:
            continue
        if not _lost(found) and _hold_one_case(asked.option, found):
            one = f"; to take one of them, give --{asked.option} '{asked.one}'" if asked.one else ""
            note = f"{_MEANT[asked.option]}: --{asked.option} '{every}'{one}."
            return replace(found, notes=[note, *found.notes]), pattern
    raise asked


def _wider(pattern: str) -> list[str]:
    """A pattern with braces without what stands before them, which may be of some cases alone; then the pattern."""
    before, brace, after = pattern.partition("{")
    folders, _, name = before.rpartition("/")
    sign = name[-1:] if name[-1:] in "_-. " else ""
    within = "/" in after.partition("}")[2]  # the braces are in the name of a folder
    wide = f"{'**/' if folders or within else ''}{'*' if name else ''}{sign}{brace}{after}"
    return list(dict.fromkeys([wide, pattern])) if brace and not (within and name) else [pattern]


def _lost(found: Found) -> bool:
    """Whether scans are left out, and not a few that are incomplete: they are of the folder's cases too."""
    scans = [one for one in found.left_out if ending_of(one.file.name.removesuffix(CLASSES))]
    incomplete = sum(one.of_scan for one in scans)
    return incomplete < len(scans) or incomplete > _FEW * len(found.cases)


def _say_one_case(folder: Path, asked: Question) -> bool:
    """Whether the words in which files differ say that all of them belong together."""
    words = Pattern(folder, asked.every, "").words
    if asked.option == "parts":
        return True
    if asked.option == "masks":
        names = [" ".join(_WORD.findall(word)).lower() for word in words]
        said = [part for name in names for part in name.split()]
        numbered = len(names) - len(set(names))  # lesion1, lesion2; of many organs, vertebrae and ribs are so too
        few = numbered == 0 or (len(names) > _ORGANS and 2 * numbered <= len(names))
        return bool(names) and few and not any(map(_NO_STRUCTURE.fullmatch, said))
    known = [sequences_in(word) for word in words]
    every = frozenset(chain.from_iterable(re.findall(r"[a-z0-9]+", word.lower()) for word in words))
    alike = all(every & scanner for scanner in _SCANNERS) or any(map(_DATE.fullmatch, every))
    return len(known) > 1 and all(known) and len(set(known)) == len(known) and not alike


def _hold_one_case(option: Option, found: Found) -> bool:
    """Whether a sample of files can be what their names say."""
    files = [case.image if option == "images" else case.mask for case in found.cases]
    several = [one for one in files if one is not None and one.several]
    sample = Random(0).sample(several, min(_SAMPLE, len(several)))
    if option == "images":
        return bool(sample) and all(for_each(_is_on_one_grid, sample))
    if option == "parts":
        return bool(sample) and not _repeat(several) and all(for_each(_are_apart, sample))
    return _hold_structures(sample)


def _is_on_one_grid(image: Address) -> bool:
    try:
        read_header(image)
    except UserError:
        return False
    return True


def _repeat(masks: Sequence[Address]) -> bool:
    """Whether words in which the parts of a mask differ occur in other masks too: liver and spleen are no parts."""
    counts = Counter[str]()
    for mask in masks:
        names = [set(_WORD.findall(file.name.removesuffix(mask.ending).lower())) for file in mask.files]
        counts.update(word for word in set.union(*names) - set.intersection(*names) if len(word) > 2)
    return bool(counts) and max(counts.values()) > max(2, len(masks) / 10)


def _are_apart(mask: Address) -> bool:
    """Whether the parts of a mask hold one value each, and share no voxel."""
    try:
        inside = [_structure(only_channel(read_mask(one))) for one in mask.singles]
        taken = None
        for one in inside:
            if one is None or (taken is not None and (taken & one).any()):
                return False
            taken = one if taken is None else taken | one
    except (UserError, ValueError):  # parts of two shapes
        return False
    return True


def _hold_structures(masks: Sequence[Address]) -> bool:
    """Whether the files of each mask hold one structure each, apart from each other or well inside another."""
    shared = for_each(_shared, masks)
    found = [one for one in shared if one is not None]
    if len(found) < len(masks):
        return False
    sizes = defaultdict(list)
    for pair, size in chain.from_iterable(one.items() for one in found):
        sizes[pair].append(size)
    return bool(sizes) and all((not any(of) or all(of)) and median(of) <= _MOST_OF_OUTER for of in sizes.values())


def _shared(mask: Address) -> dict[tuple[str, str], float] | None:
    """Two structures -> 0 where they only touch at most, else the smaller one's size in the other's; None: no such."""
    try:
        inside = [_structure(only_channel(read_mask(one))) for one in mask.singles]
        read_mask(mask)
    except UserError:
        return None
    if any(one is None for one in inside):
        return None
    there = {name: one for name, one in zip(mask.class_names, inside, strict=True) if one is not None and one.any()}
    found = {}
    for (name, one), (other_name, other) in combinations(there.items(), 2):
        smaller, larger = sorted((int(one.sum()), int(other.sum())))
        found[name, other_name] = 0.0 if touch(int((one & other).sum()), smaller, larger) else smaller / larger
    return found


def _structure(values: Array) -> Array | None:
    """Where a mask is not 0; None if it holds more than one value besides."""
    values_there = np.unique(values)
    return None if len(values_there) > 2 or (len(values_there) == 2 and values_there[0] != 0) else values > 0
