"""What `ucseg train` says before it begins, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ucseg.cli.terminal import console, output
from ucseg.errors import some

if TYPE_CHECKING:
    from ucseg.batches.prepare import Prepared
    from ucseg.dataset.manifest import Dataset
    from ucseg.training.trainer import FitResult

NOTHING = 0.01
"""A Dice below it, on validation cases: as good as nothing was found."""
MOST_PAIRS = 3
MOST_FINDINGS = 20
"""Told at the start; a longer list would only be scrolled away."""


def say_what_was_found(data: Dataset, resumed: bool) -> None:
    """Findings about the scans, unless they were told when the run began."""
    from ucseg.soundness.before_training import (
        alike,
        copies_across_splits,
        findings_before_training,
        same_files,
        thumbnails_before_training,
    )

    if resumed:
        return
    twins = same_files(data)
    told = {case.case: group[0].case for group in twins for case in group}
    with console.status("looking for images that are nearly the same"):
        near = alike(data, thumbnails_before_training(data), told)
    found = [*copies_across_splits(twins), *findings_before_training(data), *near[:MOST_PAIRS]]
    for one in found[:MOST_FINDINGS]:
        console.print(f"{one.file}: {one.finding}; {one.fix}.", style="yellow")
    if len(found) > MOST_FINDINGS:
        console.print(f"and {len(found) - MOST_FINDINGS} more; `ucseg check {data.folder}` lists them.", style="yellow")
    if len(near) > MOST_PAIRS:
        more = f"and {len(near) - MOST_PAIRS} more pairs of nearly the same image"
        console.print(f"{more}; `ucseg check {data.folder}` lists them.", style="yellow")


def say_what_is_missing(prepared: Prepared, semi_supervised: bool) -> None:
    """Cases left out, and splits without cases."""
    for case, reason in prepared.left_out:
        console.print(f"left out: {case}: {reason}", style="yellow")
    if semi_supervised and not prepared.unlabelled:
        console.print("All training cases are labelled: there is nothing for semi-supervision to learn from.")
    if not prepared.validation:
        console.print("There are no validation cases: the last weights are kept, none can be called the best.")


def what_was_not_learned(last: Mapping[str, float], steps: int) -> str | None:
    """A sentence if the last weights find nothing on the validation cases, or nothing of some class; None otherwise."""
    start = "dice_class_"
    lost = [key.removeprefix(start) for key, value in last.items() if key.startswith(start) and value < NOTHING]
    if last["dice"] < NOTHING:
        found = "Nothing was learned: the validation masks are not found at all"
        members = [
            f"{key.removeprefix('dice_')} by itself has Dice {value:.2f}"
            for key, value in last.items()
            if key.startswith("dice_") and not key.startswith(start) and value >= NOTHING
        ]
        if members:
            found = f"The prediction finds nothing of the validation masks, though {' and '.join(members)}"
    elif lost:
        found = f"Not learned: {', '.join(lost)} (Dice below {NOTHING:g} on the validation cases)"
    else:
        return None
    return (
        f"{found}. After {steps} steps that may only be too early: give it more (--steps), or let 'ucseg plan --hours' "
        "make a plan of quicker ones. If more do not help, look at the masks beside their scans ('ucseg check')."
    )


def say_how_it_ended(result: FitResult, data: Dataset, prepared: Prepared) -> None:
    """The figures, the time, and the commands that come next."""
    from rich.table import Table

    if result.already_finished:
        console.print(f"{result.run}: this run was finished already, at step {result.steps}; nothing was done.")
    rows = {name: row for name, row in (("last", result.last), ("best", result.best)) if row}
    if rows:
        kinds = [key for key in rows["last"] if key.startswith("dice")]
        heads = ["prediction" if key == "dice" else key.removeprefix("dice_").replace("class_", "") for key in kinds]
        count = len(prepared.validation)
        table = Table("weights", "step", *heads, title=f"Dice on {count} validation case{'s' * (count != 1)}")
        for name, row in rows.items():
            table.add_row(name, str(row["step"]), *(f"{row[key]:.4f}" if key in row else "" for key in kinds))
        output.print(table)
        if missed := what_was_not_learned(rows["last"], result.steps):
            console.print(missed, style="yellow")
    if result.silent:
        console.print(
            f"Loss terms that were 0 whenever they were logged, and trained nothing: {', '.join(result.silent)}. "
            "Either the steps were too few for the method to get to them, or its settings keep it from them.",
            style="yellow",
        )
    if prepared.left_out:
        names = some([case for case, _ in prepared.left_out])
        console.print(f"left out, for the reasons told at the start: {names}", style="yellow")
    where = f" on {result.on}" if result.on else ""
    minutes, seconds = divmod(round(result.seconds), 60)
    console.print(
        f"{result.steps} steps in {minutes} min {seconds} s{where}; weights, settings and log are in {result.run}."
    )
    if result.spent is not None:
        console.print(f"Time went into: {result.spent}.")
        console.print(f"What would help most: {result.would_help_most}.")
    console.print("Next, masks with uncertainty for scans of your own:")
    console.print(f"  ucseg predict {result.run} SCANS --out PREDICTIONS")
    if data.test:
        console.print("or for the dataset's test cases, and how good they are:")
        console.print(f"  ucseg predict {result.run} {data.folder} --out {result.run / 'test'}")
        console.print(f"  ucseg evaluate {result.run / 'test'} {data.folder} --out {result.run / 'test-metrics'}")
