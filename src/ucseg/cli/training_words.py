"""What `ucseg train` reports before it starts, and when it ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ucseg.cli.terminal import console, output, say
from ucseg.errors import some

if TYPE_CHECKING:
    from ucseg.batches.prepare import Prepared
    from ucseg.config import Strict
    from ucseg.dataset.manifest import Dataset
    from ucseg.inference.calibration import Calibration
    from ucseg.methods.base import Method
    from ucseg.networks.weights import Fit
    from ucseg.training.outcome import FitResult
    from ucseg.training.settings import TrainConfig

MOST_PAIRS = 3
MOST_FINDINGS = 20
"""Shown at the start; a longer list would only scroll away."""


def say_what_was_found(data: Dataset, resumed: bool) -> None:
    """Findings about the scans; a resumed run has shown them at its start."""
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
    copies = {case.case: group[0].case for group in twins for case in group}
    with console.status("looking for images that are nearly the same"):
        near = alike(data, thumbnails_before_training(data), copies)
    found = [*copies_across_splits(twins), *findings_before_training(data), *near[:MOST_PAIRS]]
    for one in found[:MOST_FINDINGS]:
        say(one.kind, f"{one.file}: {one.finding}; {one.fix}.", "yellow")
    for more, what in (
        (len(found) - MOST_FINDINGS, "findings"),
        (len(near) - MOST_PAIRS, "pairs of nearly the same image"),
    ):
        if more > 0:
            say("more-findings", f"and {more} more {what}; `ucseg check {data.folder}` lists them.", "yellow")


def say_what_is_missing(prepared: Prepared, semi_supervised: bool) -> None:
    """Cases left out, and splits without cases."""
    for case, reason in prepared.left_out:
        say("case-left-out", f"left out: {case}: {reason}", "yellow")
    say_what_was_lost(prepared)
    if semi_supervised and not prepared.unlabelled:
        say("all-labelled", "All training cases are labelled: semi-supervision has no unlabelled scans to learn from.")
    if not prepared.validation:
        say(
            "no-validation",
            "There are no validation cases: only the last weights are kept, no best ones, and nothing is calibrated.",
        )


def say_which_optimizer(config: TrainConfig, model: Method) -> None:
    """That a rate by itself means another optimiser than the default."""
    if config.optimizer is None and config.lr is not None and model.has_encoder:
        say(
            "optimizer-follows",
            "Trains with SGD, because lr is set and optimizer is not. For AdamW, add --set optimizer=adamw.",
        )


def say_where_it_starts(path: Path, fit: Fit, model: Method) -> None:
    """How much of the weights to start from fits, and what starts from random weights."""
    from ucseg.networks.weights import places

    names = list(model.state_dict())
    new = some(places(fit.missing, names))
    rest = f"; not in it, or of another shape: {new}" if new else ""
    say("started-from", f"Starts from {path}: {len(fit.taken)} of {len(fit.taken) + len(fit.missing)} tensors{rest}.")


def say_what_was_lost(prepared: Prepared) -> None:
    """Classes that are too small for the network's grid, with the cases whose masks have them."""
    cases: dict[str, list[str]] = defaultdict(list)
    for case, name in prepared.lost:
        cases[name].append(case)
    for name, lost in cases.items():
        say(
            "class-lost",
            f"Lost on the network's grid: class '{name}' of {some(lost)}. It is too small there, so it is trained or "
            "validated as background; make a finer plan (see spacing and size in 'ucseg plan DATASET --explain').",
            "yellow",
        )


MEASURING = "Measuring what a step takes on this machine. That can take some minutes, which --hours does not count."


def what_was_not_learned(last: Mapping[str, float], steps: int) -> tuple[str, str] | None:
    """Kind and text of a message, if the last weights find nothing on the validation cases or nothing of some class."""
    from ucseg.training.read_back import NOTHING_LEARNED

    start = "dice_class_"
    lost = [key.removeprefix(start) for key, value in last.items() if key.startswith(start) and value < NOTHING_LEARNED]
    if min(last["dice"], last.get("mirrored dice", 1.0)) < NOTHING_LEARNED:
        kind, found = "nothing-learned", "Nothing was learned: the model finds nothing of the validation masks"
        members = [
            f"{key.removeprefix('dice_')} by itself has Dice {value:.2f}"
            for key, value in last.items()
            if is_network(key) and value >= NOTHING_LEARNED
        ]
        if members:
            kind = "prediction-empty"
            found = f"The prediction finds nothing of the validation masks, though {' and '.join(members)}"
    elif lost:
        kind = "class-not-learned"
        found = f"Not learned: {', '.join(lost)} (Dice below {NOTHING_LEARNED:g} on the validation cases)"
    else:
        return None
    return kind, (
        f"{found}. {steps} steps may be too few: train longer (--steps or --hours), or with quicker steps, of a "
        "smaller patch or batch ('ucseg plan --set'). If that does not help, compare the masks with their scans "
        "('ucseg check')."
    )


def found_nothing(networks: Sequence[str]) -> str:
    """A sentence on networks that the validation cases show to have learned nothing."""
    s, have, do = ("", "it has", "does") if len(networks) == 1 else ("s", "they have", "do")
    return (
        f"network{s} {', '.join(networks)} found nothing of the validation cases: {have} not learned, and {do} not "
        "count in the disagreement of predictions; train longer."
    )


def why_silent(terms: Sequence[str], settings: Strict) -> str:
    """Loss terms that were always 0, and why: their weight is 0, or else what may be the cause.

    Args:
        settings: of the method. The weight of a term has its name ("strong_1": strong_weight).
    """
    found = settings.model_dump()
    reasons: dict[str, list[str]] = {}
    for term in terms:
        own = f"{term.split('_')[0]}_weight"
        off = own in found and found[own] == 0
        why = f"turned off by {own}=0" if off else "too few steps to reach them, or another setting turns them off"
        reasons.setdefault(why, []).append(term)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())


def is_network(figure: str) -> bool:
    """Whether a figure is the Dice of a single network."""
    return figure.startswith("dice_") and not figure.startswith("dice_class_")


def head_of(figure: str) -> str:
    """Head of a column: of the prediction, a network or a class."""
    return "prediction" if figure == "dice" else figure.removeprefix("dice_").removeprefix("class_")


def _say_dice(result: FitResult, cases: int) -> None:
    """The table of the validation, and what was not learned."""
    from rich.table import Table

    from ucseg.inference.validation import MIRRORED
    from ucseg.training.read_back import networks_not_learned

    rows = {name: row for name, row in (("last", result.last), ("best", result.best)) if row}
    if not rows:
        return
    kinds = [key for key in rows["last"] if key.startswith("dice")]
    alone = [key for key in kinds if is_network(key)]
    if len(alone) == 1 and all(row.get(alone[0]) == row["dice"] for row in rows.values()):
        kinds.remove(alone[0])  # the prediction is this network's
    heads = [head_of(key) for key in kinds]
    if MIRRORED in rows["last"]:  # of the last step alone
        kinds.insert(1, MIRRORED)
        heads.insert(1, "mirrored")
    title = f"Dice on {cases} validation case{'s' * (cases != 1)}"
    if networks := [head_of(key) for key in kinds if is_network(key)]:
        title += f" (prediction: the mask of the method; {', '.join(networks)}: by themselves)"
    table = Table("weights", "step", *heads, title=title)
    for name, row in rows.items():
        table.add_row(name, str(row["step"]), *(f"{row[key]:.4f}" if key in row else "" for key in kinds))
    output.print(table)
    if missed := what_was_not_learned(rows["last"], result.steps):
        say(*missed, "yellow")
    elif silent := networks_not_learned(rows["last"]):
        say("network-not-learned", f"The {found_nothing(silent)}", "yellow")


def say_how_it_ended(
    result: FitResult, data: Dataset, prepared: Prepared, model: Method, calibrated: Calibration | None = None
) -> None:
    """The figures, the time, what was calibrated, and the commands that come next."""
    if result.already_finished:
        say("run-finished", f"{result.run}: this run has already ended, at step {result.steps}; nothing was done.")
    _say_dice(result, len(prepared.validation))
    if calibrated is not None:
        lacking = "" if calibrated.dice else "; too few of them to predict a Dice"
        if calibrated.dice and calibrated.dice.width is None:
            lacking = "; too few of them for an interval of the predicted Dice"
        how = f"at temperature {calibrated.temperature:.2f}{lacking}"
        plural = "s" * (calibrated.cases != 1)
        say("calibrated", f"Calibrated on {calibrated.cases} validation case{plural}, {how}.")
    if result.silent:
        say(
            "silent-terms",
            f"Loss terms that were always 0 and trained nothing: {why_silent(result.silent, model.config)}.",
            "yellow",
        )
    if prepared.left_out:
        names = some([case for case, _ in prepared.left_out])
        say("cases-left-out", f"left out (reasons at the start): {names}", "yellow")
    where = f" on {result.on}" if result.on else ""
    minutes, seconds = divmod(round(result.seconds), 60)
    say(
        "run-ended",
        f"{result.steps} steps in {minutes} min {seconds} s{where}; weights, settings and log are in {result.run}.",
    )
    if result.spent is not None:
        say("time-spent", f"Time went into: {result.spent}.")
        say("would-help", f"What would help most: {result.would_help_most}.")
    console.print("Next, masks with uncertainty for your own scans:")
    console.print(f"  ucseg predict {result.run} SCANS --out PREDICTIONS")
    if data.test:
        console.print("or for the dataset's test cases, and how good they are:")
        console.print(f"  ucseg predict {result.run} {data.folder} --out {result.run / 'test'}")
        console.print(f"  ucseg evaluate {result.run / 'test'} {data.folder} --out {result.run / 'test-metrics'}")
