"""Which numbers in the masks are classes, where nobody has named them; what is unclear is a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ucseg.errors import UserError, some
from ucseg.folder.survey import MaskFacts
from ucseg.scans.address import Address
from ucseg.types import NOT_ANNOTATED

MOST_UNNAMED = 64
"""So many classes without names are taken for classes; more are asked about: they take memory."""
BRIGHT = 100.0
"""Grey levels reach at least this; class numbers of masks beside them are less than a tenth of it."""
_ALL_ONES = (255, 65535)
"""The greatest numbers of 8 and 16 bits: beside class numbers they often mean "not annotated"."""
_FEW, _MOST_MASKS = 16, 0.8
"""So few values, each in so many of all masks, are classes whatever they are, in formats that keep values."""


def middle(low: float, high: float) -> float:
    """Where fractions are cut: a half, of parts of a class or of smoothed class numbers; else between both ends."""
    return 0.5 if low >= 0 and high < 10 else (low + high) / 2


def class_numbers(masks: Mapping[str, MaskFacts], instances: bool | None) -> set[int]:
    """The class numbers in use, without values that hardly any mask holds and that fit no numbering."""
    holders: dict[float, list[Address]] = {}
    for facts in masks.values():
        if facts.counts is not None and facts.whole:
            for value in facts.counts:
                holders.setdefault(value, []).append(facts.mask)
    every = {int(value) for value in holders}
    common = every if _numbering(every) else {int(v) for v, files in holders.items() if len(files) > 0.05 * len(masks)}
    wanted = instances is False and 0 < len(common - {0}) < NOT_ANNOTATED and min(common) >= 0
    steady = all(len(files) >= _MOST_MASKS * len(masks) and not files[0].plain for files in holders.values())
    listed = [f"{value:g} (in {len(files)}, e.g. {files[0].name})" for value, files in sorted(holders.items())]
    what = f"The {len(masks)} masks hold values that are no class numbers 0, 1, 2, ...: "
    what += some(listed) or "fractions, or more than 256 values"
    ends = {value for value in common if value < 0 or value in _ALL_ONES}
    if not wanted and ends and len(common) <= MOST_UNNAMED and _numbering(common - ends):
        example = _example(common - ends)
        unclear = ",".join(f"{value}=NAME" for value in sorted(ends))
        ignored = ",".join(f"{value}=ignore" for value in sorted(ends))
        say = f"--ignore {min(ends)}" if len(ends) == 1 else f"--classes {example},{ignored}"
        raise UserError(
            "masks-perhaps-not-annotated",
            f"{what}. If {', '.join(map(str, sorted(ends)))} means 'not annotated', give {say}; if it is a class, "
            f"give --classes {example},{unclear}.",
        )
    wanted = wanted or (steady and 1 < len(common - {0}) < _FEW)
    if not wanted and not _numbering(common):
        cut = middle(min(facts.low for facts in masks.values()), max(facts.high for facts in masks.values()))
        if not holders:
            raise UserError(
                "mask-values",
                f"{what}. If all above {cut:g} is one foreground class, give --mask-threshold {cut:g}; else save the "
                "masks with whole class numbers.",
            )
        values = common or every
        grey = f" If they are grey levels, give --mask-threshold {max(values) / 2:g}." if max(values) >= BRIGHT else ""
        raise UserError(
            "mask-values",
            f"{what}. If they are classes, name them with --classes {_all_named(masks, values)}. If they number "
            f"objects of one class, give --instances.{grey}",
        )
    if len(common) - 1 > MOST_UNNAMED and instances is None:
        raise UserError(
            "too-many-classes",
            f"The masks hold {len(common) - 1} values beside 0; if they number objects, give --instances, else name "
            "them with --classes, or give --no-instances.",
        )
    return common


def _all_named(masks: Mapping[str, MaskFacts], values: set[int]) -> str:
    """As `_example`; where most voxels have another value than 0, that may be the background."""
    counts: Counter[float] = Counter()
    for facts in masks.values():
        counts.update(facts.counts or {})
    most = int(max(counts, key=lambda value: counts[value]))
    if most == 0 or 0 not in values:
        return _example(values)
    return f"0=NAME,{_example(values - {most})},{most}=background"


def _example(values: set[int]) -> str:
    named = [f"{value}=NAME" for value in sorted(values) if value]
    return ",".join(named[:3] + ["..."] * (len(named) > 3))


def _numbering(values: set[int]) -> bool:
    """Whether values look like class numbers: small, or with few gaps."""
    return bool(values - {0}) and min(values) >= 0 and max(values) <= min(255, max(9, 2 * len(values)))
