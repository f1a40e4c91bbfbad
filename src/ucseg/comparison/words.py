"""What a comparison may say in words, and the rules by which it says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ucseg.comparison.grid import Cell
from ucseg.comparison.summary import BETTER, LEVEL, UNKNOWN, WITHIN_NOISE, WORSE, Comparison, Summary

RULES = (
    "All had the same labelled cases, steps, batches, augmentation, choice of the best weights and post-processing. "
    "Test cases were used for these figures only.",
    "A case counts with the mean over its classes and over seeds, a subject with the mean over its cases: cases of one "
    "subject are not independent. A class that neither mask has is undefined and left out.",
    "Interval: 95 % percentile bootstrap over subjects. Spread: standard deviation over seeds.",
    f"Better or worse is said only where Holm's p is below {LEVEL:g} and the difference of the means is larger than "
    "the larger of both spreads over seeds. Everything else is within noise. p: Wilcoxon's signed-rank test on the "
    "subjects' Dice, with Holm's correction over all comparisons with the reference at one labelled amount and one "
    "kind of weights. With one seed each the spread is not known, and p decides alone.",
    "Supervised U-Net and V-Net are trained in one run without seeing each other: 'supervised' is their mean, "
    "'supervised/unet' and 'supervised/vnet' each by itself. Gap closed: how much of the way from the best of the "
    "supervised rows at this amount to the best of those with all labels.",
)
NOTHING = 0.01
"""A Dice below it is as good as nothing found."""


def sentence(one: Comparison) -> str:
    """One comparison."""
    said = {
        BETTER: f"{one.variant} is better than {one.reference}",
        WORSE: f"{one.variant} is worse than {one.reference}",
        WITHIN_NOISE: f"{one.variant} and {one.reference} are within noise of each other",
        UNKNOWN: f"{one.variant} and {one.reference} cannot be compared yet",
    }[one.verdict]
    if one.verdict == UNKNOWN:
        return f"{said}: no seed or no two subjects that both have."
    interval = "" if math.isnan(one.low) else f" [{one.low:+.3f}, {one.high:+.3f}]"
    spread = f"spread over seeds {one.spread:.3f}"
    if math.isnan(one.spread):
        spread = "one seed, so how much another seed would change is not known"
    if one.unpaired:
        spread += f"; over the seeds that both have ({', '.join(map(str, one.seeds))}), so it is not that of the means"
    few = "; too few for any difference to show" if one.hopeless else ""
    if one.difference == one.low == one.high == 0:
        few += "; the same on every subject: the weights may be the same, as the best ones of an early step can be"
    return (
        f"{said}: Dice {one.difference:+.3f}{interval}, p {p_text(one.p_holm)}, {spread}, {one.subjects} subjects{few}."
    )


def verdicts(summary: Summary, place: tuple[str, str, str]) -> list[str]:
    """All that can be said of one test set, labelled amount and kind of weights."""
    said = [sentence(one) for one in summary.comparisons if (one.test, one.labelled, one.weights) == place]
    rows = [row for row in summary.rows if (row.test, row.labelled, row.weights) == place]
    if nothing := [row.variant for row in rows if row.metrics["dice"].mean < NOTHING]:
        said.append(
            f"Dice below {NOTHING:g}, so nothing was learned, by {', '.join(nothing)}: to be better or worse than that "
            "says nothing of a method. Give all more steps."
        )
    if place in summary.gaps:
        said.append(f"The share of the gap closed is undefined: {summary.gaps[place]}.")
    return said


def of_several_versions(versions: Mapping[str, Sequence[str]]) -> str:
    """What to say where runs are of different code (version -> names of finished runs, none: to come), else ""."""
    if len(versions) < 2:
        return ""
    said = "; ".join(f"{version}: {len(names) or 'those to come'}" for version, names in versions.items())
    return (
        f"Not all runs are of the same code (runs by version: {said}). Where it differs in what is computed they "
        "cannot be compared; another --out begins anew."
    )


def of_silent_terms(done: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """A sentence for terms of the loss that trained nothing: a variant without them would be the same."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for cell, result in done.items():
        if silent := result["training"].get("silent"):
            runs.setdefault(tuple(silent), []).append(str(cell))
    return [
        f"{'; '.join(cells)}: loss terms that were 0 whenever logged, and trained nothing: {', '.join(silent)}."
        for silent, cells in runs.items()
    ]


def p_text(p: float) -> str:
    """p to three places."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def figure_text(mean: float, low: float, high: float, digits: int) -> str:
    """Mean and interval."""
    if math.isnan(mean):
        return "undefined"
    return f"{mean:.{digits}f}" + ("" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def number(value: float, form: str, nothing: str = "-") -> str:
    """A number in a format, e.g. ".3f"; what stands for one that is not known."""
    return nothing if math.isnan(value) else format(value, form)


def duration(seconds: float) -> str:
    """Such as 1 h 05 min, or 12 min 30 s."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
