"""From the user's words to a comparison that can begin, or all that is wrong with them at once. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.comparison.datasets import (
    Amount,
    Cohort,
    images_of,
    labelled_amounts,
    mismatch,
    other_cohort,
    own_cohort,
)
from ucseg.comparison.definition import Definition, agree, choose_plan, define, earlier
from ucseg.comparison.grid import ALL, Cell, Variant, cells, check_common, check_settings, parse_variants
from ucseg.comparison.report import Study
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks
from ucseg.dataset.splits import share_or_cases, subjects_in_two_splits
from ucseg.errors import UserError, some
from ucseg.methods import build_method, settings_of
from ucseg.planning.plan import Plan
from ucseg.training.device import choose_device
from ucseg.training.settings import TrainConfig, sort_settings

DEFAULT_REFERENCE = "uc_seg"
FAR_FROM_ASKED = 1.5
"""So many times more or fewer labelled cases than a percentage asks for are told."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; lists are split into single words."""

    dataset: Path
    out: Path
    labelled: list[str]
    variants: list[str]
    seeds: int
    steps: int | None
    reference: str | None
    settings: list[str]
    test_on: list[Path]
    tolerance: float
    command: str


@dataclass(frozen=True)
class Setup:
    """A comparison that can begin."""

    study: Study
    dataset: Dataset
    plan: Plan
    config: TrainConfig
    definition: Definition
    amounts: dict[str, Amount]
    common: list[str]


def set_up(wanted: Wanted) -> Setup:
    """Check everything that can be checked before training.

    Raises:
        UserError: a line for each thing that is wrong.
    """
    problems: list[str] = []

    def tried(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UserError as error:
            problems.extend(str(error).splitlines())
            return None

    before = tried(lambda: earlier(wanted.out))
    dataset: Dataset | None = tried(lambda: load_dataset(wanted.dataset))
    config: TrainConfig | None = tried(lambda: check_common(wanted.settings, wanted.steps))
    if config is not None:
        device = config.device
        tried(lambda: choose_device(device))
    variants, wrong = parse_variants(wanted.variants)
    problems += wrong
    if wanted.seeds < 1:
        problems.append(f"--seeds {wanted.seeds}: give at least 1.")
    if not 0 <= wanted.tolerance < math.inf:
        problems.append(f"--tolerance {wanted.tolerance} is not a distance; give 0 or more.")
    reference = _reference(wanted, variants, problems)
    amounts: list[Amount] = []
    cohorts: list[Cohort] = []
    if dataset is not None:
        amounts, wrong = labelled_amounts(dataset, wanted.labelled)
        problems += wrong + _unusable(dataset, wanted)
        problems += [
            f"--test-on {path}: is the dataset itself, whose test cases are measured on in any case; leave it out."
            for path in wanted.test_on
            if path.resolve() == dataset.folder.resolve()
        ]
        cohorts = [found for path in wanted.test_on if (found := tried(lambda path=path: other_cohort(path)))]  # type: ignore[misc]
        problems += [text for one in cohorts if (text := mismatch(dataset, one))]
    if problems or dataset is None or config is None:
        raise UserError("todo", "\n".join(dict.fromkeys(problems)))

    cohorts = [own_cohort(dataset), *cohorts]
    plan, plan_from = choose_plan(dataset, amounts[0], before)
    for variant in variants:
        tried(lambda variant=variant: _build(variant, wanted, plan))  # type: ignore[misc]
    problems = problems or _twins(variants, wanted)
    if problems:
        raise UserError("todo", "\n".join(problems))
    now = define(dataset, amounts, cohorts, plan, plan_from, config, wanted.tolerance)
    definition = agree(before, now, wanted.out)
    asked = [amount.text for amount in amounts if amount.text != ALL or ALL in wanted.labelled]
    grid = cells(variants, asked, wanted.seeds)
    study = _study(wanted, dataset, amounts, cohorts, grid, reference, config, definition)
    return Setup(study, dataset, plan, config, definition, {one.text: one for one in amounts}, wanted.settings)


def _reference(wanted: Wanted, variants: Sequence[Variant], problems: list[str]) -> str:
    named = [variant.text for variant in variants]
    if wanted.reference is None:
        first = next((variant.text for variant in variants if variant.text in wanted.variants), named[0])
        return DEFAULT_REFERENCE if DEFAULT_REFERENCE in named else first
    variant = wanted.reference.partition("/")[0]
    if wanted.reference not in named and not any(one.text == variant and one.members for one in variants):
        problems.append(f"--reference {wanted.reference} is not compared; choose one of {', '.join(named)}.")
    return wanted.reference


def _unusable(dataset: Dataset, wanted: Wanted) -> list[str]:
    masks = reference_masks(dataset)
    found = []
    if not any(case.case in masks for case in dataset.test):
        found.append(f"{dataset.folder}: has no test case with a mask to measure on; make it with ucseg init --test.")
    if not any(case.mask is not None for case in dataset.validation):
        found.append(
            f"{dataset.folder}: has no validation case with a mask to choose weights by; "
            "make it with ucseg init --validation."
        )
    if not wanted.labelled:
        found.append("--labelled: give the labelled amounts to compare at, e.g. 5%,10%.")
    return found


def _twins(variants: Sequence[Variant], wanted: Wanted) -> list[str]:
    """Variants with the same settings: hours of training that would tell nothing."""
    first: dict[tuple[str, str, str], str] = {}
    problems = []
    for variant in variants:
        train = check_settings(variant, wanted.settings, wanted.steps)
        method = settings_of(variant.method, sort_settings(list(variant.all_settings), {})["method"])
        twin = first.setdefault((variant.method, repr(train), repr(method)), variant.text)
        if twin != variant.text:
            problems.append(
                f"variant '{variant.text}': has the settings of '{twin}' and would train the same; leave one out."
            )
    return problems


def _build(variant: Variant, wanted: Wanted, plan: Plan) -> None:
    """Settings that only the plan or a network can refuse."""
    try:
        check_settings(variant, wanted.settings, wanted.steps)
        if variant.settings:
            build_method(variant.method, sort_settings(list(variant.all_settings), {})["method"], plan.problem)
    except UserError as error:
        raise UserError(
            "todo",
            "\n".join(f"variant '{variant.text}': {line}" for line in str(error).splitlines()),
        ) from None


def _study(
    wanted: Wanted,
    dataset: Dataset,
    amounts: Sequence[Amount],
    cohorts: Sequence[Cohort],
    grid: list[Cell],
    reference: str,
    config: TrainConfig,
    definition: Definition,
) -> Study:
    titles = _titles(cohorts)
    counts = {amount.text: len(amount.labelled) for amount in amounts}
    most = counts[ALL]
    facts = {
        "Dataset": dataset.config.name,
        "Training": f"{len(dataset.training)} cases, {most} with a mask; shown: "
        + ", ".join(f"{text} ({count})" for text, count in counts.items()),
        "Validation": f"{sum(case.mask is not None for case in dataset.validation)} cases",
        "Test": "; ".join(f"{titles[one.key]}: {len(one.cases)} cases" for one in cohorts),
        "Steps": f"{config.steps}, seeds 0 to {wanted.seeds - 1}" if wanted.seeds > 1 else f"{config.steps}, seed 0",
        "Plan": definition.plan_from,
        "Settings of all": ", ".join(wanted.settings) or "defaults",
        "Reference": reference,
    }
    settings = {
        "dataset": str(dataset.folder),
        "labelled": wanted.labelled,
        "variants": list(dict.fromkeys(cell.variant.text for cell in grid)),
        "seeds": wanted.seeds,
        "tolerance": wanted.tolerance,
        "train": config.model_dump(mode="json", exclude={"seed"}),
    }
    notes = _notes(dataset, cohorts, titles)
    notes += _rounded(amounts, most)
    notes += _not_named(wanted.out, grid, [key for key in definition.tests if key not in titles])
    return Study(wanted.out, grid, counts, titles, reference, facts, settings, wanted.command, notes)


def _rounded(amounts: Sequence[Amount], most: int) -> list[str]:
    """Percentages of `most` masks of which whole subjects, and at least one case, made something else."""
    notes = []
    for amount in amounts:
        share = None if amount.text == ALL else share_or_cases(amount.text, "--labelled")[0]
        shown = len(amount.labelled)
        if share is not None and not share * most / FAR_FROM_ASKED < shown < share * most * FAR_FROM_ASKED:
            notes.append(
                f"--labelled {amount.text} of {most} masks comes to {share * most:.2g}; shown: {shown} "
                f"({shown / most:.1%}), whole subjects and at least one."
            )
    return notes


def _not_named(out: Path, grid: Sequence[Cell], tests: Sequence[str]) -> list[str]:
    """What is finished in a folder and not shown, because this command does not name it."""
    named = {cell.name for cell in grid}
    runs = sorted(file.stem for file in (out / "cells").glob("*.json") if file.stem not in named)
    missing = [f"finished runs ({some(runs)})"] if runs else []
    missing += [f"test sets {', '.join(tests)}"] if tests else []
    if not missing:
        return []
    return [f"{out} also holds {' and '.join(missing)}: not shown here; the command that names them shows them again."]


def _titles(cohorts: Sequence[Cohort]) -> dict[str, str]:
    """Key of a test set -> its title; two datasets of one name are told apart by their folders."""
    titles: dict[str, str] = {}
    for one in cohorts:
        taken = one.title in titles.values()
        titles[one.key] = f"{one.title} ({one.dataset.folder})" if taken else one.title
    return titles


def _notes(dataset: Dataset, cohorts: Sequence[Cohort], titles: dict[str, str]) -> list[str]:
    notes = []
    training = {case.case for case in dataset.training}
    hidden = sum(case in training for case in reference_masks(dataset)) - len(dataset.labelled)
    if hidden:
        notes.append(
            f"{dataset.folder} hides {hidden} training masks: 'all' is the {len(dataset.labelled)} that it shows, and "
            "percentages are of these. Made without --labelled it would show all."
        )
    shared = subjects_in_two_splits(dataset.cases)
    if shared:
        notes.append(
            f"{len(shared)} subjects lie in more than one split (e.g. {next(iter(shared))}): figures may be too good."
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
                harm = (
                    "it tells little that the own test cases do not" if split == "test" else "its figures are too good"
                )
                notes.append(
                    f"{titles[one.key]}: {len(again)} of its images are {split} cases of {dataset.folder} too "
                    f"({some(again)} there): {harm}. Leave them out of what is tested on."
                )
    lost = [one for one in cohorts if one.left_out]
    return [*notes, *(f"{titles[one.key]}: {one.left_out} cases without a mask are not measured." for one in lost)]
