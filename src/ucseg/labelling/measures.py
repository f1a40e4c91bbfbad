"""What a model makes of a scan that has no mask: what every strategy of `ucseg label-next` ranks by."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from ucseg.batches.preprocess import to_network_grid
from ucseg.dataset.case import Case
from ucseg.errors import UserError
from ucseg.inference.case_scores import expected_loss
from ucseg.inference.disagreement import disagreement
from ucseg.inference.predictor import Predictor, tensors_of
from ucseg.inference.scan_predictor import Report
from ucseg.losses.segmentation import most_likely
from ucseg.method_parts.uncertainty import entropy
from ucseg.planning.plan import Plan
from ucseg.scans.orientation import canonical_axes
from ucseg.scans.scan import Scan
from ucseg.types import Array, Prediction

APART = 20
"""Slices of one scan are at least a part in so many of its slices apart: neighbours look alike."""
LOOK = {2: 8, 3: 4}
"""Values along each axis of a look, by rank: 64 for an image, and for a volume."""


@dataclass(frozen=True)
class Measure:
    """Figures of a case, or of one of its slices, on the network's grid.

    Attributes:
        slice: index along the axis of the slices, in the scan's own order; None: the whole case.
        entropy: mean over all voxels, 0 to 1.
        disagreement: 1 - Dice between the networks, 0 (they agree) to 1; NaN if fewer than two have learned.
        failure_score: 1 - the Dice to expect by the probabilities, as in cases.csv of `ucseg predict`.
        class_entropy: for each foreground class, the mean over all voxels of its probability times the entropy.
        foreground: voxels of each foreground class in the model's mask.
        look: the image and the probabilities of the foreground classes, both averaged to 64 values.
        axis: across the slices, of the scan's own; None: the whole case.
    """

    case: str
    slice: int | None
    entropy: float
    disagreement: float
    failure_score: float
    class_entropy: tuple[float, ...]
    foreground: tuple[int, ...]
    look: tuple[float, ...]
    axis: int | None = None


def measure(
    case: str,
    prediction: Prediction,
    image: Array,
    always_present: Sequence[int] = (),
    silent: Collection[str] = (),
) -> Measure:
    """The figures of a whole case.

    Args:
        prediction: of one image: 1 x C x S.
        image: Cin x S, as the network sees it.
        always_present: classes that every labelled training mask holds: without them the case counts as doubtful.
        silent: networks that have learned nothing: they do not count in the disagreement.
    """
    return _measure(case, None, prediction, torch.from_numpy(np.asarray(image, np.float32)), always_present, silent)


def measure_slices(
    case: str, prediction: Prediction, image: Array, axis: int, silent: Collection[str] = ()
) -> list[Measure]:
    """The figures of each slice across `axis` of S, in order; arguments as of `measure`."""
    tensor = torch.from_numpy(np.asarray(image, np.float32))
    found = []
    for number in range(tensor.shape[1 + axis]):
        of_slice = Prediction(
            prediction.probabilities.select(2 + axis, number),
            prediction.uncertainty.select(2 + axis, number),
            {name: member.select(2 + axis, number) for name, member in prediction.members.items()},
        )
        found.append(_measure(case, number, of_slice, tensor.select(1 + axis, number), (), silent))
    return found


def _measure(
    case: str,
    number: int | None,
    prediction: Prediction,
    image: torch.Tensor,
    always_present: Sequence[int],
    silent: Collection[str],
) -> Measure:
    probabilities = prediction.probabilities.float()
    classes = probabilities.shape[1]
    doubt = entropy(probabilities) / math.log(classes)  # 1 x 1 x S
    mask = most_likely(probabilities)[0]
    counts = torch.bincount(mask.flatten(), minlength=classes).tolist()
    members = [most_likely(one)[0].numpy() for name, one in prediction.members.items() if name not in silent]
    missed = [value for value in always_present if not counts[value]]
    by_class = (probabilities * doubt).flatten(2).mean(dim=2, dtype=torch.float64)[0].tolist()
    return Measure(
        case,
        number,
        float(doubt.mean(dtype=torch.float64)),
        disagreement(members, classes, missed),
        expected_loss(probabilities[0].numpy(), mask.numpy(), missed),
        tuple(by_class[1:]),
        tuple(counts[1:]),
        _look(torch.cat([image[None], probabilities[:, 1:]], dim=1)),
    )


def _look(maps: torch.Tensor) -> tuple[float, ...]:
    edge = LOOK[maps.ndim - 2]
    pool = F.adaptive_avg_pool2d if maps.ndim == 4 else F.adaptive_avg_pool3d
    return tuple(pool(maps, edge).flatten().tolist())


def measure_scan(
    predictor: Predictor, case: str, scan: Scan, *, slices: bool = False, report: Report | None = None
) -> list[Measure]:
    """The figures of a scan as it was read: one, or one for each slice across its slice axis, in the scan's own order.

    Raises:
        UserError: the model cannot predict this scan; its answer is not finite; or it has no slices to choose from.
    """
    image, grid = to_network_grid(scan, predictor.plan)
    prediction = tensors_of(predictor.predict_grid(image, report))
    if not bool(torch.isfinite(prediction.probabilities).all()):
        raise UserError(
            "look-not-finite",
            f"{scan.source}: the network's answer is not finite; try --precision fp32, or train again.",
        )
    if not slices:
        return [measure(case, prediction, image, predictor.plan.always_present, predictor.silent)]
    axis = slice_axis(scan, predictor.plan)
    on_grid = grid.order.index(axis)
    found = measure_slices(case, prediction, image, on_grid, predictor.silent)
    own, there = grid.source_shape[axis], grid.shape[on_grid]
    places = [(2 * number + 1) * there // (2 * own) for number in range(own)]  # the middle of each slice of the scan
    if grid.flips[on_grid]:
        places = places[::-1]
    return [replace(found[place], slice=number, axis=axis) for number, place in enumerate(places)]


def not_labelled(case: Case, found: list[Measure]) -> list[Measure]:
    """The slices of a case that are worth a label: those that have one, and their neighbours, are left out."""
    if case.slices is None:
        return found
    near = len(found) // APART
    taken = {number + beside for number in case.slices.numbers for beside in range(-near, near + 1)}
    return [one for one in found if one.slice not in taken and one.axis == case.slices.axis]


def slice_axis(scan: Scan, plan: Plan) -> int:
    """The scan's own axis across its slices: that of the plan, else its coarsest; of equal ones that from foot to head.

    Raises:
        UserError: it is no volume.
    """
    if scan.geometry.dims != 3:
        raise UserError("slices-of-image", f"{scan.source}: this is a single image; leave out --slices.")
    if plan.is_stack(scan.geometry.dims, scan.geometry.unit):
        return 0
    order, _ = canonical_axes(scan.geometry, scan.source)
    if plan.slice_axis is not None:
        return order[plan.slice_axis]
    edges = [round(scan.geometry.spacing[axis], 3) for axis in order]
    return order[max(range(3), key=lambda axis: (edges[axis], axis))]
