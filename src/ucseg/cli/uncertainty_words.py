"""What `ucseg evaluate --uncertainty` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ucseg.cli.terminal import output, say
from ucseg.errors import some

if TYPE_CHECKING:
    from rich.table import Table

    from ucseg.evaluation.uncertainty import MeasuredUncertainty


def say_uncertainty(found: MeasuredUncertainty) -> None:
    """Two tables, of voxels and of scores; how good the predicted Dice was; and what is missing."""
    if found.together is not None:
        output.print(_of_voxels(found))
    if not found.has_probabilities:
        say("no-probabilities", "ECE and Brier need probabilities: predict again with --probabilities.", "yellow")
    if missing := [case for case, one in zip(found.cases, found.voxels, strict=True) if one is None]:
        say("no-map", f"Masks without an uncertainty map: {len(missing)} ({some(missing)}).", "yellow")
    if found.qualities:
        output.print(_of_scores(found))
    else:
        say(
            "no-score",
            "There is no score of cases with whole references: cases.csv of 'ucseg predict' is missing or has none.",
            "yellow",
        )
    if covered := found.coverage:
        say(
            "predicted-dice",
            f"Predicted Dice: {covered['within']:.0%} of {covered['cases']:.0f} cases lie within their interval, which "
            f"is {covered['mean_width']:.3f} wide on average; the mean distance is {covered['mean_distance']:.3f}.",
        )


def _of_voxels(found: MeasuredUncertainty) -> Table:
    from rich.table import Table

    assert found.together is not None
    figures = found.together.figures
    table = Table(title="uncertainty of all voxels together", title_justify="left")
    for head in ("voxels", "AUROC of\nwrong ones", "AUPR of\nwrong ones", "ECE", "Brier"):
        table.add_column(head, justify="left" if head == "voxels" else "right")
    near = f"within {found.settings.margin:g} {found.unit} of the structure"
    for title, ending in (("all", ""), (near, "_near")):
        cells = [figures[f"{name}{ending}"] for name in ("auroc", "aupr", "ece", "brier")]
        table.add_row(title, *map(_number, cells))
    return table


def _of_scores(found: MeasuredUncertainty) -> Table:
    from rich.table import Table

    qualities = found.qualities
    failed = max(one.failed for one in qualities.values())
    limit = found.settings.failed_below
    scored = max(one.cases for one in qualities.values())  # not those whose masks are known in part
    title = f"scores of cases, {failed} of {scored} with Dice below {limit:g}"
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    for head in ("cases", "AURC", "excess\nAURC", "Spearman", f"AUROC of\nDice < {limit:g}"):
        table.add_column(head, justify="right")
    for name, one in qualities.items():
        cells = (one.aurc, one.excess_aurc, one.spearman, one.failure_auroc)
        table.add_row(name, str(one.cases), *map(_number, cells))
    return table


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
