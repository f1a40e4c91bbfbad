"""From the user's options to a comparison that can start, or all that is wrong with them at once. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucseg.comparison import notes as about
from ucseg.comparison.datasets import Amount, Cohort, check_fit, labelled_amounts, other_cohort, own_cohort
from ucseg.comparison.definition import Definition, agree, choose_plan, define, earlier
from ucseg.comparison.grid import ALL, Cell, Variant, cells, check_common, check_settings, of_variant, parse_variants
from ucseg.comparison.report import Study
from ucseg.dataset.manifest import Dataset, load_dataset, reference_masks
from ucseg.errors import UserError
from ucseg.evaluation.metrics import check_tolerance
from ucseg.methods import build_method, settings_of
from ucseg.networks import LIGHT, OF_LITTLE_WORK
from ucseg.networks.pretrained import load_pretrained
from ucseg.planning.plan import Plan
from ucseg.training.device import choose_device
from ucseg.training.settings import TrainConfig, sort_settings
from ucseg.training.start import Start, earlier_networks, find_start, plan_going_on, start_from

MOST_SEEDS = 1000
DEFAULT_REFERENCE = "uc_seg"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; lists are split into single words."""

    dataset: Path
    out: Path
    labelled: list[str]
    variants: list[str]
    seeds: int
    steps: int | None
    hours: float | None
    reference: str | None
    settings: list[str]
    test_on: list[Path]
    tolerance: float
    mirror: bool
    command: str

    @property
    def options(self) -> dict[str, Any]:
        """Settings of training that are not given with --set."""
        given = {"steps": self.steps, "hours": self.hours, "clock": None if self.hours is None else "work"}
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class Setup:
    """A comparison that can start; `common` are settings of training for every cell."""

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
    problems: list[UserError] = []

    def tried(work: Callable[..., Any], *words: Any) -> Any:
        try:
            return work(*words)
        except UserError as error:
            problems.append(error)
            return None

    before = tried(earlier, wanted.out)
    dataset: Dataset | None = tried(load_dataset, wanted.dataset)
    config: TrainConfig | None = tried(check_common, wanted.settings, wanted.options)
    if config is not None:
        tried(choose_device, config.device)
    variants, wrong = parse_variants(wanted.variants, alone=wanted.hours is not None)
    problems += wrong
    if not 1 <= wanted.seeds <= MOST_SEEDS:
        problems.append(UserError("no-seed", f"--seeds {wanted.seeds}: give at least 1, and at most {MOST_SEEDS}."))
    if not wanted.labelled:
        problems.append(UserError("no-amount", "--labelled: give the labelled amounts to compare at, e.g. 5%,10%."))
    tried(check_tolerance, wanted.tolerance)
    reference = tried(_reference, wanted, variants)
    amounts: list[Amount] = []
    cohorts: list[Cohort] = []
    if dataset is not None:
        amounts, wrong = labelled_amounts(dataset, wanted.labelled)
        problems += wrong + _unusable(dataset)
        cohorts = [found for path in wanted.test_on if (found := tried(_other, dataset, path))]
    if problems or dataset is None or config is None:
        raise UserError.together(list({str(one): one for one in problems}.values()))

    cohorts = [own_cohort(dataset), *cohorts]
    given = sort_settings(wanted.settings, {})["plan"]
    plan, plan_from = choose_plan(amounts[0], given, before)
    built = {variant.text: tried(_build, variant, wanted, plan) for variant in variants}
    if problems:
        raise UserError.together(problems)
    settled = {one.text: _settled(one, wanted, built[one.text].encoder) for one in variants}
    if problems := _twins(variants, settled, plan.dims):
        raise UserError.together(problems)
    started = {text: one.start for text, one in built.items() if one.start is not None}
    digests = {text: start.digest for text, start in started.items()}
    how = (wanted.tolerance, wanted.mirror)
    optimizers = {text: f"{train.optimizer}, lr {train.lr:g}" for text, train in settled.items()}
    now = define(dataset, amounts, cohorts, plan, plan_from, config, *how, digests, optimizers)
    definition = agree(before, now, wanted.out)
    asked = [amount.text for amount in amounts if amount.text != ALL or ALL in wanted.labelled]
    grid = cells(variants, asked, wanted.seeds)
    study = _study(wanted, dataset, amounts, cohorts, grid, reference, config, definition)
    study.notes.extend(about.masks_seen(dataset, amounts, started))
    study.notes.extend(about.plan_not_used(dataset, plan) + about.plan_saw_more(before, amounts[0]))
    study.notes.extend(about.sgd_follows(config, {text: one.encoder for text, one in built.items()}))
    common = [one for one in wanted.settings if one.partition("=")[0].strip().split(".")[0] != "plan"]
    return Setup(study, dataset, plan, config, definition, {one.text: one for one in amounts}, common)


def _reference(wanted: Wanted, variants: Sequence[Variant]) -> str:
    named = [variant.text for variant in variants]
    if wanted.reference is None:
        first = next((variant.text for variant in variants if variant.text in wanted.variants), named[0])
        return DEFAULT_REFERENCE if DEFAULT_REFERENCE in named else first
    variant = wanted.reference.partition("/")[0]
    if wanted.reference not in named and not any(one.text == variant and one.members for one in variants):
        raise UserError(
            "reference-unknown", f"--reference {wanted.reference} is not compared; choose one of {', '.join(named)}."
        )
    return wanted.reference


def _other(dataset: Dataset, path: Path) -> Cohort:
    if path.resolve() == dataset.folder.resolve():
        raise UserError("test-set-own", f"--test-on {path}: the dataset's test cases are always used; leave it out.")
    found = other_cohort(path)
    check_fit(dataset, found)
    return found


def _unusable(dataset: Dataset) -> list[UserError]:
    masks = reference_masks(dataset)
    found = []
    if not any(case.case in masks for case in dataset.test):
        said = "has no test case with a mask to measure on; make it with ucseg init --test."
        found.append(UserError("no-test-mask", f"{dataset.folder}: {said}"))
    if not any(case.mask is not None for case in dataset.validation):
        said = "has no validation case with a mask to choose weights by; make it with ucseg init --validation."
        found.append(UserError("no-validation-mask", f"{dataset.folder}: {said}"))
    return found


def _settled(variant: Variant, wanted: Wanted, encoder: bool) -> TrainConfig:
    """What the variant trains with. `encoder`: a network has one for photographs."""
    return check_settings(variant, wanted.settings, wanted.options).settled(encoder)


def _twins(variants: Sequence[Variant], settled: Mapping[str, TrainConfig], dims: int) -> list[UserError]:
    """Variants with the same settings: hours of training that would show nothing.

    Args:
        settled: what each variant trains with.
        dims: of the networks.
    """
    first: dict[tuple[str, str, str], str] = {}
    problems = []
    for variant in variants:
        method = settings_of(variant.method, sort_settings(list(variant.all_settings), {})["method"])
        own = repr(method).replace(repr(LIGHT), repr(OF_LITTLE_WORK[dims]))
        twin = first.setdefault((variant.method, repr(settled[variant.text]), own), variant.text)
        if twin != variant.text:
            said = f"variant '{variant.text}': has the settings of '{twin}' and would train the same; leave one out."
            problems.append(UserError("variants-same", said))
    return problems


@dataclass(frozen=True)
class _Built:
    """What the networks of a variant say: the weights that it starts from, and `Method.has_encoder`."""

    start: Start | None
    encoder: bool


def _build(variant: Variant, wanted: Wanted, plan: Plan) -> _Built:
    """Refuse settings that only the plan or a network can refuse."""
    try:
        init = check_settings(variant, wanted.settings, wanted.options).init
        overrides = sort_settings(list(variant.all_settings), {})["method"]
        if init is not None:  # as `train` does
            plan = plan_going_on(plan, Path(init), variant.method, overrides)
            overrides = {**(earlier_networks(Path(init), variant.method) or {}), **overrides}
        method = build_method(variant.method, overrides, plan.problem)
        if variant.settings or init is not None:
            load_pretrained(method)
        if init is None:
            return _Built(None, method.has_encoder)
        start = find_start(Path(init))
        start_from(method, start)
    except UserError as error:
        raise of_variant(variant.text, error) from None
    return _Built(start, method.has_encoder)


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
        "Steps": f"{_steps(config)}, seeds 0 to {wanted.seeds - 1}"
        if wanted.seeds > 1
        else f"{_steps(config)}, seed 0",
        "Plan": definition.plan_from,
        "Prediction": "mirrored along the axes that training flips" if wanted.mirror else "not mirrored",
        "Settings of all": ", ".join(wanted.settings) or "defaults",
        "Reference": reference,
    }
    settings = {
        "dataset": str(dataset.folder),
        "labelled": wanted.labelled,
        "variants": list(dict.fromkeys(cell.variant.text for cell in grid)),
        "seeds": wanted.seeds,
        "tolerance": wanted.tolerance,
        "mirror": wanted.mirror,
        "train": config.model_dump(mode="json", exclude={"seed"}),
    }
    notes = about.of_the_data(dataset, cohorts, titles)
    notes += about.rounded(amounts, most)
    notes += about.not_named(wanted.out, grid, [key for key in definition.tests if key not in titles])
    return Study(wanted.out, grid, counts, titles, reference, facts, settings, wanted.command, notes)


def _steps(config: TrainConfig) -> str:
    if config.hours is None:
        return str(config.steps)
    return f"as many as fit into {config.hours:g} h (of work on a CPU; that pass on a GPU)"


def _titles(cohorts: Sequence[Cohort]) -> dict[str, str]:
    """Key of a test set -> its title; of two datasets with one name, the second gets its folder."""
    titles: dict[str, str] = {}
    for one in cohorts:
        taken = one.title in titles.values()
        titles[one.key] = f"{one.title} ({one.dataset.folder})" if taken else one.title
    return titles
