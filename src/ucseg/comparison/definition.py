"""What makes the cells of a comparison comparable: written when it starts, checked against every later call."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ucseg.comparison.datasets import Amount, Cohort, digest
from ucseg.comparison.grid import amount_name
from ucseg.config import flat, merge
from ucseg.dataset.manifest import Dataset
from ucseg.errors import UserError, some
from ucseg.machine.lock import LOCK
from ucseg.machine.reading import read_json
from ucseg.machine.writing import write_json
from ucseg.planning.choosing import make_plan
from ucseg.planning.origin import reading_of
from ucseg.planning.plan import Plan, plan_from
from ucseg.training.device import choose_device, choose_precision
from ucseg.training.settings import TrainConfig

FILE = "comparison.json"
# Where and how fast cells compute, and how often they save or log, may differ between them; seeds are the grid's.
FREE = {"seed", "device", "devices", "nodes", "workers", "keep_memory", "save_every", "log_every"}
# Of the plan: a guess at how bad a prediction is, which no comparison uses. It is kept: cells resume with one plan.
FREE_IN_PLAN = {"always_present"}
OTHERS = ("dataset.yaml", "config.json", "prediction.json", "metrics.json")


@dataclass(frozen=True)
class Definition:
    """All that cells have in common, as plain values.

    `fixed` may not change: training settings, plan, how test cases are measured, content of the splits. `labelled`
    (amount -> cases) and `tests` (test set -> content) may grow. So may `starts` (variant -> content of the weights
    that it starts from) and `optimizers` (variant -> its optimiser and learning rate). `plan_from` says in words where
    the plan came from. `precision` is that of every cell: "auto" of a cell by itself would be timed for each; "" in
    comparisons of earlier versions.
    """

    fixed: dict[str, Any]
    labelled: dict[str, list[str]]
    tests: dict[str, str]
    plan_from: str
    starts: dict[str, str] = field(default_factory=dict)
    precision: str = ""
    optimizers: dict[str, str] = field(default_factory=dict)

    def save(self, out: Path) -> None:
        write_json(out / FILE, vars(self))


def earlier(out: Path) -> Definition | None:
    """The definition of the comparison in a folder; None if there is none.

    Raises:
        UserError: the folder holds something else.
    """
    if (out / FILE).is_file():
        try:
            found = TypeAdapter(Definition).validate_python(read_json(out / FILE))
        except ValidationError:
            found = None
        if found is None or not all(isinstance(found.fixed.get(key), dict) for key in ("plan", "train", "classes")):
            raise UserError(
                "comparison-damaged", f"{out / FILE}: is not a file of ucseg compare; choose another --out."
            )
        return found
    if out.exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
        what = next((f"holds a {name}" for name in OTHERS if (out / name).exists()), "is not empty")
        raise UserError("not-a-comparison", f"{out}: {what} and is not a comparison; choose another --out.")
    return None


def choose_plan(smallest: Amount, given: Mapping[str, Any], before: Definition | None) -> tuple[Plan, str]:
    """One plan for every amount, and where it came from; `given` are its values that the user sets.

    It is made with the masks of the smallest amount alone. A plan fitted to all masks, as the dataset's own may be,
    would carry knowledge of the hidden ones into the runs with few labels.
    """
    if before is not None:
        return plan_from(merge(before.fixed["plan"], given), str(FILE)), before.plan_from
    said = f"made from the training images and the {len(smallest.labelled)} masks of --labelled {smallest.text}"
    return make_plan(smallest.dataset, overrides=given), said


def define(
    dataset: Dataset,
    amounts: Sequence[Amount],
    tests: Sequence[Cohort],
    plan: Plan,
    plan_from: str,
    config: TrainConfig,
    tolerance: float,
    mirror: bool,
    starts: dict[str, str],
    optimizers: dict[str, str],
) -> Definition:
    """The definition of a comparison; reads every file of the dataset once."""
    settled = config.settled(plan.encoder is not None).model_dump(mode="json")
    train = {key: value for key, value in settled.items() if key not in FREE}
    fixed = {
        "train": train,
        "plan": json.loads(plan.model_dump_json(exclude={"made_of"})),
        "data": {key: value for key, value in reading_of(dataset).items() if key != "classes"},
        "tolerance": tolerance,
        "mirror": mirror,
        "classes": {str(index): name for index, name in dataset.config.classes.items()},
        "content of the training cases": digest(dataset.training),
        "content of the validation cases": digest(dataset.validation),
    }
    labelled = {amount.text: amount.labelled for amount in amounts}
    precision = choose_precision(config.precision, choose_device(config.device))
    tests_now = {test.key: digest(test.cases) for test in tests}
    return Definition(fixed, labelled, tests_now, plan_from, starts, precision, optimizers)


def agree(before: Definition | None, now: Definition, out: Path) -> Definition:
    """What holds from here on: `now`, and the amounts and test sets of earlier calls.

    Raises:
        UserError: a line for each thing that would make finished cells incomparable with new ones.
    """
    if before is None:
        return now
    twins = [
        UserError(
            "amount-twin",
            f"{out}: --labelled {amount} shows the same {len(cases)} cases as {known}, which has runs here; "
            f"write {known}.",
        )
        for amount, cases in now.labelled.items()
        for known, others in before.labelled.items()
        if amount != amount_name(known) and amount not in before.labelled and sorted(cases) == sorted(others)
    ]
    # A setting of training or plan that ucseg did not have when the comparison started was what its default is now.
    defaults = {
        key: value
        for key, value in TrainConfig.model_validate({}).model_dump(mode="json").items()
        if key in now.fixed["train"]
    }
    plan = json.loads(plan_from(before.fixed["plan"], str(FILE)).model_dump_json(exclude={"made_of"}))
    # Comparisons were measured without mirroring when none of them said so, and noted no data before they noted it.
    earlier_ones = {"mirror": False, "data": now.fixed["data"]}
    started = earlier_ones | before.fixed | {"train": defaults | before.fixed["train"], "plan": plan}
    old, new = flat(started), flat(now.fixed)
    for key in FREE_IN_PLAN:
        old.pop(f"plan.{key}", None)
        new.pop(f"plan.{key}", None)
    for what, then, here in (
        ("labelled cases of", before.labelled, now.labelled),
        ("content of the cases of", before.tests, now.tests),
        ("content of the first weights of", before.starts, now.starts),
        # A default that depends on a variant's networks. Where it is another one for all, one line is enough.
        ("optimizer of", before.optimizers if _one_optimizer(old, new) else {}, now.optimizers),
    ):
        old |= {f"{what} {key}": then[key] for key in here if key in then}
        new |= {f"{what} {key}": here[key] for key in here if key in then}
    wrong = [
        UserError(
            "comparison-changed",
            f"{out}: '{name.removeprefix('train.').removeprefix('data.')}' {_changed(old.get(name), new.get(name))}, "
            "so new and finished runs could not be compared. Set it back, or choose another --out.",
        )
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    if wrong or twins:
        raise UserError.together(wrong + twins)
    starts = before.starts | now.starts
    grown = (before.labelled | now.labelled, before.tests | now.tests)
    optimizers = before.optimizers | now.optimizers
    return Definition(now.fixed, *grown, before.plan_from, starts, before.precision, optimizers)


def _one_optimizer(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(old.get(name) == new.get(name) for name in ("train.optimizer", "train.lr"))


def _changed(old: Any, new: Any) -> str:
    if all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in (old, new)):  # cases
        if sorted(old) == sorted(new):
            return "is in another order than when this comparison started"
        words = ((set(old) - set(new), "lost"), (set(new) - set(old), "gained"))
        said = " and ".join(f"{word} {some(sorted(names))}" for names, word in words if names)
        return f"{said} since this comparison started"
    return f"was {_short(old)} when this comparison started and is {_short(new)} now"


def _short(value: Any) -> str:
    return textwrap.shorten(json.dumps(value, ensure_ascii=False), 80, placeholder="...")
