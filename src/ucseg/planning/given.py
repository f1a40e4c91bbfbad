"""Which values of a plan did the user give? Checked before other values follow from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ucseg.config import check_keys
from ucseg.dataset.manifest import Dataset
from ucseg.errors import UserError
from ucseg.planning.plan import Plan
from ucseg.types import Array, Strides


def check_overrides(dataset: Dataset, dims: int | None, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """`overrides` with the rank, checked as far as possible without reading a scan.

    A UserError if a plan has no such key, or the rank does not fit the scans.
    """
    given = {key: _as_printed(value) for key, value in (overrides or {}).items()}
    dims = given.pop("dims", dims)
    if dims is not None:
        given["dims"] = rank_of(dims, dataset.config.dims)
    check_keys(Plan, given, "plan")
    if "made_of" in given:
        raise UserError("plan-made-of", "plan: 'made_of' says what the plan was made of; it cannot be set.")
    return given


def _as_printed(value: Any) -> Any:
    """A value as plans print it: "64 x 96" is [64, 96]."""
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)?( ?x ?\d+(\.\d+)?)+", value):
        return value
    return [float(edge) if "." in edge else int(edge) for edge in value.split("x")]


def rank_of(dims: Any, native: int) -> Literal[2, 3]:
    """The network's rank; `native` is that of the scans."""
    if dims not in (2, 3) or dims > native:
        possible = " or ".join("23"[: native - 1])
        raise UserError("plan-rank", f"dims = {dims!r} is not possible: the scans are {native}D; use {possible}.")
    return 2 if dims == 2 else 3


def levels_of(given: Any, dims: int) -> Strides | None:
    """Levels as rows; None for what the plan's check will refuse."""
    rows = given if isinstance(given, list | tuple) else ()
    rows = tuple((step,) * dims if isinstance(step, int) else step for step in rows)
    right = all(isinstance(row, list | tuple) and len(row) == dims and {*row} <= {1, 2} for row in rows)
    return rows if rows and right else None


def whole_numbers(key: str, value: Any, rank: int) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers_of(key, value, rank))


def numbers_of(key: str, value: Any, rank: int) -> tuple[float, ...]:
    """An override of one number, or one number for each axis, checked before other values follow from it."""
    numbers = [value] * rank if isinstance(value, int | float) else value
    if not isinstance(numbers, list | tuple) or len(numbers) != rank:
        example = str([32, 48, 64][:rank]).replace(" ", "")
        needed = f"needs one number, or {rank} (one for each axis) as in {key}={example}"
        raise UserError("plan-numbers", f"plan: setting '{key}' = {value!r}: {needed}.")
    if not all(isinstance(n, int | float) and 0 < n < float("inf") for n in numbers):
        raise UserError("plan-not-positive", f"plan: setting '{key}' = {value!r}: its numbers must be positive.")
    return tuple(float(n) for n in numbers)


def refuse_one_voxel(spacing: tuple[float, ...], median: Array, plane: Sequence[int]) -> None:
    """A UserError if a given spacing leaves one voxel of the median scan along an axis that the network sees.

    Args:
        median: voxels of the median scan at this spacing, along each axis.
    """
    for axis in plane:
        if round(float(median[axis])) < 2:
            raise UserError(
                "plan-one-voxel",
                f"plan: setting 'spacing' = {list(spacing)}: it leaves one voxel of the median scan along axis {axis}; "
                "give a smaller number there.",
            )
