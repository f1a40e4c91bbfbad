"""Which plan follows from a fingerprint? Each value is settled once, in order, together with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ucseg.config import merge
from ucseg.dataset.manifest import Dataset
from ucseg.planning.augmentation import AugmentationConfig
from ucseg.planning.budget import WIDE, WIDE_STEPS, Cost, Machine, batch_that_fits, halve_to_fit, pixels_in, steps_in
from ucseg.planning.ceiling import Ceilings, NetworkGrid, bound_of, ceilings, fine_enough
from ucseg.planning.expected import always_present, components
from ucseg.planning.fingerprint import Fingerprint, take_fingerprint
from ucseg.planning.given import check_overrides, levels_of, numbers_of, refuse_one_voxel, whole_numbers
from ucseg.planning.origin import origin_of
from ucseg.planning.plan import Plan, plan_from, require_trainable
from ucseg.planning.sizing import (
    Choice,
    batch_for,
    network_rank,
    patch_for,
    spacing_that_fits,
    strides_for,
    target_spacing,
    token_for,
    whole_size,
)

NORMALISATION = {"ct": "ct", "rgb": "rgb"}
"""By modality; every other is z-scored: the scale of MRI and ultrasound differs from scan to scan."""
ENCODER = "effnet_lite0"  # its ImageNet weights come with a package that is always installed
ZERO_SHARE = 0.2
"""MRI in which so large a part of the voxels is exactly zero is normalised without them."""


@dataclass(frozen=True)
class Planned:
    """A plan, the reason of each value by its key, and what it was chosen from.

    Attributes:
        ceilings: of the labelled training masks on the plan's grid.
        cost: of a step, where it was measured.
    """

    plan: Plan
    reasons: dict[str, str]
    seen: Fingerprint
    ceilings: Ceilings
    cost: Cost | None = None


def make_plan(
    dataset: Dataset,
    dims: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    fingerprint: Fingerprint | None = None,
) -> Plan:
    """The plan of `plan_with_reasons`, without a machine."""
    return plan_with_reasons(dataset, dims, overrides, fingerprint).plan


def plan_with_reasons(
    dataset: Dataset,
    dims: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    fingerprint: Fingerprint | None = None,
    machine: Machine | None = None,
    hours: float | None = None,
) -> Planned:
    """Choose a plan from the data.

    Args:
        dataset: only its training cases are read, labelled and unlabelled.
        dims: rank of the network; None: chosen. 2 on volumes: they are cut into slices.
        overrides: values of the plan to use instead of the chosen ones; what depends on them is chosen to fit.
        fingerprint: of this dataset, if there is one already.
        machine: measures a step, so that batch and patch fit its memory; None: they are the paper's.
        hours: time for training, from which the steps follow; needs a machine.

    Raises:
        UserError: no plan fits the data (no masks, scans of several kinds), or an override is not possible.
    """
    given = check_overrides(dataset, dims, overrides)
    planner = _Planner(dataset, fingerprint or take_fingerprint(dataset), given)
    planner.grid()
    planner.shapes()
    planner.batch(machine, hours)
    planner.intensities()
    planner.augmentation()
    planner.steps(machine, hours)
    plan = require_trainable(planner.plan(), "plan").model_copy(update={"made_of": origin_of(dataset)})
    reached = ceilings(dataset, planner.seen, NetworkGrid.of(plan))
    key = "spacing" if plan.size is None else "size"
    found = f"best Dice that masks keep on this grid (ceiling): {reached.words(plan.classes)}"
    planner.reasons[key] = f"{planner.reasons[key]}; {found}" if key in planner.reasons else found
    return Planned(plan, planner.reasons, planner.seen, reached, planner.cost)


def grid_without_overrides(dataset: Dataset, fingerprint: Fingerprint) -> NetworkGrid:
    """The grid of the plan that `make_plan` chooses."""
    planner = _Planner(dataset, fingerprint, {})
    planner.grid()
    return NetworkGrid(planner.values["spacing"], planner.values["size"], planner.across)


class _Planner:
    """Settles the values in the order in which they depend on each other.

    Attributes:
        plane: the axes of a scan that the network sees.
        edges, median, structure: of these axes: voxel edges, and the median scan and the typical structure in voxels.
    """

    def __init__(self, dataset: Dataset, seen: Fingerprint, given: dict[str, Any]) -> None:
        self.dataset, self.config, self.seen, self.given = dataset, dataset.config, seen, given
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.cost: Cost | None = None

    def settle(self, key: str, chosen: Choice[Any]) -> Any:
        """The override of `key` if there is one, else the choice; with the reason."""
        self.reasons.pop(key, None)
        if key in self.given:
            data = f" ({chosen.why})" if chosen.why else ""
            self.reasons[key] = f"set by you; without it: {_short(chosen.value)}{data}"
        elif chosen.why:
            self.reasons[key] = chosen.why
        self.values[key] = self.given.get(key, chosen.value)
        return self.values[key]

    def plan(self, **more: Any) -> Plan:
        return plan_from({**self.given, **self.values, **more}, "plan")

    def grid(self) -> None:
        """Rank, spacing and size."""
        published = self.settle("preset", Choice("default", "")) == "published"
        why = "that of the paper" if published else "unlike batch norm it does not depend on how the batch was mixed"
        self.settle("norm", Choice("batch" if published else "instance", why))
        seen, native = self.seen, self.config.dims
        rank = network_rank(native, np.array(seen.median_shape), np.array(seen.median_spacing), seen.slice_axis)
        self.dims = self.settle("dims", rank)
        for key, known in (("unit", seen.unit), ("channels", self.config.channels), ("classes", self.config.classes)):
            self.settle(key, Choice(known, ""))
        self.sliced = self.dims < native
        slices = Choice(seen.slice_axis, "the axis across the slices") if self.sliced else Choice(None, "")
        across = self.settle("slice_axis", slices)
        self.across = across if self.sliced and across in range(native) else None
        self.plane = [axis for axis in range(native) if axis != self.across]

        spacing = target_spacing(seen.spacings, self.across)
        if seen.unit == "mm":
            spacing = spacing_that_fits(spacing.value, np.array(seen.structure), self.plane) or spacing
        self.images = seen.unit == "px" and self.dims == 2
        encoder = Choice(ENCODER, "weights that know photographs learn plain images from fewer masks")
        self.settle("encoder", encoder if self.images and not published else Choice(None, ""))
        size: Choice[Any] = whole_size(seen.shapes[:, self.plane]) if self.images else Choice(None, "")
        finer, size = self._fine_enough(spacing, size)
        spacing = spacing if self.given.get("size") is not None else finer  # to a size, spacing does nothing
        edges = numbers_of("spacing", self.settle("spacing", spacing), native)
        self.edges = tuple(edges[axis] for axis in self.plane)
        self.whole = np.median(seen.shapes * seen.spacings / edges, axis=0)
        self.median = self.whole[self.plane]
        self.structure = (np.array(seen.structure) / edges)[self.plane]
        chosen = self.settle("size", size)
        self.size = None if chosen is None else whole_numbers("size", chosen, self.dims)
        if "spacing" in self.given and self.size is None:
            refuse_one_voxel(edges, self.whole, self.plane)
        bound = bound_of(seen, NetworkGrid(edges, None, self.across)) if self.size is None else Choice(None, "")
        self.settle("most_voxels", bound)

    def _fine_enough(
        self, spacing: Choice[tuple[float, ...]], size: Choice[Any]
    ) -> tuple[Choice[tuple[float, ...]], Choice[Any]]:
        """The grid as it is, if the labelled masks survive it; else a finer one, of which the network sees patches."""
        first = NetworkGrid(spacing.value, size.value, self.across)
        grid = fine_enough(self.dataset, self.seen, first, self.plane)
        if grid == first:
            return spacing, size
        there = f"{_short(first.size or first.spacing)} {'pixels' if first.size else self.seen.unit}"
        low = ceilings(self.dataset, self.seen, first).words(self.config.classes)
        if first.size is not None:
            size = Choice(None, "images are resampled to spacing instead; see there for the reason")
        return Choice(grid.spacing, f"as fine as the labelled masks need: at {there} they would keep {low}"), size

    def shapes(self, halvings: int = 0, most: Choice[float] | None = None) -> None:
        """Patch, levels and token.

        Args:
            halvings: of the patch's voxels, for a device with too little memory.
            most: pixels of a patch, for a short time.
        """
        strides = levels_of(self.given.get("strides"), self.dims)
        if self.size is not None and most is None:
            chosen = Choice(self.size, "whole images")
        elif self.size is not None:
            chosen = patch_for(np.array(self.size), (1.0, 1.0), strides=strides, most=most)
        else:
            chosen = patch_for(self.median, self.edges, self.structure, strides, most)
        if halvings:
            chosen = halve_to_fit(chosen.value, self.edges, halvings, strides)
        patch = whole_numbers("patch", self.settle("patch", chosen), self.dims)
        self.settle("strides", strides_for(patch, self.edges if self.size is None else (1.0,) * self.dims))
        self.settle("token", token_for(patch))
        self.settle("one_component", components(self.seen, self.sliced))
        self.settle("always_present", always_present(self.seen))
        self.paper = batch_for(patch)

    def batch(self, machine: Machine | None, hours: float | None) -> None:
        half = self.paper
        if machine is not None:
            wanted = Choice(self.given["labelled_batch"], "") if "labelled_batch" in self.given else half
            for halvings in range(6):
                self.shapes(halvings)
                half, cost = self._fitting(machine, wanted, hours)
                if cost.bytes <= machine.memory or "patch" in self.given or self.size is not None:
                    break
            if hours is not None and self.images and not {"size", "patch"} & self.given.keys():
                most = pixels_in(hours, int(np.prod(self.values["patch"])), cost)
                if most is not None:
                    self._smaller(most)
                    half, cost = self._fitting(machine, wanted, hours)
            self.cost = cost
        self.width(machine, hours, half.value)
        both = self.settle("labelled_batch", half)
        self.settle("unlabelled_batch", Choice(both, "as many as labelled ones, as in the paper"))

    def _smaller(self, most: Choice[float]) -> None:
        """Smaller images, for a short time; patches instead, where the labelled masks would not survive that."""
        if self.size is not None:
            size = whole_size(self.seen.shapes[:, self.plane], most.value)
            now, then = (
                ceilings(self.dataset, self.seen, NetworkGrid(self.values["spacing"], edges, self.across))
                for edges in (self.size, size.value)
            )
            if then.enough or not now.enough:
                self.size = self.settle("size", Choice(size.value, f"{size.why}, {most.why}"))
                self.shapes()
                return
        self.shapes(most=most)

    def width(self, machine: Machine | None, hours: float | None, half: int) -> None:
        """The paper's, or nnU-Net's where the time is long enough and the memory large enough."""
        chosen = Choice(16, "the paper's")
        if machine is not None and hours is not None and "width" not in self.given:
            draft = self._draft().problem
            wide = machine.step(replace(draft, width=WIDE), half)
            if wide.bytes <= machine.memory and 3600 * hours >= WIDE_STEPS * wide.seconds:
                chosen = Choice(WIDE, f"nnU-Net's, of which {WIDE_STEPS} steps fit into {hours:g} h")
                self.cost = wide
        self.settle("width", chosen)

    def _draft(self) -> Plan:
        return self.plan(labelled_batch=1, unlabelled_batch=1, normalisation="unit", augmentation={})

    def _fitting(self, machine: Machine, wanted: Choice[int], hours: float | None) -> tuple[Choice[int], Cost]:
        return batch_that_fits(machine, self._draft().problem, wanted, hours)

    def intensities(self) -> None:
        """How they are normalised."""
        modality, zero = self.config.modality, self.seen.zero_share
        why = {
            "ct": "CT values mean the same in every scan",
            "rgb": "colours have a fixed scale, which is kept",
        }.get(modality, f"the scale of {modality} intensities differs from scan to scan")
        chosen = self.settle("normalisation", Choice(NORMALISATION.get(modality, "zscore"), why))
        air = "air that was set to zero" if zero >= ZERO_SHARE else "too little to be air that was set to zero"
        why = f"{zero:.0%} of the median scan is exactly zero: {air}" if modality == "mri" else ""
        self.settle("nonzero", Choice(modality == "mri" and zero >= ZERO_SHARE, why))
        window = self.seen.ct_window if chosen == "ct" else None
        why = "percentiles 0.5 and 99.5, mean and deviation of the labelled foreground" if window else ""
        self._settle_group("ct_window", window, why)

    def augmentation(self) -> None:
        """The transforms of the preset, without those that would move one class to the place of another."""
        published = self.values["preset"] == "published"
        transforms = AugmentationConfig.published if published else AugmentationConfig.default
        chosen = transforms(self.dims, self.config.modality).model_dump()
        names, why = self.config.classes, "those of the paper" if published else "those of the paper and of nnU-Net"
        orders = [order for order in self.seen.orders() if order.axis in self.plane]
        if orders:
            ordered = {order.axis for order in orders}
            chosen["flip_axes"] = tuple(at for at, axis in enumerate(self.plane) if axis not in ordered)
            if len(chosen["flip_axes"]) < 2:
                chosen["rotate90"] = 0.0
            known = "; ".join(
                f"'{names[one.first]}' before '{names[one.second]}' along axis {one.axis} in {one.masks} masks"
                for one in orders[:3]
            )
            why += f" without flips or quarter turns that would hide where classes are ({known})"
        self._settle_group("augmentation", chosen, why)

    def steps(self, machine: Machine | None, hours: float | None) -> None:
        budget: Choice[Any] = Choice(None, "")
        if machine is not None and hours is not None and self.cost is not None:
            shape = np.ceil(self.whole)
            shape[self.plane] = self.size or shape[self.plane]
            seconds = machine.validation_seconds(self.plan(), tuple(map(int, shape)))
            budget = steps_in(hours, self.cost, seconds)
        self.settle("steps", budget)

    def _settle_group(self, key: str, chosen: Mapping[str, Any] | None, why: str) -> None:
        """A group of values, of which overrides may hold single ones."""
        given = self.given.get(key, {} if chosen is not None else None)
        self.values[key] = merge(chosen or {}, given) if isinstance(given, Mapping) else given
        if why:
            names = ", ".join(given) if isinstance(given, Mapping) else ""
            self.reasons[key] = f"{why}; set by you: {names}" if names else why


def _short(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
