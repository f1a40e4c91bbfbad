"""What `ucseg predict` reports before and after its work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ucseg.cli.terminal import say
from ucseg.cli.training_words import found_nothing
from ucseg.errors import UserError, some

if TYPE_CHECKING:
    from ucseg.folder.inputs import FoundInputs, Input
    from ucseg.folder.like_training import Wanted
    from ucseg.inference.ensemble import AnyPredictor
    from ucseg.inference.outputs import PredictionFolder

TO_LOOK_AT = 5
"""Cases with a high failure score that are named."""
ENOUGH = 2
"""Cases with a mask, of which none has one of a certain network: it has not learned."""


def say_what_is_left_out(found: FoundInputs, wanted: Wanted) -> None:
    """Inputs with a problem, and scans of folders that are masks or not like those of training."""
    from ucseg.folder.inputs import HOW_TO_PREDICT_MASKS

    for problem in found.problems:
        say(problem.code, str(problem), "red")
    if found.masks:
        names = some([file.name for file in found.masks])
        say(
            "masks-left-out",
            f"Left out as masks, by folder or name: {len(found.masks)} ({names}); {HOW_TO_PREDICT_MASKS}.",
        )
    for folder in found.unlike:
        said = f"{folder}: no file is called as the images of training, '{wanted.trained}'"
        say("unlike-training", f"{said}, so all are taken; if that is wrong, say with --images which.", "yellow")
    if found.others:
        names = some([file.name for file in found.others])
        which = f"--images '{wanted.images}'" if wanted.images else f"the images of training, '{wanted.trained}'"
        fix = "to predict them, give other --images, such as '*'"
        say("others-left-out", f"Left out, as they do not match {which}: {len(found.others)} ({names}); {fix}.")


def say_doubts(items: list[Input]) -> None:
    """Which headers say two spacings, and which of them is taken."""
    from ucseg.scans.reading import read_header

    doubts: dict[str, list[str]] = {}
    for item in items:
        if item.address.format == "nifti":
            try:
                doubt = read_header(item.address)[1].doubt
            except UserError:
                continue  # prediction will report it
            if doubt:
                doubts.setdefault(doubt, []).append(item.address.name)
    for doubt, names in doubts.items():
        said = f"{len(names)} headers contradict themselves: {doubt}, which is taken ({some(names)})"
        say("header-contradicts-itself", f"{said}; --geometry decides it.", "yellow")


def say_how_it_counts(runs: list[Path], unfinished: dict[Path, str], predictor: AnyPredictor) -> None:
    """Weights that are not final, networks that do not count in scores, and whether the numbers are calibrated."""
    for run, why in unfinished.items():
        say("not-final", f"{run}: {why}", "yellow")
    if predictor.silent:
        say("network-not-learned", f"{runs[0]}: {found_nothing(predictor.silent)}", "yellow")
    if len(runs) > 1:
        say("runs-together", f"{len(runs)} runs together: uncertainty is of their mean, and no Dice is predicted.")
    elif predictor.calibration is None:
        say(
            "not-calibrated",
            f"{runs[0]}: holds no calibration of these weights and settings: uncertainty is as the networks give it, "
            "and no Dice is predicted. Training makes one where there are validation cases.",
        )


def say_what_did_not_learn(folder: PredictionFolder, known: Sequence[str]) -> None:
    """Networks whose masks are empty in every case that has a mask: they say nothing about a case."""
    found = [row for row in folder.rows if row["status"] == "ok" and str(row["case"]) not in folder.empty]
    always = [set(str(row.get("empty_networks", "")).split()) for row in found]
    if len(found) >= ENOUGH and (names := sorted(set.intersection(*always) - set(known))):
        networks, have = ("network", "it has") if len(names) == 1 else ("networks", "they have")
        say(
            "network-not-learned",
            f"The masks of {networks} {', '.join(names)} are empty in all {len(found)} cases: {have} not learned, so "
            "the disagreement says nothing; train longer.",
            "yellow",
        )


def say_which_are_empty(folder: PredictionFolder) -> None:
    plan, empty = folder.files.plan, folder.empty
    if empty:
        always = ", ".join(plan.classes[value] for value in plan.always_present)
        meaning = (
            f"every labelled training mask holds {always}, so these most likely failed"
            if always
            else "look at these: either there is nothing to find, or it was missed"
        )
        say("empty-masks", f"Empty masks: {len(empty)} ({some(empty)}); {meaning}.", "yellow")
    if never := _never_found(folder):
        said = f"No mask holds {', '.join(never)}, which every labelled training mask holds"
        say(
            "classes-never-found",
            f"{said}, so the model has not learned {'it' if len(never) == 1 else 'them'}.",
            "yellow",
        )


def _never_found(folder: PredictionFolder) -> list[str]:
    """Classes that every labelled training mask holds, and no mask here; nothing where all masks are empty."""
    from ucseg.inference.outputs import volume_columns

    plan, columns = folder.files.plan, volume_columns(folder.files.plan)
    found = [[float(row[column]) for column in columns] for row in folder.rows if row["status"] == "ok"]
    if not any(map(any, found)):
        return []
    return [plan.classes[value] for value in plan.always_present if not any(row[value - 1] for row in found)]


def say_which_to_look_at(folder: PredictionFolder, of_dataset: bool) -> None:
    doubtful = folder.doubtful[:TO_LOOK_AT]
    if len(folder.rows) > TO_LOOK_AT and doubtful:
        named = ", ".join(f"{case} {score:.2f}" for case, score in doubtful)
        if of_dataset:  # no advice to train on test cases
            say("look-first", f"Look at these first (failure score): {named}.")
        else:
            say("look-or-label", f"Look at these first, or label them for the next training (failure score): {named}.")
