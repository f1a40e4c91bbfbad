"""What is a plan? How scans become the network's input: chosen from the data, kept in plan.yaml, free to change."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator

from ucseg.config import Strict, build, read_yaml
from ucseg.errors import UserError
from ucseg.machine.reading import read_text
from ucseg.machine.writing import whole_file
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.origin import Origin
from ucseg.planning.sizing import LEVELS, multiples
from ucseg.types import EFFNET, TIMM, Norm, Problem, Strides, is_encoder

MOST_EDGE = 10**5
MOST_VOXELS = 2**26
"""Of a patch: about 400 x 400 x 400."""
MOST_BATCH = 2**16
MOST_CHANNELS = 2**10
MOST_CLASSES = 256
MOST_STEPS = 10**9


class IntensityWindow(Strict):
    """Foreground statistics of a CT dataset, in its own units (Hounsfield)."""

    low: float
    high: float
    mean: float
    std: float = Field(gt=0)


def _axes(info: ValidationInfo) -> int | None:
    """How many numbers a setting has: one for each axis of the network, or of a scan; None: dims is wrong."""
    if info.field_name == "size":
        return 2
    sliced = info.field_name == "spacing" and info.data.get("slice_axis") is not None
    return 3 if sliced else info.data.get("dims")


class Plan(Strict):
    """How scans are resampled, normalised, cut and batched.

    Axes are those of the canonical orientation, the one closest to RAS+.
    The descriptions below become the comments of plan.yaml.
    """

    dims: Literal[2, 3] = Field(description="rank of the network")
    slice_axis: int | None = Field(
        default=None, description="2D network on volumes: the canonical axis across its slices"
    )
    unit: Literal["mm", "px"] = Field(description="unit of spacing; px: plain images")
    spacing: tuple[float, ...] = Field(description="voxel edges that scans are resampled to, one per axis of a scan")
    strides: Strides | None = Field(
        default=None,
        description="how much each axis shrinks from one level of the networks to the next; null: five levels, halved",
    )
    size: tuple[int, int] | None = Field(
        default=None,
        description="2D: every image or slice is resized to this; null: resampled to spacing, and patches are cut",
    )
    most_voxels: int | None = Field(
        default=None,
        ge=1,
        description="a scan that would have more on the network's grid, and more than four times its own, is refused: "
        "its header states a wrong spacing; null: no bound",
    )
    patch: tuple[int, ...] = Field(description="training patch in voxels, multiples of what the levels divide by")
    width: int = Field(
        default=16,
        ge=8,
        le=1024,
        multiple_of=8,
        description="channels of the networks' finest level; twice as many a level down",
    )
    norm: Norm = Field(
        default="batch",
        description="norms of unet, vnet_norm and swin_unet in 2D; `ucseg plan` chooses instance, as always in 3D",
    )
    dropout: bool = Field(
        default=True,
        description="whether U-Nets and encoders have the dropout of the paper; ua_mt and r_drop always have it",
    )
    encoder: str | None = Field(
        default=None,
        description="2D: the pretrained encoder on which unet, unet_strided and unet_coarse are built; null: none",
    )
    token: tuple[int, ...] = Field(description="patches into which the pseudo-label generator cuts uncertainty maps")
    labelled_batch: int = Field(ge=1, le=MOST_BATCH, description="labelled patches a step")
    unlabelled_batch: int = Field(ge=1, le=MOST_BATCH, description="unlabelled patches a step")
    channels: int = Field(ge=1, le=MOST_CHANNELS, description="channels of an image")
    classes: dict[int, str] = Field(description="0 is the background")
    normalisation: Literal["zscore", "ct", "rgb", "unit"] = Field(
        description="zscore: by each scan's mean and deviation; ct: ct_window; rgb: (x / full scale - 0.5) / 0.25; "
        "unit: each scan's range to 0..1"
    )
    nonzero: bool = Field(
        default=False, description="zscore over nonzero voxels only: the air around the body is exactly zero"
    )
    ct_window: IntensityWindow | None = Field(
        default=None, validate_default=True, description="clip to low..high, then subtract mean, divide by std"
    )
    one_component: tuple[int, ...] = Field(
        default=(), description="classes that are one connected component in nearly every mask"
    )
    always_present: tuple[int, ...] = Field(
        default=(),
        description="classes that every labelled mask holds: a predicted mask without them has probably failed",
    )
    preset: Literal["default", "published"] = Field(
        default="default", description="published: the augmentation and the norm of the paper"
    )
    augmentation: AugmentationConfig = Field(default=AugmentationConfig.model_validate({}), description="training only")
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MOST_STEPS,
        description="updates to make where `ucseg train` is given none; null: its default",
    )
    made_of: Origin | None = Field(
        default=None, description="what the plan was made of; `ucseg plan` writes it, and training compares it"
    )

    @field_validator("spacing", "size", "patch", "token", mode="before")
    @classmethod
    def _same_on_every_axis(cls, value: Any, info: ValidationInfo) -> Any:
        return (value,) * (_axes(info) or 1) if isinstance(value, int | float) else value

    @field_validator("strides", mode="before")
    @classmethod
    def _alike_on_every_axis(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple):
            return value
        dims = info.data.get("dims", 1)
        return tuple((step,) * dims if isinstance(step, int) else step for step in value)

    @field_validator("strides")
    @classmethod
    def _steps(cls, value: Strides | None, info: ValidationInfo) -> Strides | None:
        if value is None:
            return None
        dims = info.data.get("dims")
        if not 1 <= len(value) < LEVELS:
            raise ValueError(f"needs 1 to {LEVELS - 1} steps, since there are at most {LEVELS} levels")
        if any((dims is not None and len(step) != dims) or set(step) - {1, 2} or 2 not in step for step in value):
            raise ValueError("a step has a 1 or a 2 for each axis, and at least one 2")
        return value

    @field_validator("spacing", "size", "patch", "token")
    @classmethod
    def _possible(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        """Before any arithmetic with them."""
        if value is not None and any(not abs(edge) <= MOST_EDGE for edge in value):
            raise ValueError(f"numbers must be at most {MOST_EDGE}")
        if value is not None and info.field_name in ("size", "patch") and math.prod(value) > MOST_VOXELS:
            raise ValueError(f"has more than {MOST_VOXELS} voxels, which no memory holds with what training needs")
        return value

    @field_validator("encoder")
    @classmethod
    def _flat(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("dims") == 3:
            raise ValueError("is only for 2D networks")
        if value is not None and not is_encoder(value):
            raise ValueError(f"is no encoder: give {EFFNET} or {TIMM}NAME, either with :FILE, or null")
        return value

    @field_validator("size", "patch")
    @classmethod
    def _divisible(cls, value: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if value is not None and {"dims", "strides"} <= info.data.keys():  # wrong strides say nothing about an edge
            divide = multiples(info.data["strides"], info.data["dims"])
            pairs = list(zip(value, divide, strict=False))
            if any(edge < by or edge % by for edge, by in pairs):
                said = divide[0] if len(set(divide)) == 1 else list(divide)
                near = [max(by, round(edge / by) * by) for edge, by in pairs]
                raise ValueError(f"edges must be multiples of {said}; the nearest is {near}")
        return value

    @field_validator("size")
    @classmethod
    def _plane(cls, value: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        if value is not None and info.data.get("dims") == 3:
            raise ValueError("is only for 2D networks: volumes are resampled to a spacing")
        return value

    @field_validator("spacing", "patch", "token")
    @classmethod
    def _one_an_axis(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if (axes := _axes(info)) is not None and len(value) != axes:
            raise ValueError(f"needs {axes} numbers, one for each axis")
        if not all(0 < edge < float("inf") for edge in value):
            raise ValueError("numbers must be positive")
        return value

    @field_validator("patch", "token")
    @classmethod
    def _inside(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        name, why = ("size", ", to which whole images are resized") if info.field_name == "patch" else ("patch", "")
        whole = info.data.get(name)
        if whole is not None and any(edge > most for edge, most in zip(value, whole, strict=False)):
            raise ValueError(f"is larger than {name} = {list(whole)}{why}")
        return value

    @field_validator("slice_axis")
    @classmethod
    def _slices(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and (value not in (0, 1, 2) or info.data.get("dims") == 3):
            raise ValueError("must be 0, 1 or 2, and is only for dims = 2 on volumes")
        return value

    @field_validator("classes")
    @classmethod
    def _classes(cls, value: dict[int, str]) -> dict[int, str]:
        if sorted(value) != list(range(len(value))) or len(value) < 2:
            raise ValueError("must be numbered 0 (background), 1, 2, ... without gaps")
        if len(value) > MOST_CLASSES:
            raise ValueError(f"at most {MOST_CLASSES} classes")
        return value

    @field_validator("ct_window")
    @classmethod
    def _window(cls, value: IntensityWindow | None, info: ValidationInfo) -> IntensityWindow | None:
        if value is None and info.data.get("normalisation") == "ct":
            raise ValueError("normalisation 'ct' needs low, high, mean and std")
        return value

    @field_validator("one_component", "always_present")
    @classmethod
    def _foreground(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        classes = len(info.data.get("classes", ()))
        if classes and not all(0 < one < classes for one in value):
            raise ValueError(f"holds class indices from 1 to {classes - 1}")
        return value

    @field_validator("augmentation")
    @classmethod
    def _flipped(cls, value: AugmentationConfig, info: ValidationInfo) -> AugmentationConfig:
        dims = info.data.get("dims", 3)
        if not all(0 <= axis < dims for axis in value.flip_axes or ()):
            raise ValueError(f"flip_axes holds axes of the patch, from 0 to {dims - 1}")
        return value

    def is_stack(self, dims: int, unit: str) -> bool:
        """Whether a volume is cut into slices along its first axis, since the plan is for single slices.

        So are sets with slices for training and volumes for testing (ACDC); neither has a spacing.
        """
        return (dims, unit, self.unit, len(self.spacing)) == (3, "px", "px", 2)

    def takes(self, dims: int, unit: str) -> bool:
        """Whether scans of so many axes and of this unit are of the kind that the plan is for."""
        return (dims, unit) == (len(self.spacing), self.unit) or self.is_stack(dims, unit)

    @property
    def problem(self) -> Problem:
        known = (self.dims, self.channels, len(self.classes), self.patch, self.token, self.one_component)
        return Problem(*known, self.strides, self.width, self.norm, self.dropout, self.encoder)


def require_trainable(plan: Plan, where: str) -> Plan:
    """The plan, if networks can train on its patches; `where` names its origin.

    Raises:
        UserError: the networks' lowest level would have one voxel, over which no norm can be taken.
    """
    if plan.patch == multiples(plan.strides, plan.dims):
        raise UserError(
            "plan-lowest-level",
            f"{where}: patch = {list(plan.patch)} leaves one voxel on the networks' lowest level, over which no norm "
            "can be taken; double an edge, or give fewer strides.",
        )
    return plan


def write_plan(plan: Plan, path: Path, reasons: Mapping[str, str] | None = None) -> None:
    """Write a plan as commented YAML, all or nothing; with `reasons`, the reason of each value is a comment."""
    lines = []
    for key, value in plan.model_dump().items():
        lines.append(f"# {Plan.model_fields[key].description}")
        if reasons and key in reasons:
            lines += textwrap.wrap(reasons[key], 110, initial_indent="#   why: ", subsequent_indent="#   ")
        flow = None if isinstance(value, tuple | dict) else False  # short lists and mappings on one line
        lines.append(yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=flow, width=110).rstrip())
    with whole_file(path, ".yaml") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_reasons(path: Path) -> dict[str, str]:
    """The reasons that `write_plan` wrote as comments, by value; what a person changed there is taken as it stands.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise UserError("plan-unreadable", f"{path}: cannot be read ({error}); make it again.") from None
    reasons: dict[str, str] = {}
    why: list[str] = []
    for line in lines:
        if line.startswith("#   why: "):
            why = [line.removeprefix("#   why: ")]
        elif line.startswith("#   ") and why:
            why.append(line.removeprefix("#   "))
        elif line[:1].isalpha():
            if why:
                reasons[line.partition(":")[0]] = " ".join(why)
            why = []
    return reasons


def read_plan(path: Path) -> Plan:
    """Read plan.yaml; a UserError if it is missing, is not YAML, or holds a value that is not possible."""
    return plan_from(read_yaml(path), str(path))


def plan_from(values: Mapping[str, Any], where: str) -> Plan:
    """A checked plan from plain values; `where` names their origin in errors."""
    return build(Plan, values, where)
