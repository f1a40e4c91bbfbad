"""The plan: how scans become what a network sees. Chosen from the data, written to plan.yaml, open to change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationInfo, field_validator

from ucseg.config import Strict, build, merge, read_yaml
from ucseg.data.atomic import whole_file
from ucseg.data.augment import AugmentationConfig
from ucseg.data.fingerprint import Fingerprint, take_fingerprint
from ucseg.data.manifest import Dataset
from ucseg.data.sizing import DIVISOR, batch_for, patch_for, target_spacing, token_for, whole_size
from ucseg.errors import UserError
from ucseg.types import Problem


class IntensityWindow(Strict):
    """Foreground statistics of a CT dataset, in its own units (Hounsfield)."""

    low: float
    high: float
    mean: float
    std: float = Field(gt=0)


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
    size: tuple[int, int] | None = Field(
        default=None, description="2D: every image or slice is resized to this; null: to spacing"
    )
    patch: tuple[int, ...] = Field(description=f"training patch in voxels, multiples of {DIVISOR}")
    token: tuple[int, ...] = Field(description="patches into which the pseudo-label generator cuts uncertainty maps")
    labelled_batch: int = Field(ge=1, description="labelled patches a step")
    unlabelled_batch: int = Field(ge=1, description="unlabelled patches a step")
    channels: int = Field(ge=1, description="channels of an image")
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
    augmentation: AugmentationConfig = Field(default=AugmentationConfig.model_validate({}), description="training only")

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("patch", "token", mode="before")
    @classmethod
    def _same_on_every_axis(cls, value: Any, info: ValidationInfo) -> Any:
        return (value,) * info.data.get("dims", 1) if isinstance(value, int) else value

    @field_validator("size", "patch")
    @classmethod
    def _divisible(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and any(edge < DIVISOR or edge % DIVISOR for edge in value):
            near = [max(DIVISOR, round(edge / DIVISOR) * DIVISOR) for edge in value]
            raise ValueError(f"edges must be multiples of {DIVISOR}; the nearest is {near}")
        return value

    @field_validator("size")
    @classmethod
    def _plane(cls, value: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        if value is not None and info.data.get("dims") == 3:
            raise ValueError("is for 2D networks: volumes are resampled to a spacing")
        return value

    @field_validator("patch", "token")
    @classmethod
    def _rank(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        dims = info.data.get("dims")
        if dims is not None and len(value) != dims:
            raise ValueError(f"needs {dims} numbers, one per axis of the {dims}D network")
        if min(value) < 1:
            raise ValueError("edges must be at least 1")
        return value

    @field_validator("patch")
    @classmethod
    def _inside_size(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        size = info.data.get("size")
        if size is not None and any(edge > whole for edge, whole in zip(value, size, strict=False)):
            raise ValueError(f"is larger than size = {list(size)}, to which whole images are resized")
        return value

    @field_validator("token")
    @classmethod
    def _inside_patch(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        patch = info.data.get("patch")
        if patch is not None and any(edge > whole for edge, whole in zip(value, patch, strict=False)):
            raise ValueError(f"is larger than patch = {list(patch)}")
        return value

    @field_validator("spacing", mode="before")
    @classmethod
    def _isotropic(cls, value: Any, info: ValidationInfo) -> Any:
        rank = info.data.get("dims", 1) if info.data.get("slice_axis") is None else 3
        return (value,) * rank if isinstance(value, int | float) else value

    @field_validator("spacing")
    @classmethod
    def _spacing(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        dims, slice_axis = info.data.get("dims"), info.data.get("slice_axis")
        rank = dims if slice_axis is None else 3
        if rank is not None and len(value) != rank:
            raise ValueError(f"needs {rank} numbers, one per axis of a scan")
        if not all(0 < edge < float("inf") for edge in value):
            raise ValueError("edges must be positive")
        return value

    @field_validator("slice_axis")
    @classmethod
    def _slices(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and (value not in (0, 1, 2) or info.data.get("dims") == 3):
            raise ValueError("must be 0, 1 or 2, and goes with dims = 2 on volumes only")
        return value

    @field_validator("classes")
    @classmethod
    def _classes(cls, value: dict[int, str]) -> dict[int, str]:
        if sorted(value) != list(range(len(value))) or len(value) < 2:
            raise ValueError("must be numbered 0 (background), 1, 2, ... without gaps")
        return value

    @field_validator("ct_window")
    @classmethod
    def _window(cls, value: IntensityWindow | None, info: ValidationInfo) -> IntensityWindow | None:
        if value is None and info.data.get("normalisation") == "ct":
            raise ValueError("normalisation 'ct' needs low, high, mean and std")
        return value

    @field_validator("one_component")
    @classmethod
    def _foreground(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        classes = len(info.data.get("classes", ()))
        if classes and not all(0 < one < classes for one in value):
            raise ValueError(f"holds class indices from 1 to {classes - 1}")
        return value

    def is_stack(self, dims: int, unit: str) -> bool:
        """Whether a scan is to be taken slice by slice, along its first axis, though the plan is of single slices.

        Sets that are published as slices for training and volumes for testing (ACDC) are so; neither has a spacing.
        """
        return (dims, unit, self.unit, len(self.spacing)) == (3, "px", "px", 2)

    @property
    def problem(self) -> Problem:
        """What a network must know of the data."""
        return Problem(self.dims, self.channels, len(self.classes), self.patch, self.token, self.one_component)


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as commented YAML, all or nothing."""
    lines = []
    for key, value in plan.model_dump().items():
        lines.append(f"# {Plan.model_fields[key].description}")
        flow = None if isinstance(value, tuple | dict) else False  # short lists and mappings on one line
        lines.append(yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=flow, width=110).rstrip())
    with whole_file(path, ".yaml") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_plan(path: Path) -> Plan:
    """Read plan.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or holds a value that cannot be.
    """
    return plan_from(read_yaml(path), str(path))


def plan_from(values: Mapping[str, Any], where: str) -> Plan:
    """A checked plan from plain values; `where` names their origin in errors."""
    return build(Plan, values, where)


def make_plan(
    dataset: Dataset,
    dims: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    fingerprint: Fingerprint | None = None,
) -> Plan:
    """Choose a plan from the data.

    Args:
        dataset: its training cases are looked at, labelled and unlabelled; no validation or test case is.
        dims: rank of the network; None: that of the scans. 2 on volumes: they are cut into slices.
        overrides: values of the plan to use instead of the chosen ones; what depends on them is chosen to fit.
        fingerprint: of this dataset and `dims`, if it was taken already.

    Raises:
        UserError: the data give no plan (no masks, scans of several kinds), or an override cannot be.
    """
    config, given = dataset.config, dict(overrides or {})
    dims = check_dims(given.pop("dims", dims), config.dims)
    seen = fingerprint or take_fingerprint(dataset, dims)
    values: dict[str, Any] = {"dims": dims, "unit": seen.unit, "channels": config.channels, "classes": config.classes}
    sliced = dims < config.dims

    def settle(key: str, chosen: Any) -> Any:
        values[key] = given.pop(key, chosen)
        return values[key]

    slice_axis = settle("slice_axis", seen.slice_axis if sliced else None)
    across = slice_axis if sliced and slice_axis in range(config.dims) else None
    spacing = _numbers("spacing", settle("spacing", target_spacing(seen.spacings, across)), config.dims)
    plane = [axis for axis in range(config.dims) if axis != across]
    median = np.median(seen.shapes * seen.spacings / spacing, axis=0)[plane]
    size = settle("size", whole_size(seen.shapes[:, plane]) if seen.unit == "px" and dims == 2 else None)
    whole = tuple(int(edge) for edge in _numbers("size", size, dims)) if size is not None else None
    patch = settle("patch", whole or patch_for(median))
    edges = tuple(int(edge) for edge in _numbers("patch", patch, dims))
    settle("token", token_for(edges))
    settle("labelled_batch", batch_for(edges))
    settle("unlabelled_batch", values["labelled_batch"])
    normalisation = settle("normalisation", NORMALISATION.get(config.modality, "zscore"))
    settle("nonzero", config.modality == "mri" and seen.zero_share >= 0.2)
    window = seen.ct_window if normalisation == "ct" else None
    values["ct_window"] = _laid_over(window, given.pop("ct_window", window))
    settle("one_component", seen.one_component)
    augmentation = AugmentationConfig.default(dims, config.modality).model_dump()
    values["augmentation"] = _laid_over(augmentation, given.pop("augmentation", {}))
    return plan_from({**values, **given}, "plan")  # what is left of `given` is unknown, and is said to be


NORMALISATION = {"ct": "ct", "rgb": "rgb"}
"""By modality; every other is z-scored: MRI and ultrasound have no scale of their own."""


def check_dims(dims: Any, native: int) -> Literal[2, 3]:
    """The network's rank; `native` is that of the scans."""
    if dims is None:
        dims = native
    if dims not in (2, 3) or dims > native:
        raise UserError(
            f"dims = {dims!r} cannot be: the scans are {native}D, so it is {' or '.join('23'[: native - 1])}."
        )
    return 2 if dims == 2 else 3


def _laid_over(chosen: Mapping[str, Any] | None, given: Any) -> Any:
    """Overrides of single values inside a chosen group; the plan's check refuses what is no group of values."""
    return merge(chosen or {}, given) if isinstance(given, Mapping) else given


def _numbers(key: str, value: Any, rank: int) -> tuple[float, ...]:
    """An override of one number, or one number an axis, checked before anything is derived from it."""
    numbers = [value] * rank if isinstance(value, int | float) else value
    if not isinstance(numbers, list | tuple) or len(numbers) != rank:
        example = str([32, 48, 64][:rank]).replace(" ", "")
        raise UserError(
            f"plan: setting '{key}' = {value!r}: needs one number, or {rank} (one an axis) as in {key}={example}."
        )
    if not all(isinstance(n, int | float) and 0 < n < float("inf") for n in numbers):
        raise UserError(f"plan: setting '{key}' = {value!r}: its numbers must be positive.")
    return tuple(float(n) for n in numbers)
