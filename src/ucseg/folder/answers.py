"""Questions about a folder that answer themselves: sequences that are channels, structures that are classes.

A case with files called t1, t2 and flair on one grid has three channels. An image with masks called liver and spleen,
which share no voxel, has two classes. What overlaps otherwise, and two copies of one sequence, stay questions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from statistics import median

import numpy as np

from ucseg.errors import UserError
from ucseg.folder.pairing import Found, find_cases
from ucseg.folder.patterns import Pattern
from ucseg.folder.questions import Option, Question
from ucseg.machine.pool import for_each
from ucseg.scans.address import Address
from ucseg.scans.channels import only_channel
from ucseg.scans.reading import read_header, read_mask
from ucseg.types import Array

_SAMPLE = 24
_MOST_OF_OUTER = 0.5
"""Of a structure inside another one. Larger parts may be one structure, drawn twice."""
_SEQUENCES = re.compile(
    r"t[12](c|ce|gd|km|n|w|f|s|post|star)?|(t2)?flair|st?ir|ir|pdw?|dwi|adc|hbv|b\d{2,4}|swi|dti|fa|md|dce|dsc|asl"
    r"|cbf|cbv|mtt|tmax|ttp|lge|de|c0|cine|b?ssfp|(in|out|opp|opposed)(phase)?|ip|op|fat|water"
    r"|(cb|nc|ne|ce)?cta?|mra?|mri|pe?t|suv|fdg|spect|bmode|doppler|elasto(graphy)?"
)
"""Words, in lower case, for what a scanner gives of one place."""
_LINES = re.compile(r"contours?|edges?|borders?|boundar(y|ies)|outlines?|skeletons?|center|centre|lines?")
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
    if not asked.every or given[asked.option] is not None:
        raise asked

    def answered(value: str) -> tuple[Found, str | None]:
        now = given | asked.also | {asked.option: value}
        try:
            return find_cases_unasked(folder, now["images"], now["masks"], subject, skipped, now["parts"])
        except UserError as error:
            raise error if isinstance(error, Question) else asked from None

    found, pattern = answered(asked.every)
    words = Pattern(folder, asked.every, "").words
    if not (_say_one_case(asked.option, words) and _hold_one_case(asked.option, found)):
        raise asked
    one = f"; to take one of them, give --{asked.option} '{asked.one}'" if asked.one else ""
    note = f"{_MEANT[asked.option]}: --{asked.option} '{asked.every}'{one}."
    return replace(found, notes=[note, *found.notes]), pattern


def _say_one_case(option: Option, words: Sequence[str]) -> bool:
    """Whether the words in which files differ say that all of them belong together."""
    parts = [re.findall(r"[a-z0-9]+", word.lower()) for word in words]
    if option == "images":
        known = [frozenset(filter(_SEQUENCES.fullmatch, of)) for of in parts]
        return len(known) > 1 and all(known) and len(set(known)) == len(known)
    return option == "parts" or (bool(parts) and not any(map(_LINES.fullmatch, chain.from_iterable(parts))))


def _hold_one_case(option: Option, found: Found) -> bool:
    """Whether a sample of files can be what their names say."""
    sample = _sample(case.image if option == "images" else case.mask for case in found.cases)
    if option == "masks":
        return _hold_structures(sample)
    return bool(sample) and (option == "parts" or all(for_each(_is_on_one_grid, sample)))


def _sample(files: Iterable[Address | None]) -> list[Address]:
    several = [one for one in files if one is not None and one.several]
    return several[:: max(1, len(several) // _SAMPLE)]


def _is_on_one_grid(image: Address) -> bool:
    try:
        read_header(image)
    except UserError:
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
    return bool(sizes) and all(median(of) <= _MOST_OF_OUTER for of in sizes.values())


def _shared(mask: Address) -> dict[tuple[str, str], float] | None:
    """Two structures -> 0 where they share no voxel, else the smaller one's size in the other's; None: are no such."""
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
        found[name, other_name] = smaller / larger if (one & other).any() else 0.0
    return found


def _structure(values: Array) -> Array | None:
    """Where a mask is not 0; None if it holds more than one value besides."""
    values_there = np.unique(values)
    return None if len(values_there) > 2 or (len(values_there) == 2 and values_there[0] != 0) else values > 0
