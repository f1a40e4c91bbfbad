"""What classes are called: by the user, by dataset.json, by the segments of masks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.masks import nothing_annotated, numbers_to_classes
from ucseg.errors import UserError, some
from ucseg.folder.survey import MaskFacts
from ucseg.scans.address import Address
from ucseg.types import NOT_ANNOTATED

BACKGROUND = "background"
GREATEST = 65535
"""The greatest value in a mask that can have a name."""


def parse_classes(text: str) -> dict[int, str]:
    """`background,anterior,posterior` or `1=anterior,128=posterior` -> value in the masks -> name, 0 included.

    A list of names that does not begin with "background" is numbered from 1.

    Raises:
        UserError: it is neither form, or a number or name comes twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    named: dict[int, str] = {}
    numbered = [part.partition("=") for part in parts]
    if parts and all(equals for _, equals, _ in numbered):
        for number, _, name in numbered:
            value = int(number) if re.fullmatch(r"\s*-?[0-9]{1,5}\s*", number) else None
            if value is None or abs(value) > GREATEST or value in named:
                problem = f"'{number}' is not a whole number up to {GREATEST}, or comes twice"
                raise UserError("classes-number", f"--classes '{text}': {problem}; give each class another number.")
            named[value] = name.strip()
    elif parts and not any(equals for _, equals, _ in numbered):
        first = 0 if parts[0].lower() == BACKGROUND else 1
        named = dict(enumerate(parts, start=first))
    if not named or not all(named.values()) or len(set(named.values())) < len(named):
        form = "background,liver,tumour or 1=liver,2=tumour"
        raise UserError("classes-form", f"--classes '{text}' is not of a known form; write {form}.")
    return _with_background(named)


def labels_of_dataset_json(folder: Path) -> tuple[dict[int, str] | None, str | None, list[str]]:
    """Class names and modality of a dataset.json (Medical Segmentation Decathlon, nnU-Net), and notes on it.

    Both are None where the file is missing or does not say.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return None, None, []
    instead = "class names are taken from the masks."
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return None, None, [f"dataset.json cannot be read ({error}); {instead}"]
    if not isinstance(content, dict):
        return None, None, [f"dataset.json is not an object; {instead}"]
    channels = content.get("modality") or content.get("channel_names") or {}
    words = " ".join(str(value) for value in channels.values()).lower() if isinstance(channels, dict) else str(channels)
    modality = next((kind for kind in ("ct", "ultrasound", "rgb", "mri") if kind in words.split()), None)
    if modality is None and any(word in words for word in ("mr", "t1", "t2", "flair")):
        modality = "mri"
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        return None, modality, []
    either_way = [(left, right) if str(left).isdigit() else (right, left) for left, right in labels.items()]
    names = {int(number): str(name).strip() for number, name in either_way if str(number).isdigit()}
    if len(names) < len(labels) or max(names) > GREATEST:
        return None, modality, [f"labels of dataset.json are regions or repeat; {instead}"]
    return _with_background(names), modality, ["class names are those of dataset.json."]


@dataclass(frozen=True)
class SegmentNames:
    """What the headers of masks say.

    Attributes:
        classes: value -> name of what they hold; None where they name nothing.
        unfit: case -> why its mask cannot be read.
    """

    classes: dict[int, str] | None = None
    unfit: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def classes_of(masks: Mapping[str, MaskFacts]) -> SegmentNames:
    """Classes from the names in headers (.seg.nrrd, DICOM SEG, NIfTI): of what the masks hold, in order of numbers.

    Masks without names are read by the numbers of the others, if these agree. Else they cannot be read.
    """
    shown = {case: facts for case, facts in masks.items() if (facts.low, facts.high) != (0, 0)}
    named = {case: facts for case, facts in shown.items() if facts.names}
    nameless = [case for case in shown if case not in named]
    held = sorted(
        (number, name)
        for facts in named.values()
        for number, name in facts.names.items()
        if number and (facts.counts is None or number in facts.counts)
    )
    names = {name.lower(): name for _, name in reversed(held) if name.lower() != BACKGROUND}
    if not names or not all(names):
        return SegmentNames()
    ordered = list(dict.fromkeys(name.lower() for _, name in held if name.lower() in names))
    classes = {0: BACKGROUND} | {index: names[name] for index, name in enumerate(ordered, start=1)}
    apart = two_numberings([(facts.mask, facts.names) for facts in named.values()])
    notes = [f"two numberings in one folder: {apart}; the names count, not the numbers."] if apart else []
    if not nameless:
        return SegmentNames(classes, {}, notes)
    if apart:
        reason = "its header names no segments, and the other masks number theirs in two ways; save it with names."
        return SegmentNames(classes, dict.fromkeys(nameless, reason), notes)
    tables = {number: name for facts in named.values() for number, name in facts.names.items()}
    every = {number for number, _ in held} | {int(v) for case in nameless for v in masks[case].counts or {}}
    notes.append(f"{len(nameless)} masks name no segments; their numbers are taken as those of the others.")
    return SegmentNames(_with_background({number: tables[number] for number in every & tables.keys()}), {}, notes)


def two_numberings(masks: Iterable[tuple[Address, Mapping[int, str]]]) -> str:
    """A name or a number that headers of masks use in two ways, in words; "" where they agree."""
    numbers: dict[str, tuple[int, Address]] = {}
    for mask, names in masks:
        for number, name in names.items():
            other, where = numbers.setdefault(name.lower(), (number, mask))
            if other != number:
                return f"'{name}' is {other} in {where.name} and {number} in {mask.name}"
    return ""


def with_classes(facts: MaskFacts, classes: Mapping[int, str]) -> MaskFacts:
    """What a mask holds in terms of the classes: the name of a segment says its class, whatever its number.

    Raises:
        UserError: some of its names are classes and some are not, or nothing of it is annotated.
    """
    held = facts.counts or {}
    mapping = numbers_to_classes(facts.mask, facts.names, classes, held) if facts.names and classes else None
    if mapping is None or not facts.counts:
        return facts
    unnamed = [f"{value:g}" for value in facts.counts if value and value not in mapping]
    if unnamed:
        raise UserError(
            "mask-number-unnamed",
            f"{facts.mask}: its header names other segments, not {some(unnamed)}; name them there.",
        )
    counts: Counter[float] = Counter()
    for value, count in facts.counts.items():
        counts[float(mapping.get(int(value), 0))] += count
    found = replace(facts, counts=dict(sorted(counts.items())), low=min(counts), high=max(counts))
    known = found.without([NOT_ANNOTATED])
    if known is None:
        raise nothing_annotated(facts.mask)
    return known


def _with_background(named: Mapping[int, str]) -> dict[int, str]:
    return {0: named.get(0, BACKGROUND)} | {value: name for value, name in sorted(named.items()) if value}
