"""How masks are read, from what they hold: class numbers, grey levels to cut, outlines, segments with names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucseg.dataset.masks import numbers_to_classes
from ucseg.errors import UserError, some
from ucseg.folder.survey import MaskFacts, nearly_all_outlines
from ucseg.scans.address import Address

BACKGROUND = "background"
_TWO = {0: BACKGROUND, 1: "foreground"}


@dataclass(frozen=True)
class Reading:
    """How masks become class indices; notes on guesses. `rejected`: case -> why its mask does not fit the others."""

    classes: dict[int, str]
    mask_threshold: float | None
    fill_outlines: bool
    rejected: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse_classes(text: str) -> dict[int, str]:
    """`background,anterior,posterior` or `1=anterior,2=posterior` -> index -> name, background and gaps included.

    A list of names that does not begin with "background" is numbered from 1. Numbers left out become "unused_N".

    Raises:
        UserError: it is neither form, or a number or name comes twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    named: dict[int, str] = {}
    numbered = [part.partition("=") for part in parts]
    if parts and all(equals for _, equals, _ in numbered):
        for number, _, name in numbered:
            if not number.strip().isdigit() or int(number) in named or int(number) > 255:
                problem = f"'{number}' is not a whole number from 0 to 255, or comes twice"
                raise UserError("classes-number", f"--classes '{text}': {problem}; give each class another number.")
            named[int(number)] = name.strip()
    elif parts and not any(equals for _, equals, _ in numbered):
        first = 0 if parts[0].lower() == BACKGROUND else 1
        named = dict(enumerate(parts, start=first))
    if not named or not all(named.values()) or len(set(named.values())) < len(named):
        form = "background,liver,tumour or 1=liver,2=tumour"
        raise UserError("classes-form", f"--classes '{text}' is not of a known form; write {form}.")
    return _complete(named)


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
    if len(names) < len(labels) or max(names) > 255:
        return None, modality, [f"labels of dataset.json are regions or repeat; {instead}"]
    return _complete(names), modality, ["class names are those of dataset.json."]


def classes_of(names: Iterable[Mapping[int, str]]) -> dict[int, str] | None:
    """Classes from the names in all masks (.seg.nrrd, DICOM SEG) in order of their numbers; None if one lacks them."""
    every = list(names)
    if not every or not all(every):
        return None
    ordered = sorted((number, name) for one in every for number, name in one.items())
    found = [name for name in dict.fromkeys(name for _, name in ordered) if name.lower() != BACKGROUND]
    return {0: BACKGROUND, **dict(enumerate(found, start=1))} if all(found) else None


def with_classes(facts: MaskFacts, classes: Mapping[int, str]) -> MaskFacts:
    """What a mask holds in terms of the classes: the name of a segment says its class, whatever its number.

    Raises:
        UserError: some of its names are classes and some are not.
    """
    mapping = numbers_to_classes(facts.mask, facts.names, classes) if facts.names and classes else None
    if mapping is None or not facts.counts:
        return facts
    counts: Counter[float] = Counter()
    for value, count in facts.counts.items():
        counts[float(mapping.get(int(value), int(value)))] += count
    return replace(facts, counts=dict(sorted(counts.items())), low=min(counts), high=max(counts))


def choose_reading(
    masks: Mapping[str, MaskFacts],
    classes: dict[int, str] | None = None,
    threshold: float | None = None,
    fill_outlines: bool | None = None,
) -> Reading:
    """Decide how the masks of a dataset are read; what is None is guessed. `masks`: case -> facts of a readable mask.

    Raises:
        UserError: there is no foreground at all, or the values are no class numbers and no two levels.
    """
    notes: list[str] = []
    if not masks:
        return Reading(classes or _TWO, threshold, bool(fill_outlines))
    if all(facts.low == facts.high == 0 for facts in masks.values()):
        raise UserError("masks-empty", "All masks are empty (zero everywhere); check that these are the right files.")
    highest = max(facts.high for facts in masks.values())
    if threshold is not None and threshold >= highest:
        raise UserError(
            "threshold-too-high",
            f"No mask holds a value above --mask-threshold {threshold:g}; give a number below {highest:g}.",
        )
    if threshold is None and (classes is None or len(classes) == 2):
        threshold = _two_levels(masks, notes)
    rejected: dict[str, str] = {}
    if threshold is None:
        classes = _from_values(masks, classes, notes, rejected)
    else:
        classes = classes or _TWO
        if len(classes) != 2:
            raise UserError(
                "threshold-classes",
                f"--mask-threshold makes two classes, but {len(classes)} are named ({', '.join(classes.values())}); "
                "leave it out, or name one foreground class.",
            )
    if fill_outlines is None:
        fill_outlines = nearly_all_outlines(masks.values())
        if fill_outlines:
            notes.append("masks are thin closed outlines; their inside is filled (--no-fill-outlines keeps the lines).")
    return Reading(classes, threshold, fill_outlines, rejected, notes)


def _two_levels(masks: Mapping[str, MaskFacts], notes: list[str]) -> float | None:
    """The cut between two grey levels; None when values are (or may be) class numbers."""
    high = max(facts.high for facts in masks.values())
    if high <= 1 or any(facts.low < 0 or facts.counts is None for facts in masks.values()):
        return None
    cut = float(high // 2)
    values: Counter[float] = Counter()
    for facts in masks.values():
        values.update(facts.counts or {})
    middle = sum(count for value, count in values.items() if 0.1 * high < value < 0.9 * high)
    if set(values) <= {0, high}:
        found = f"masks hold 0 and {high:g}"
    elif len(values) > 16 and middle <= 0.05 * values.total():  # many levels, nearly all voxels at the two ends
        kind = "lossy (JPEG)" if any(facts.lossy for facts in masks.values()) else "smoothed"
        found = f"masks are {kind}, {len(values)} grey levels"
    else:
        return None
    notes.append(f"{found}: foreground is above {cut:g} (--mask-threshold changes it).")
    return cut


def _from_values(
    masks: Mapping[str, MaskFacts], classes: dict[int, str] | None, notes: list[str], rejected: dict[str, str]
) -> dict[int, str]:
    known = _class_numbers(masks) if classes is None else set(classes)
    names = classes or _complete({number: f"class_{number}" for number in known if number})
    for case, facts in masks.items():
        strange = _strange(facts, known)
        if strange:
            rejected[case] = f"its values are no classes ({strange}); fix the mask, or name them with --classes."
    if len(rejected) == len(masks):
        listed = ", ".join(f"{number} {name}" for number, name in names.items())
        case, reason = next(iter(rejected.items()))
        raise UserError("no-mask-fits", f"No mask fits the classes {listed}. For example {case}: {reason}")
    if classes is None and len(names) == 2:
        return _TWO
    if classes is None:
        notes.append("classes are numbered as found in the masks; name them with --classes or in dataset.yaml.")
        unused = ", ".join(str(number) for number in names if number and number not in known)
        if unused:
            notes.append(f"no mask holds {unused}; these classes stay unused.")
    return names


def _class_numbers(masks: Mapping[str, MaskFacts]) -> set[int]:
    """The class numbers in use, without values that hardly any mask holds and that fit no numbering."""
    holders: dict[float, list[Address]] = {}
    for facts in masks.values():
        if facts.counts is not None and facts.whole and facts.low >= 0:
            for value in facts.counts:
                holders.setdefault(value, []).append(facts.mask)
    common = {int(value) for value in holders}
    if not _numbering(common):
        common = {int(value) for value, files in holders.items() if len(files) > 0.05 * len(masks)}
    if not _numbering(common):
        listed = [f"{value:g} (in {len(files)}, e.g. {files[0].name})" for value, files in sorted(holders.items())]
        values = some(listed) or "fractions or negative numbers"
        least, most = min(facts.low for facts in masks.values()), max(facts.high for facts in masks.values())
        cut = least if holders else (least + most) / 2
        raise UserError(
            "mask-values",
            f"The {len(masks)} masks hold values that are no class numbers 0, 1, 2, ...: {values}. If all above "
            f"{cut:g} is one foreground class, give --mask-threshold {cut:g}; else name the values with "
            "--classes, or save the masks with class numbers.",
        )
    return common


def _numbering(values: set[int]) -> bool:
    """Whether values look like class numbers: small, or with few gaps."""
    return bool(values - {0}) and max(values) <= max(9, 2 * len(values)) and max(values) <= 255


def _strange(facts: MaskFacts, known: set[int]) -> str:
    if not facts.whole:
        return "fractions"
    if facts.counts is None:
        return f"more than 256 of them, {facts.low:g} to {facts.high:g}"
    return some([f"{value:g}" for value in facts.counts if value not in known])


def _complete(named: Mapping[int, str]) -> dict[int, str]:
    return {0: named.get(0, BACKGROUND)} | {n: named.get(n, f"unused_{n}") for n in range(1, max(named, default=0) + 1)}
