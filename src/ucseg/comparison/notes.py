"""What a comparison has to note before it starts: nothing is wrong, but figures may not be what they seem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ucseg.comparison.datasets import Amount, Cohort, images_of
from ucseg.comparison.definition import Definition
from ucseg.comparison.grid import ALL, Cell
from ucseg.dataset.manifest import Dataset, reference_masks
from ucseg.dataset.splits import share_or_cases, subjects_in_two_splits
from ucseg.errors import some
from ucseg.planning.plan import Plan, read_plan
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import TrainConfig
from ucseg.training.start import Start

NOT_COMPARED = {"steps", "always_present", "made_of"}
"""Of a plan: what no run of a comparison uses."""
FAR_FROM_ASKED = 1.5
"""A percentage that shows so many times more or fewer cases than it asks for gets a note."""


def masks_seen(dataset: Dataset, amounts: Sequence[Amount], starts: Mapping[str, Start]) -> list[str]:
    """Variants that start from a run which had more masks of this dataset than a row shows."""
    fewest = set(min(amounts, key=lambda amount: len(amount.labelled)).labelled)
    notes = []
    for text, start in starts.items():
        known = RunFolder(start.path).config if start.by_names else {}
        more = set(known.get("cases", {}).get("labelled", ())) & {case.case for case in dataset.labelled} - fewest
        if more and Path(known.get("dataset", "")).resolve() == dataset.folder.resolve():
            notes.append(
                f"{text}: the weights that it starts from were trained with {len(more)} masks that this comparison "
                f"hides ({some(sorted(more))}); rows with few labels are too good."
            )
    return notes


def plan_saw_more(before: Definition | None, smallest: Amount) -> list[str]:
    """That a smaller amount than the comparison began with gets the plan that is there."""
    if before is None:
        return []
    text, cases = next(iter(before.labelled.items()))  # the smallest of the first call: the plan was made with it
    if len(cases) <= len(smallest.labelled):
        return []
    return [
        f"The plan was made with the {len(cases)} masks of --labelled {text}; --labelled {smallest.text} shows fewer. "
        "For a plan that knows those alone, choose another --out."
    ]


def plan_not_used(dataset: Dataset, plan: Plan) -> list[str]:
    """That the dataset's own plan is another one, and in what."""
    file = dataset.folder / "plan.yaml"
    if not file.exists():
        return []
    own, ours = (one.model_dump(mode="json", exclude=NOT_COMPARED) for one in (read_plan(file), plan))
    differ = [key for key, value in ours.items() if own[key] != value]
    if not differ:
        return []
    return [
        f"{file} is not used: it may know masks that the runs must not see. The plan of this comparison differs in "
        f"{', '.join(differ)}. To give a value, write --set plan.KEY=VALUE."
    ]


def sgd_follows(config: TrainConfig, encoders: Mapping[str, bool]) -> list[str]:
    """That a common learning rate by itself means SGD for variants whose networks have an encoder for photographs."""
    on_encoder = [text for text, encoder in encoders.items() if encoder]
    if config.lr is None or config.optimizer is not None or not on_encoder:
        return []
    return [
        f"{some(on_encoder)} train with SGD, because lr is set and optimizer is not; for AdamW, give --set "
        "optimizer=adamw too."
    ]


def rounded(amounts: Sequence[Amount], most: int) -> list[str]:
    """Percentages of `most` masks of which whole subjects, and at least one case, made something else."""
    notes = []
    for amount in amounts:
        share = None if amount.text == ALL else share_or_cases(amount.text, "--labelled")[0]
        shown = len(amount.labelled)
        if share is not None and not share * most / FAR_FROM_ASKED < shown < share * most * FAR_FROM_ASKED:
            notes.append(
                f"--labelled {amount.text} of {most} masks is {share * most:.2g}, but {shown} ({shown / most:.1%}) are "
                "shown: whole subjects, and at least one case."
            )
    return notes


def not_named(out: Path, grid: Sequence[Cell], tests: Sequence[str]) -> list[str]:
    """What is finished in a folder and not shown, because this command does not name it."""
    named = {cell.name for cell in grid}
    runs = sorted(file.stem for file in (out / "cells").glob("*.json") if file.stem not in named)
    missing = [f"finished runs ({some(runs)})"] if runs else []
    missing += [f"test sets {', '.join(tests)}"] if tests else []
    if not missing:
        return []
    return [f"{out} also holds {' and '.join(missing)}: not shown, because this command does not name them."]


def of_the_data(dataset: Dataset, cohorts: Sequence[Cohort], titles: dict[str, str]) -> list[str]:
    notes = []
    training = {case.case for case in dataset.training}
    hidden = sum(case in training for case in reference_masks(dataset)) - len(dataset.labelled)
    if hidden:
        notes.append(
            f"{dataset.folder.name} hides {hidden} training masks: 'all' and percentages count only the "
            f"{len(dataset.labelled)} that it shows. To use all masks, make the dataset without --labelled."
        )
    shared = subjects_in_two_splits(dataset.cases)
    if shared:
        notes.append(
            f"{len(shared)} subjects are in more than one split (e.g. {next(iter(shared))}): figures may be too good."
        )
    others = cohorts[1:]  # leaks between the dataset's own splits are for `ucseg check`
    seen = {
        split: images_of(cases) if others else {}
        for split, cases in (("training", dataset.training), ("validation", dataset.validation), ("test", dataset.test))
    }
    for one in others:
        images = images_of(one.cases)
        for split, own in seen.items():
            if again := [name for content, name in images.items() if content in own]:
                harm = "are measured twice" if split == "test" else "make its figures too good"
                notes.append(
                    f"{titles[one.key]}: {len(again)} of its images are also {split} cases of {dataset.folder.name} "
                    f"({some(again)}) and {harm}. Remove them from --test-on."
                )
    lost = [one for one in cohorts if one.left_out]
    return [*notes, *(f"{titles[one.key]}: {one.left_out} cases without a mask are not measured." for one in lost)]
