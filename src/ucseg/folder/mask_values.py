"""How masks are read, from their values: class numbers, numbers of objects, grey levels to cut, outlines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ucseg.dataset.masks import coded_otherwise, other_coding
from ucseg.dataset.settings import means_not_annotated
from ucseg.errors import UserError, some
from ucseg.folder.class_numbers import BRIGHT, class_numbers, middle
from ucseg.folder.classes import BACKGROUND
from ucseg.folder.not_annotated import annotated_parts, ignored_values
from ucseg.folder.objects import are_objects
from ucseg.folder.survey import MaskFacts, outlines_noted

_TWO = {0: BACKGROUND, 1: "foreground"}
SLIP = 10
"""Voxels: a value that one mask alone holds in so few may be a slip."""


@dataclass(frozen=True)
class Reading:
    """How masks become class indices; notes on guesses.

    Attributes:
        values, not_annotated: as dataset.yaml has them.
        rejected: case -> why its mask does not fit the others.
    """

    classes: dict[int, str]
    mask_threshold: float | None
    fill_outlines: bool
    values: dict[int, int] = field(default_factory=dict)
    not_annotated: list[int] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose_reading(
    masks: Mapping[str, MaskFacts],
    classes: dict[int, str] | None = None,
    threshold: float | None = None,
    fill_outlines: bool | None = None,
    instances: bool | None = None,
    ignore: int | None = None,
) -> Reading:
    """Decide how the masks of a dataset are read; what is None is guessed.

    Args:
        masks: case -> facts of a readable mask.
        classes: value in the masks -> name.
        instances: the values number objects, which are all of one class; False: they are classes.
        ignore: value in the masks that means "not annotated", beside those of classes that are called so.

    Raises:
        UserError: there is no foreground at all, or the values are no class numbers and no two levels.
    """
    notes: list[str] = []
    rejected: dict[str, str] = {}
    named = None if classes is None else _numbered(classes)
    not_annotated = set() if named is None else set(named.not_annotated)
    not_annotated |= ignored_values(ignore, classes, masks)
    if not masks:
        empty = replace(named or Reading(_TWO, None, False), not_annotated=sorted(not_annotated))
        return replace(empty, mask_threshold=threshold, fill_outlines=bool(fill_outlines))
    masks = annotated_parts(masks, not_annotated, notes, rejected)
    if not masks:
        raise _none_fits(rejected)
    if all(facts.low == facts.high == 0 for facts in masks.values()):
        raise UserError("masks-empty", "All masks are empty (zero everywhere); check that these are the right files.")
    highest = max(facts.high for facts in masks.values())
    if threshold is not None and threshold >= highest:
        raise UserError(
            "threshold-too-high",
            f"No mask holds a value above --mask-threshold {threshold:g}; give a number below {highest:g}.",
        )
    for option in ["--mask-threshold"] * (threshold is not None) + ["--instances"] * bool(instances):
        if named is not None and len(named.classes) != 2:
            raise UserError(
                "threshold-classes",
                f"{option} makes two classes, but {len(named.classes)} are named "
                f"({', '.join(named.classes.values())}); leave it out, or name one foreground class.",
            )
    if threshold is None and (named is None or (len(named.classes) == 2 and 0 not in named.values)):
        threshold = _objects(masks, instances, notes)
        if threshold is None:
            threshold = _two_levels(masks, notes, rejected)
    masks = {case: facts for case, facts in masks.items() if case not in rejected}
    if threshold is None:
        found = _from_values(masks, named, instances, notes, rejected)
    else:
        found = named or Reading(_TWO, None, False)
        found = replace(found, mask_threshold=threshold, values={})
        otherwise = {case: coded_otherwise(one.high, threshold, one.lossy) for case, one in masks.items()}
        rejected |= {case: why for case, why in otherwise.items() if why is not None}
    if fill_outlines is None:
        fill_outlines = outlines_noted(masks.values(), notes)
    found = replace(found, not_annotated=sorted(not_annotated), rejected=rejected, notes=notes)
    return replace(found, fill_outlines=fill_outlines)


def _numbered(named: Mapping[int, str]) -> Reading:
    """Value -> name as classes 0, 1, 2, ... without a gap; names such as "ignore" are of no class.

    Where another value than 0 is called background, it is class 0, and 0 is a class like the others.
    """
    empty = {value for value, name in named.items() if value and means_not_annotated(name)}
    others = [name for value, name in named.items() if value]
    values: dict[int, int] = {}
    classes = {0: named[0]}
    if means_not_annotated(named[0]) and BACKGROUND in map(str.lower, others):  # 0 is no background then
        empty.add(0)
        classes[0] = BACKGROUND
    bright = named[0].lower() != BACKGROUND and 0 not in empty and BACKGROUND in map(str.lower, others)
    if bright:
        classes[0] = BACKGROUND
    for value in sorted(set(named) - empty - (set() if bright else {0})):
        if named[value].lower() == classes[0].lower():
            values[value] = 0
            continue
        values[value] = len(classes)
        classes[len(classes)] = named[value]
    if len(classes) < 2:
        raise UserError(
            "classes-no-foreground", f"The classes {', '.join(named.values())} have no foreground; name a class."
        )
    return Reading(classes, None, False, {} if _as_they_are(values) else values, sorted(empty))


def _as_they_are(values: Mapping[int, int]) -> bool:
    return all(value == index for value, index in values.items())


def _objects(masks: Mapping[str, MaskFacts], instances: bool | None, notes: list[str]) -> float | None:
    """The cut that makes one class of numbered objects; None where the numbers are classes."""
    if instances:
        return 0.0
    looked_at = [facts.pieces for facts in masks.values() if facts.pieces is not None]
    if instances is False or not are_objects(looked_at):
        return None
    most = max(len(pieces) for pieces in looked_at)
    notes.append(
        f"masks number the objects of each image (up to {most} of them), so all are of one class "
        "(--no-instances takes the numbers as classes)."
    )
    return 0.0


def _two_levels(masks: Mapping[str, MaskFacts], notes: list[str], rejected: dict[str, str]) -> float | None:
    """The cut between two grey levels; None when values are (or may be) class numbers."""
    shown = {case: facts for case, facts in masks.items() if (facts.low, facts.high) != (0, 0)}
    dark = {case: facts for case, facts in shown.items() if facts.high < BRIGHT / 10}
    bright = {case: facts for case, facts in shown.items() if facts.high >= BRIGHT}
    if any(facts.low < 0 for facts in shown.values()) or any(facts.counts is None for facts in bright.values()):
        return None
    found = _levels_of(bright) if len(dark) + len(bright) == len(shown) else None
    if not dark or found is None:
        if any(facts.counts is None for facts in shown.values()):
            return None
        cut, what = _levels_of(shown) or (None, "")
        if cut is not None:
            notes.append(f"{what} (--mask-threshold cuts them elsewhere).")
        return cut
    cut, what = found
    small = {value for facts in dark.values() for value in facts.counts or {-1.0} if value != 0}
    if len(small) == 1 and min(small) > 0 and all(len(facts.counts or {}) <= 2 for facts in bright.values()):
        cut = min(small) / 2
        notes.append(
            f"masks are coded in two ways: {len(bright)} with 0 and {max(one.high for one in bright.values()):g}, "
            f"{len(dark)} with 0 and {min(small):g}; they are cut where both are right "
            "(--mask-threshold cuts them elsewhere)."
        )
        return cut
    few, many = sorted((dark, bright), key=len)
    notes.append(
        f"masks are coded in two ways: {len(bright)} with grey levels ({what}), {len(dark)} with values "
        f"up to {max(one.high for one in dark.values()):g}; the {len(few)} of the rarer kind are not used."
    )
    if many is bright:
        rejected |= {case: other_coding(one.high, cut) for case, one in dark.items()}
        return cut
    reason = "it has grey levels, and most masks hold class numbers; save it with these, or leave out the mask."
    rejected |= dict.fromkeys(bright, reason)
    return _two_levels(dark, notes, rejected)


def _levels_of(masks: Mapping[str, MaskFacts]) -> tuple[float, str] | None:
    """The cut between the two grey levels of all these masks, and what they hold, in words."""
    high = max((facts.high for facts in masks.values()), default=0.0)
    if high <= 1:
        return None
    values: Counter[float] = Counter()
    for facts in masks.values():
        values.update(facts.counts or {})
    middle = sum(count for value, count in values.items() if 0.1 * high < value < 0.9 * high)
    if set(values) <= {0, high}:
        return float(high // 2), f"masks hold 0 and {high:g}"
    if len(values) > 16 and middle <= 0.05 * values.total():  # many levels, nearly all voxels at the two ends
        kind = "lossy (JPEG)" if any(facts.lossy for facts in masks.values()) else "smoothed"
        return float(high // 2), f"masks are {kind}, {len(values)} grey levels"
    return None


def _none_fits(rejected: Mapping[str, str]) -> UserError:
    case, reason = next(iter(rejected.items()))
    return UserError("no-mask-fits", f"No mask can be used. For example {case}: {reason}")


def _from_values(
    masks: Mapping[str, MaskFacts],
    named: Reading | None,
    instances: bool | None,
    notes: list[str],
    rejected: dict[str, str],
) -> Reading:
    """Classes of the numbers that the masks hold; `rejected` gets the masks that hold others."""
    if not masks:
        raise _none_fits(rejected)
    found = named
    if found is None:
        numbers = class_numbers(masks, instances)
        found = _numbered({0: BACKGROUND} | {number: f"class_{number}" for number in sorted(numbers) if number})
    known = {0, *(found.values or found.classes)}
    for case, facts in masks.items():
        if strange := _strange(facts, known):
            rejected[case] = f"its values are no classes ({strange}); {_fix(facts, len(found.classes))}."
    if len(rejected) >= len(masks) and all(case in rejected for case in masks):
        value_of = {index: value for value, index in found.values.items()}
        listed = ", ".join(f"{value_of.get(index, index)} {name}" for index, name in found.classes.items())
        case = next(iter(masks))
        raise UserError("no-mask-fits", f"No mask fits the classes {listed}. For example {case}: {rejected[case]}")
    if found.values and named is None:
        listed = ", ".join(f"{value} is {index}" for value, index in found.values.items())
        notes.append(f"classes are numbered without gaps: value {listed}.")
    if named is None:
        notes += _slips(masks)
    if named is None and len(found.classes) == 2:
        return replace(found, classes=_TWO)
    if named is None:
        notes.append("classes are numbered as found in the masks; name them with --classes or in dataset.yaml.")
    return found


def _slips(masks: Mapping[str, MaskFacts]) -> list[str]:
    """Notes on values of a few voxels that only one mask holds: a brush may have been set to a wrong number."""
    held: dict[float, list[tuple[int, str]]] = defaultdict(list)
    for facts in masks.values():
        for value, count in (facts.counts or {}).items():
            held[value].append((count, facts.mask.name))
    return [
        f"only {name} holds the value {value:g}, in {count} voxel{'s' * (count != 1)}; if that is a slip, correct it."
        for value, ((count, name), *others) in sorted(held.items())
        if not others and count <= SLIP and len(masks) > 2
    ]


def _fix(facts: MaskFacts, classes: int) -> str:
    """What helps a mask whose values are no classes."""
    if facts.whole and facts.counts is not None:
        return "fix the mask, or name them with --classes VALUE=NAME"
    if classes > 2:
        return "save it with whole class numbers"
    return f"save it with whole class numbers, or cut all masks with --mask-threshold {middle(facts.low, facts.high):g}"


def _strange(facts: MaskFacts, known: set[int]) -> str:
    if not facts.whole:
        return "fractions"
    if facts.counts is None:
        return f"more than 256 of them, {facts.low:g} to {facts.high:g}"
    return some([f"{value:g}" for value in facts.counts if value not in known])
