"""Is a plan still one of this dataset? It carries what it was made of, so that no later edit goes unseen."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ucseg.config import Strict
from ucseg.dataset.manifest import CONFIG_FILE, Dataset
from ucseg.errors import UserError
from ucseg.scans.address import Address
from ucseg.scans.said import HeaderPart

if TYPE_CHECKING:
    from ucseg.planning.plan import Plan

READING = (
    *("dims", "modality", "channels", "classes", "values", "not_annotated", "mask_threshold", "fill_outlines"),
    *("geometry", "spacing"),
)
"""The values of dataset.yaml that decide what images and masks mean."""


class Origin(Strict):
    """What dataset.yaml said, and which training cases there were.

    Attributes:
        cases: digest of the training cases: their names, and the sizes of their files.
    """

    dims: int
    modality: str
    channels: int
    classes: dict[int, str]
    values: dict[int, int] = Field(default_factory=dict)
    not_annotated: list[int] = Field(default_factory=list)
    mask_threshold: float | None
    fill_outlines: bool
    geometry: HeaderPart | None = None
    spacing: list[float] | None = None
    labelled: int = Field(ge=0)
    unlabelled: int = Field(ge=0)
    cases: str


def origin_of(dataset: Dataset) -> Origin:
    """What a plan of this dataset is made of. No file is opened: where scans lie, and when they came, may differ."""
    cases = hashlib.blake2b(digest_size=8)
    for case in sorted(dataset.training, key=lambda one: one.case):
        slices = "" if case.slices is None else f" {case.slices}"
        cases.update(f"{case.case} {_size(case.image)} {_size(case.mask)}{slices}\n".encode())
    counts = {"labelled": len(dataset.labelled), "unlabelled": len(dataset.unlabelled)}
    return Origin.model_validate({**reading_of(dataset), **counts, "cases": cases.hexdigest()})


def reading_of(dataset: Dataset) -> dict[str, Any]:
    """The values of dataset.yaml that decide what images and masks mean."""
    return {key: getattr(dataset.config, key) for key in READING}


def require_fit(plan: Plan, dataset: Dataset, where: object) -> None:
    """Refuse a plan that was made when dataset.yaml said something else.

    Args:
        where: the plan's file.

    Raises:
        UserError: names each difference.
    """
    if differences := differences_from(plan, dataset):
        raise UserError(
            "plan-outdated",
            f"{where}: {', '.join(differences)}; make a new plan with 'ucseg plan {dataset.folder}', or set "
            f"{CONFIG_FILE} back.",
        )


def differences_from(plan: Plan, dataset: Dataset) -> list[str]:
    """What a plan and dataset.yaml say of the same thing, where they differ."""
    now = reading_of(dataset)
    known: dict[str, Any] = {"channels": plan.channels, "classes": plan.classes}
    if plan.made_of is not None:
        known = {key: getattr(plan.made_of, key) for key in READING} | known
    found = []
    for key, then in known.items():
        if key == "classes":
            found += _classes(then, now[key])
        elif then != now[key]:
            found.append(f"{key} was {json.dumps(then)} and is {json.dumps(now[key])} in {CONFIG_FILE}")
    return found


def cases_changed(plan: Plan, dataset: Dataset) -> str:
    """That a plan was made of other training cases than there are now, in words; else ""."""
    before, now = plan.made_of, origin_of(dataset)
    if before is None or before.cases == now.cases:
        return ""
    counts = [f"{one.labelled} labelled and {one.unlabelled} unlabelled" for one in (before, now)]
    if counts[0] == counts[1]:
        return f"it was made of other training cases than there are now, or their files have changed ({counts[1]})"
    return f"it was made of {counts[0]} training cases, and there are {counts[1]} now"


def _classes(then: dict[int, str], now: dict[int, str]) -> list[str]:
    if len(then) != len(now):
        return [f"it has {len(then)} classes, {CONFIG_FILE} {len(now)}"]
    first = next((index for index, name in now.items() if then.get(index) != name), None)
    if first is None:
        return []
    return [f"class {first} is '{then.get(first)}' in the plan and '{now[first]}' in {CONFIG_FILE}"]


def _size(address: Address | None) -> int | None:
    """Bytes of a scan's files; None of a folder of slices, and of what is not there, which reading will report."""
    try:
        return None if address is None else sum(file.stat().st_size for file in address.files if file.is_file())
    except OSError:
        return None
