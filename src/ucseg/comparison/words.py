"""What a comparison may say in words, and the rules by which it says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ucseg.comparison.grid import Cell
from ucseg.comparison.summary import BETTER, LEVEL, UNKNOWN, WITHIN_NOISE, WORSE, Comparison, Summary
from ucseg.evaluation.statistics import ENOUGH_SUBJECTS

RULES = (
    "All runs had the same labelled cases, steps (or time, with --hours-each), batches, augmentation, choice of the "
    "best weights and post-processing. Test cases were used for these figures only.",
    "Mean: for each class over all cases and seeds, then over the classes, as in validation and evaluate. A class that "
    "is in neither mask has no value and is left out.",
    "Interval: 95 %. Whole subjects are drawn again and again, because cases of one subject are not independent. With "
    f"{ENOUGH_SUBJECTS} subjects or more, its ends are percentiles of the drawn means. With fewer, they come from "
    "Student's t and the spread of the drawn means. Spread over seeds: standard deviation.",
    f"A variant is better or worse only under three conditions: Holm's p is below {LEVEL:g}, the interval of the "
    "difference does not hold 0, and the difference is larger than both spreads over seeds. Everything else is within "
    "noise. p: Wilcoxon's signed-rank test on the Dice of each subject, with Holm's correction. The correction is over "
    "all comparisons with the reference at one labelled amount and one kind of weights. With one seed each the spread "
    "is not known and counts for nothing.",
    "With --steps the two networks of the baseline are trained in one run without seeing each other: 'supervised' is "
    "their mean, 'supervised/unet' and 'supervised/unet_strided' each alone. With --hours-each 'supervised' is a U-Net "
    "that has all of the time. Gap closed: the share of the way from the best supervised row at this amount to the "
    "best one with all labels.",
)
NOTHING = 0.01
"""A Dice below it means that nothing was learned."""


def sentence(one: Comparison) -> str:
    said = {
        BETTER: f"{one.variant} is better than {one.reference}",
        WORSE: f"{one.variant} is worse than {one.reference}",
        WITHIN_NOISE: f"{one.variant} and {one.reference} are within noise of each other",
        UNKNOWN: f"{one.variant} and {one.reference} cannot be compared yet",
    }[one.verdict]
    if one.verdict == UNKNOWN:
        return f"{said}: they need a seed and two subjects in common."
    interval = "" if math.isnan(one.low) else f" [{signed(one.low)}, {signed(one.high)}]"
    spread = f"spread over seeds {one.spread:.3f}"
    if math.isnan(one.spread):
        spread = "one seed, so the spread over seeds is not known"
    if one.unpaired:
        spread += f"; only the seeds of both ({', '.join(map(str, one.seeds))}), so not the difference of the means"
    few = "; too few to show any difference" if one.hopeless else ""
    if one.difference == one.low == one.high == 0:
        few += "; equal on every subject: both may have the same weights, from an early step"
    return (
        f"{said}: Dice {signed(one.difference)}{interval}, p {p_text(one.p_holm)}, {spread}, "
        f"{one.subjects} subjects{few}."
    )


def verdicts(summary: Summary, place: tuple[str, str, str]) -> list[str]:
    """All that can be said of one test set, labelled amount and kind of weights."""
    said = [sentence(one) for one in summary.comparisons if (one.test, one.labelled, one.weights) == place]
    rows = [row for row in summary.rows if (row.test, row.labelled, row.weights) == place]
    if nothing := [row.variant for row in rows if row.metrics["dice"].mean < NOTHING]:
        them = "it" if len(nothing) == 1 else "them"
        said.append(
            f"{', '.join(nothing)} learned nothing (Dice below {NOTHING:g}), "
            f"so a comparison with {them} means nothing. Train all methods for more steps."
        )
    if place in summary.gaps:
        said.append(f"The share of the gap closed is undefined: {summary.gaps[place]}.")
    return said


def of_several_versions(versions: Mapping[str, Sequence[str]]) -> str:
    """A warning where runs are of different code (version -> names of finished runs, none: to come), else ""."""
    if len(versions) < 2:
        return ""
    said = "; ".join(f"{version}: {len(names) or 'the new ones'}" for version, names in versions.items())
    return (
        f"The runs are of different versions of the code (runs by version: {said}). If the versions compute different "
        "things, the runs cannot be compared. To start again, choose another --out."
    )


def of_silent_terms(done: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """A sentence for each set of loss terms that trained nothing: a variant without them would be the same."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for cell, result in done.items():
        if silent := result["training"].get("silent"):
            runs.setdefault(tuple(silent), []).append(str(cell))
    return [
        f"{'; '.join(cells)}: these loss terms were 0 in every log line and trained nothing: {', '.join(silent)}."
        for silent, cells in runs.items()
    ]


def p_text(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float, form: str, nothing: str = "-") -> str:
    """A number in a format, e.g. ".3f"; what stands for one that is not known."""
    return nothing if math.isnan(value) else format(value, form)


def signed(difference: float) -> str:
    """A difference with its sign, to three places; one that rounds to zero has no sign."""
    return number(difference, "+.3f") if round(difference, 3) else "0.000"
