"""A trained model as a function from scans to masks with uncertainty, in each scan's own geometry. Without torch.

What computes the networks is a subclass: `Predictor` (torch) or `ExportedPredictor` (what `ucseg export` wrote).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, combinations

import numpy as np

from ucseg.batches.preprocess import Grid, from_network_grid, require_memory, to_network_grid
from ucseg.errors import UserError
from ucseg.folder.predictions import FAILURE_SCORE
from ucseg.inference.calibration import Calibration
from ucseg.inference.case_scores import case_scores, missing
from ucseg.inference.maps import Layout, Maps
from ucseg.inference.sliding_window import IN_MEMORY, Predict, gathered, predict_slabs
from ucseg.inference.together import Desk
from ucseg.method_parts.components import largest_components
from ucseg.planning.plan import Plan
from ucseg.scans.scan import Scan
from ucseg.types import Array

Report = Callable[[float], None]
PRECISIONS = ("auto", "bf16", "fp32")
OVERLAP, GROWTH = 0.5, 1.05
"""An axis hardly longer than the patch gets one window, since a second one would see nearly the same."""

MAPS_AT_A_TIME = 3
"""In the scan's own grid, where the most probable class is found: the best so far, the next, and the better of both."""


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
        batch: windows of the patch's size at once; by default as many as a training step holds images.
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
        self.batch = batch or plan.labelled_batch + plan.unlabelled_batch
        self.components = components
        self.mirrors = mirrors_of(plan) if mirror else [()]
        self.silent, self.calibration = silent, calibration
        self._desk: Desk | None = None

    precision: str
    """"bf16" or "fp32"."""

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

    def _ask(self, image: Array) -> tuple[Array, Layout]:
        return self.answer(image) if self._desk is None else self._desk.ask(self, image)

    def require_window(self) -> None:  # noqa: B027
        """Refuse, before the first scan, where not one window fits into memory. Without torch nothing is measured."""

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
        return self.keep_components(_label(probabilities)), probabilities

    def predict_scan(
        self, scan: Scan, *, probabilities: bool = False, members: bool = True, report: Report | None = None
    ) -> CasePrediction:
        """Predict a scan as it was read from its file; `report` is called with the done fraction of the windows.

        Raises:
            UserError: the scan's axes, unit or channels are not those of the training scans; it has NaN or infinite
                values; the network's answer is not finite; there is not enough memory.
        """
        image, grid = to_network_grid(scan, self.plan)
        require_memory(scan.source, self._least_memory(grid), grid)
        prediction = self.predict_grid(image, report)
        del image
        if not np.isfinite(prediction.uncertainty).all():
            raise UserError(
                "prediction-not-finite",
                f"{scan.source}: the network's answer is not finite; try --precision fp32, or train again.",
            )
        own = {name: member[0] for name, member in prediction.members.items()}
        fused = prediction.probabilities[0]
        label = _label(fused)
        empty = tuple(name for name, member in own.items() if label.any() and not _label(member).any())
        mask = self.keep_components(_most_probable(fused, grid))
        missed = missing(mask, self.plan.always_present)
        scores = case_scores(prediction, self.keep_components(label), missed, self.silent)
        del label
        uncertainty = from_network_grid(prediction.uncertainty[0], grid)[0].astype(np.float32, copy=False)
        asked = from_network_grid(fused, grid) if probabilities else None
        known = self.calibration
        return CasePrediction(
            mask=mask,
            uncertainty=uncertainty if known is None else known.chance_of_error(uncertainty),
            scores=scores,
            predicted_dice=known.dice.of(scores[FAILURE_SCORE]) if known and known.dice else (math.nan,) * 3,
            probabilities=asked if asked is None or known is None else known.soften(asked),
            members={name: self.keep_components(_most_probable(member, grid)) for name, member in own.items()}
            if members
            else {},
            empty_members=empty,
        )

    def _least_memory(self, grid: Grid) -> float:
        """Bytes that a scan takes from here on, members apart: known before anything is computed."""
        own, on_grid = (4.0 * math.prod(shape) for shape in (grid.source_shape, grid.shape))
        result = on_grid * (len(self.plan.classes) + 1 + (len(self.mirrors) > 1))  # with uncertainty and spread
        kept = result if result <= IN_MEMORY else 0.0  # beyond that it lies in a file
        return kept + MAPS_AT_A_TIME * own

    def keep_components(self, label: Array) -> Array:
        """S class indices with the component filter applied, if it is on."""
        return keep_largest(label, self.plan) if self.components else label

    def predict_grid(self, image: Array, report: Report | None = None) -> Maps:
        """As `predict_prepared`, but all that the networks answer: 1 x C x S probabilities, uncertainty, members."""
        axis = 0 if self.plan.is_stack(image.ndim - 1, self.plan.unit) else self.plan.slice_axis
        if axis is None:
            return self._windows(image, self.plan.patch, self._ask, report)
        # A 2D network on a volume: windows one slice thick, so that slices share batches like any other windows.
        sliced = np.moveaxis(image, 1 + axis, 1)
        prediction = self._windows(sliced, (1, *self.plan.patch), self._slices, report)

        return prediction.each(lambda values: np.moveaxis(values, 2, 2 + axis))

    def _windows(self, image: Array, patch: tuple[int, ...], predict: Predict, report: Report | None) -> Maps:
        with self.at_work() if self._desk is None else nullcontext():
            windows = {"overlap": self.overlap, "growth": self.growth}
            slabs = predict_slabs(predict, image, patch, batch=self.batch, report=report, **windows)
            return gathered(slabs, image.shape[1:])

    def _slices(self, image: Array) -> tuple[Array, Layout]:
        values, layout = self._ask(image[:, :, 0])
        return values[:, :, None], layout


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


def _most_probable(probabilities: Array, grid: Grid) -> Array:
    """argmax over the classes in the scan's own grid; one class at a time, so that only two maps are alive at once."""
    best = from_network_grid(probabilities[:1], grid)[0]
    label = _index_dtype(np.zeros(best.shape, np.uint8), len(probabilities))
    for index in range(1, len(probabilities)):
        values = from_network_grid(probabilities[index : index + 1], grid)[0]
        larger = values > best
        label[larger] = index
        best = np.where(larger, values, best)
    return label


def _label(probabilities: Array) -> Array:
    """The most probable class of C x S probabilities, S."""
    return _index_dtype(probabilities.argmax(axis=0), len(probabilities))


def _index_dtype(label: Array, classes: int) -> Array:
    return label.astype(np.uint8 if classes <= 256 else np.uint16)
