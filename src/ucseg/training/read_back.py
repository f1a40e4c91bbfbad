"""What a run's own files may say when they are read back: a copy, a disk or a person may have changed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from ucseg.config import Strict
from ucseg.planning.plan import MOST_STEPS

NOTHING_LEARNED = 0.01
"""A Dice below it, on validation cases, means that nothing was found."""


class _Known(Strict):
    """Keys that are read are checked; later versions may have others."""

    model_config = ConfigDict(extra="allow")


class MethodRecord(_Known):
    """A method's name and its settings, which its own model checks."""

    name: str | None = None
    config: dict[str, Any] | None = None


class CaseNames(_Known):
    """What was trained and validated on, by name."""

    labelled: list[str] = Field(default_factory=list)


class RunConfig(_Known):
    """config.json of a run. Settings, plan and problem have other models."""

    verb: Literal["train", "pretrain"] = "train"
    dataset: str = "DATASET"
    method: MethodRecord = MethodRecord.model_validate({})
    train: dict[str, Any] = Field(default_factory=dict)
    plan: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    cases: CaseNames = CaseNames.model_validate({})
    init: dict[str, str] | None = None


class Reached(_Known):
    """How far weights are, in last.json and the like."""

    step: int = Field(0, ge=0, le=MOST_STEPS)
    of: int = Field(0, ge=0, le=MOST_STEPS)
    weights: str = "last"


class Measured(Strict):
    """A validation: its step, whose weights it is of, and figures by name."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=True)
    __pydantic_extra__: dict[str, float]

    step: int = Field(ge=0, le=MOST_STEPS)
    weights: str = "last"


class StateNotes(_Known):
    """What a saved state notes beside its tensors."""

    seconds: float = Field(0.0, ge=0)
    work: float = Field(0.0, ge=0)
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    counted: tuple[int, float] | None = None
    precision: Literal["bf16", "fp32"] | None = None
    last: Measured | None = None
    best: Measured | None = None
    terms: list[str] = Field(default_factory=list)
    silent: list[str] = Field(default_factory=list)


class StateHeader(Strict):
    """The header of a saved state."""

    step: int = Field(ge=0, le=MOST_STEPS)
    notes: StateNotes


class Starts(_Known):
    """environment.json: one record a start."""

    starts: list[dict[str, Any]] = Field(default_factory=list)


def networks_not_learned(validated: Mapping[str, Any]) -> tuple[str, ...]:
    """Networks that found nothing of the validation cases, though the method did.

    Args:
        validated: figures by name: "dice", and "dice_NAME" of each network (and of each class, "dice_class_NAME").
    """
    figures = {key: value for key, value in validated.items() if isinstance(value, int | float)}
    if not figures.get("dice", 0.0) >= NOTHING_LEARNED:
        return ()
    own = {key.removeprefix("dice_"): value for key, value in figures.items() if key.startswith("dice_")}
    return tuple(name for name, value in own.items() if value < NOTHING_LEARNED and not name.startswith("class_"))
