"""What can be reached on a grid, and which grid is fine enough for the labelled masks?

Each labelled training mask is taken to the grid as `prepare` does, and back as `predict` does. Its Dice with what comes
back is its ceiling: what a network has that is right, and sure, in every voxel of the grid. Probabilities between 0 and
1 can place a border between voxels, so a network may come out a bit higher, but it never sees such a label.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from ucseg.dataset.manifest import Dataset
from ucseg.planning.facts import Header
from ucseg.planning.fingerprint import Fingerprint
from ucseg.planning.measuring import measure_round_trips
from ucseg.planning.plan import Plan
from ucseg.planning.sizing import ENLARGED, Choice, most_voxels, network_shape, rounded
from ucseg.types import Array

LEAST_CEILING = 0.97
"""A class whose masks come back with a smaller mean Dice needs a finer grid."""
USUAL_VOXELS = 256**3
MOST_GROWTH = 4
"""On a finer grid a scan has at most USUAL_VOXELS, or so many times those of the largest training scan: one fine scan
among coarse ones would fill the memory otherwise."""


@dataclass(frozen=True)
class NetworkGrid:
    """The values of a plan that decide the network's grid; see there."""

    spacing: tuple[float, ...]
    size: tuple[int, ...] | None
    slice_axis: int | None

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls(plan.spacing, plan.size, plan.slice_axis)

    def shape(self, scan: Header) -> tuple[int, ...]:
        """S of a scan on this grid, in canonical axes."""
        return network_shape(scan.shape, scan.spacing, self.spacing, self.size, self.slice_axis)


@dataclass(frozen=True)
class Ceilings:
    """Dice by case and class, of the classes that each mask holds; 0: the mask loses the class."""

    dice: Mapping[str, Mapping[int, float]]

    def by_class(self) -> dict[int, float]:
        """The mean over the masks that hold a class."""
        values = sorted({value for one in self.dice.values() for value in one})
        return {value: float(np.mean([d[value] for d in self.dice.values() if value in d])) for value in values}

    def lost(self) -> list[tuple[str, int]]:
        """Cases whose mask loses a class, each with the class."""
        return [(case, value) for case, one in self.dice.items() for value, dice in one.items() if dice == 0]

    @property
    def worst(self) -> tuple[int, float]:
        """By which grids are compared: fewer lost classes first, then the lowest ceiling of a class."""
        return -len(self.lost()), min(self.by_class().values(), default=1.0)

    @property
    def enough(self) -> bool:
        lost, lowest = self.worst
        return lost == 0 and lowest >= LEAST_CEILING

    def words(self, classes: Mapping[int, str]) -> str:
        """ "lesion .60 (lost in 2 of 9 masks), organ .99" """
        lost = Counter(value for _, value in self.lost())
        parts = []
        for value, dice in self.by_class().items():
            masks = sum(value in one for one in self.dice.values())
            gone = f" (lost in {lost[value]} of {masks} masks)" if lost[value] else ""
            parts.append(f"{classes[value]} {shown(dice)}{gone}")
        return ", ".join(parts)

    def short(self) -> set[str]:
        """Cases that keep their grid from being enough."""
        low = {value for value, dice in self.by_class().items() if dice < LEAST_CEILING}
        return {
            case
            for case, one in self.dice.items()
            if any(dice == 0 or (dice < LEAST_CEILING and value in low) for value, dice in one.items())
        }


def bound_of(seen: Fingerprint, grid: NetworkGrid) -> Choice[int]:
    """The most voxels of a scan on the network's grid: see `most_voxels`."""
    heads = seen.headers.values()
    return most_voxels([math.prod(head.shape) for head in heads], [math.prod(grid.shape(head)) for head in heads])


def ceilings(dataset: Dataset, seen: Fingerprint, grid: NetworkGrid) -> Ceilings:
    """Measure the ceilings of the labelled training masks. Masks that the grid leaves as they are need no reading.

    Masks that a wrong spacing would make huge are left out, as they are in training.
    """
    own = {name: math.prod(head.shape) for name, head in seen.headers.items()}
    bound = bound_of(seen, grid).value
    every = {name: grid.shape(seen.headers[name]) for name in seen.labelled}
    shapes = {name: shape for name, shape in every.items() if math.prod(shape) <= max(bound, ENLARGED * own[name])}
    moved = {name: shape for name, shape in shapes.items() if shape != seen.headers[name].shape}
    found = measure_round_trips(dataset, moved) if moved else {}
    kept = {name: dict.fromkeys(seen.scans[name].classes or {}, 1.0) for name in shapes if name not in moved}
    return Ceilings({name: found[name] if name in found else kept[name] for name in shapes})


def fine_enough(dataset: Dataset, seen: Fingerprint, first: NetworkGrid, plane: list[int]) -> NetworkGrid:
    """The coarsest grid, not coarser than `first`, that is enough.

    The finest one tried has the shortest voxel edges of the scans whose masks fall short. Between both are steps of at
    most twice as many voxels, as far as memory allows (MOST_GROWTH); they are tried by halving. If even the finest is
    not enough, the better of both ends.

    Args:
        plane: the axes that the network sees; others stay.
    """
    given = ceilings(dataset, seen, first)
    if given.enough:
        return first
    edges = np.array([seen.headers[name].spacing for name in sorted(given.short())]).min(axis=0)
    coarse = np.array(first.spacing, float)
    fine = coarse.copy()
    if first.size is None:
        fine[plane] = np.minimum(coarse, edges)[plane]
    else:  # images of all sizes and aspects became one size: now one spacing for all
        coarse[plane] = np.sqrt(np.median(seen.shapes[:, plane].prod(axis=1)) / np.prod(first.size))
        fine[plane] = edges[plane]
    steps = [NetworkGrid(step, None, first.slice_axis) for step in _steps(coarse, fine)]
    most = max(USUAL_VOXELS, MOST_GROWTH * seen.shapes.prod(axis=1).max())
    rungs = [grid for grid in steps if grid != first and _largest(grid, seen) <= most]
    if not rungs:
        return first
    finest = ceilings(dataset, seen, rungs[-1])
    if not finest.enough:
        return rungs[-1] if finest.worst > given.worst else first
    low, high = 0, len(rungs) - 1  # the one at `high` is enough
    while low < high:
        middle = (low + high) // 2
        if ceilings(dataset, seen, rungs[middle]).enough:
            high = middle
        else:
            low = middle + 1
    return rungs[high]


def shown(dice: float) -> str:
    """Three digits, rounded down: what is too little does not look like enough."""
    return f"{np.floor(dice * 1000) / 1000:.3f}"


def _largest(grid: NetworkGrid, seen: Fingerprint) -> float:
    """Voxels of the largest training scan on a grid."""
    return max(float(np.prod(grid.shape(head))) for head in seen.headers.values())


def _steps(coarse: Array, fine: Array) -> list[tuple[float, ...]]:
    """Spacings from `coarse`, which is left out, to `fine`."""
    count = max(1, int(np.ceil(np.log2(np.prod(coarse / fine)) - 1e-9)))
    return [tuple(map(rounded, coarse * (fine / coarse) ** (step / count))) for step in range(1, count + 1)]
