"""A trained model as a function from scans to masks with uncertainty, in each scan's own geometry. Without torch.

What computes the networks is a subclass: `Predictor` (torch) or `ExportedPredictor` (what `ucseg export` wrote).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from typing import Any

import numpy as np

from ucseg.batches.preprocess import Grid, NetworkImage, require_memory
from ucseg.errors import UserError
from ucseg.folder.predictions import FAILURE_SCORE
from ucseg.inference.calibration import Calibration
from ucseg.inference.case_scores import RunningScores, class_dtype, missing, most_probable
from ucseg.inference.maps import Layout, Maps
from ucseg.inference.own_grid import OwnMaps
from ucseg.inference.scan_memory import least_memory, likely_memory
from ucseg.inference.sliding_window import AxisWindow, gathered, predict_slabs, ring_rows, window_axes
from ucseg.inference.together import Desk
from ucseg.machine.room import in_file, leave, pieces, room
from ucseg.method_parts.components import largest_components
from ucseg.planning.plan import Plan
from ucseg.scans.scan import Scan
from ucseg.training.allocator import give_back
from ucseg.types import Array

Report = Callable[[float], None]
PRECISIONS = ("auto", "bf16", "fp32")
OVERLAP, GROWTH = 0.5, 1.05
"""An axis hardly longer than the patch gets one window, since a second one would see nearly the same."""

ON_CPU = 2**20
"""Voxels that are enough for a pass on a CPU: more of them take memory and save no time."""


@dataclass(frozen=True)
class CasePrediction:
    """The prediction of one scan, in the scan's own axes and shape S.

    Attributes:
        mask: S uint8 (uint16 beyond 256 classes), class indices.
        uncertainty: S float32 in (0, 1]: with a calibration the chance that the voxel is wrong, else as the method
            gives it.
        scores: of the case, by their columns of cases.csv (`case_scores`).
        predicted_dice: with the ends of its interval; NaN where it is not known.
        probabilities: C x S float32 summing to one, if asked for; at the temperature of the calibration.
        members: each network's own mask by name, if asked for.
        empty_members: networks whose masks are empty where the prediction is not.
    """

    mask: Array
    uncertainty: Array
    scores: dict[str, float]
    predicted_dice: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    probabilities: Array | None = None
    members: dict[str, Array] = field(default_factory=dict)
    empty_members: tuple[str, ...] = ()

    @property
    def failure_score(self) -> float:
        """The score that ranks cases."""
        return self.scores[FAILURE_SCORE]


def keep_largest(label: Array, plan: Plan) -> Array:
    """S class indices, of each class that a plan knows as one piece the largest one."""
    if plan.is_stack(label.ndim, plan.unit):  # the plan knows components of slices only
        return np.stack([largest_components(one, plan.one_component) for one in label])
    return largest_components(label, plan.one_component)


class ScanPredictor(ABC):
    """Predicts scans.

    Args:
        plan: the plan that the model was trained with.
        overlap: least overlap of neighbouring windows, as a part of their edges.
        growth: edges of windows are at most so many times those of the training patch; fewer windows compute
            less twice where they overlap. 1: windows of the patch's size.
        batch: windows of the patch's size at once; by default as many as a training step holds images, and on a CPU
            no more than `ON_CPU` voxels.
        components: keep only the largest component of the plan's `one_component` classes.
        mirror: predict each window also mirrored along every axis that training flips, and take the mean. It takes
            2 to the power of these axes as many passes.
        silent: networks that have learned nothing: they do not count in scores.
        calibration: of these weights.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        overlap: float = OVERLAP,
        growth: float = GROWTH,
        batch: int | None = None,
        components: bool = True,
        mirror: bool = True,
        silent: tuple[str, ...] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.plan = plan
        if not 0 <= overlap < 1:
            raise UserError("overlap-range", f"--overlap {overlap} is out of range; give a number from 0 to below 1.")
        if not 1 <= growth < math.inf:
            raise UserError(
                "window-growth-range", f"--window-growth {growth} is out of range; give a finite number of at least 1."
            )
        self.overlap, self.growth = overlap, growth
        self._batch = batch
        self.components = components
        self.mirrors = mirrors_of(plan) if mirror else [()]
        self.silent, self.calibration = silent, calibration
        self._desk: Desk | None = None
        self._channels = 2 + 3 * len(plan.classes)  # of two members, until an answer shows how many there are

    precision: str
    """"bf16" or "fp32"."""
    joins_scans = True
    """Whether windows of several scans may be one batch (`together.py`)."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the networks are computed: cpu, cuda, ..."""

    @property
    @abstractmethod
    def weights(self) -> str:
        """A short name for exactly these weights."""

    @property
    @abstractmethod
    def method_name(self) -> str:
        """Of the method that was trained."""

    @abstractmethod
    def answer(self, image: Array) -> tuple[Array, Layout]:
        """B x Cin x S float32 -> the mean over the mirrors, B x K x S float32, and what the K channels are."""

    @property
    def each(self) -> Sequence[ScanPredictor]:
        """The predictors of single models that this one consists of."""
        return [self]

    def at_work(self) -> AbstractContextManager[object]:
        """Entered while the windows of a scan are predicted."""
        return nullcontext()

    @contextmanager
    def answers_at(self, desk: Desk) -> Iterator[None]:
        """While it lasts, threads may predict scans: they ask at the desk, where this thread answers."""
        with self.at_work():
            self._desk = desk
            try:
                yield
            finally:
                self._desk = None

    def _work_here(self) -> AbstractContextManager[object]:
        return self.at_work() if self._desk is None else nullcontext()

    def _ask(self, image: Array) -> tuple[Array, Layout]:
        values, layout = self.answer(image) if self._desk is None else self._desk.ask(self, image)
        self._channels = values.shape[1]
        return values, layout

    def require_window(self) -> None:  # noqa: B027
        """Refuse, before the first scan, where not one window fits into memory. Without torch nothing is measured."""

    @property
    def batch(self) -> int:
        """Windows of the patch's size at once."""
        most = max(1, ON_CPU // math.prod(self.plan.patch)) if self.place == "cpu" else math.inf
        return self._batch or int(min(self.plan.labelled_batch + self.plan.unlabelled_batch, most))

    @property
    def voxels_at_once(self) -> int:
        """Of all images of a pass through the networks."""
        return self.batch * math.prod(self.plan.patch)

    def predict_prepared(self, image: Array) -> tuple[Array, Array]:
        """Predict an image that is on the network's grid already (Cin x S, normalised): a prepared validation case.

        Returns:
            S class indices, component filter applied, and C x S float32 probabilities.
        """
        prediction = self.predict_grid(image)
        probabilities = prediction.probabilities[0]
        return self.keep_components(most_probable(probabilities)), probabilities

    def predict_scan(
        self, scan: Scan, *, probabilities: bool = False, members: bool = True, report: Report | None = None
    ) -> CasePrediction:
        """Predict a scan as it was read from its file; `report` is called with the done fraction of the windows.

        Raises:
            UserError: the scan's axes, unit or channels are not those of the training scans; it has NaN or infinite
                values; the network's answer is not finite; there is not enough memory.
        """
        image = NetworkImage(scan, self.plan)
        axis = self._first_axis(image.grid.shape)
        moved = image.from_axis(axis)
        grid, classes, known = moved.grid, len(self.plan.classes), self.calibration
        require_memory(scan.source, least_memory(grid, self._windows(grid, axis), classes), image.grid)
        own = OwnMaps(grid, classes, probabilities=probabilities, members=members, calibration=known)
        if in_file(own.uncertainty):
            give_back()  # what reading took
        # Where nothing is resampled, the scan's grid is the network's, and one map serves both.
        same = grid.shape == grid.canonical_shape
        label = own.mask if same else np.zeros(image.grid.shape, class_dtype(classes))
        doubt = own.on_grid(own.uncertainty) if same else room(grid.shape)
        scores = RunningScores(doubt, self.silent)
        with self._work_here():
            for start, values, layout in self._slabs(moved, axis, report, scores.add_spread):
                maps, rows = layout.split(values[None]), slice(start, start + values.shape[1])
                if not np.isfinite(maps.uncertainty).all():
                    raise UserError(
                        "prediction-not-finite",
                        f"{scan.source}: the network's answer is not finite; try --precision fp32, or train again.",
                    )
                found = scores.add(rows, maps)
                own.add(start, maps)
                if not same:
                    np.moveaxis(label, axis, 0)[rows], doubt[rows] = found, maps.uncertainty[0, 0]
                    leave(doubt)
        if in_file(own.uncertainty):
            give_back()  # what windows took, before large files are written
        mask = self.keep_components(own.mask)
        missed = missing(mask, self.plan.always_present)
        kept = own.on_grid(mask) if same else np.moveaxis(self.keep_components(label), axis, 0)
        figures = scores.of(kept, missed)
        del label, kept
        if known is not None:
            of_rows = own.on_grid(own.uncertainty)
            for rows in pieces(of_rows.shape):
                of_rows[rows] = known.chance_of_error(of_rows[rows])
                leave(of_rows)
        return CasePrediction(
            mask=mask,
            uncertainty=own.uncertainty,
            scores=figures,
            predicted_dice=known.dice.of(figures[FAILURE_SCORE]) if known and known.dice else (math.nan,) * 3,
            probabilities=own.probabilities,
            members={name: self.keep_components(member) for name, member in own.members.items()},
            empty_members=scores.empty_members,
        )

    def _first_axis(self, shape: tuple[int, ...]) -> int:
        """The axis along which windows go on: across slices, or where they are shortest beside the scan."""
        if self.plan.is_stack(len(shape), self.plan.unit):
            return 0
        if self.plan.slice_axis is not None:
            return self.plan.slice_axis
        windows = window_axes(shape, self.plan.patch, self.overlap, self.growth)
        parts = [ring_rows(axis, size) / size for axis, size in zip(windows, shape, strict=True)]
        return parts.index(min(parts))

    def memory_of(self, grid: Grid, probabilities: bool) -> float:
        """About how many bytes a scan takes beside its voxels, with all members."""
        axis = self._first_axis(grid.shape)
        grid, counts = grid.from_axis(axis), (len(self.plan.classes), self._channels, self.voxels_at_once)
        return likely_memory(grid, self._windows(grid, axis), *counts, probabilities)

    def _windows(self, grid: Grid, axis: int) -> list[list[AxisWindow]]:
        return window_axes(grid.shape, self._patch(axis, len(grid.shape)), self.overlap, self.growth)

    def keep_components(self, label: Array) -> Array:
        """S class indices with the component filter applied, if it is on."""
        return keep_largest(label, self.plan) if self.components else label

    def predict_grid(self, image: Array, report: Report | None = None) -> Maps:
        """As `predict_prepared`, but all that the networks answer: 1 x C x S probabilities, uncertainty, members."""
        axis = self._first_axis(image.shape[1:])
        moved = np.moveaxis(image, 1 + axis, 1)
        with self._work_here():
            prediction = gathered(self._slabs(moved, axis, report), moved.shape[1:])
        return prediction.each(lambda values: np.moveaxis(values, 2, 2 + axis))

    def _slabs(
        self, image: Array | NetworkImage, axis: int, report: Report | None, spread: Report | None = None
    ) -> Iterator[tuple[int, Array, Layout]]:
        """`predict_slabs` of an image whose first axis is the network's `axis`."""
        settings: dict[str, Any] = {"overlap": self.overlap, "growth": self.growth, "report": report, "spread": spread}
        patch = self._patch(axis, len(image.shape) - 1)
        return predict_slabs(partial(self._answer, axis), image, patch, batch=self.batch, **settings)

    def _patch(self, axis: int, dims: int) -> tuple[int, ...]:
        """Of windows whose first axis is `axis` of an image: one slice thick, so that slices share batches."""
        patch = self.plan.patch
        return (1, *patch) if dims > len(patch) else (patch[axis], *patch[:axis], *patch[axis + 1 :])

    def _answer(self, axis: int, image: Array) -> tuple[Array, Layout]:
        if image.ndim - 2 > self.plan.dims:
            values, layout = self._ask(image[:, :, 0])
            return values[:, :, None], layout
        values, layout = self._ask(np.moveaxis(image, 2, 2 + axis))
        return np.moveaxis(values, 2 + axis, 2), layout


def require_precision(name: str) -> None:
    """Refuse a precision that is not known."""
    if name not in PRECISIONS:
        raise UserError("precision-name", f"--precision {name} is not known; use one of {', '.join(PRECISIONS)}.")


def mirrors_of(plan: Plan) -> list[tuple[int, ...]]:
    """Every combination of the axes that training flips, none of them first."""
    augmentation = plan.augmentation
    axes = range(plan.dims) if augmentation.flip_axes is None else augmentation.flip_axes
    free = [axis for axis in axes if axis < plan.dims] if augmentation.flip > 0 else []
    return list(chain.from_iterable(combinations(free, count) for count in range(len(free) + 1)))
