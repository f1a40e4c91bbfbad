"""What is measured of a prediction, beside figures worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ucseg.inference.maps import Maps
from ucseg.labelling.measures import Measure, measure, measure_scan, slice_axis
from ucseg.planning.plan import Plan
from ucseg.scans.scan import Geometry, Scan
from ucseg.types import Prediction


def prediction(foreground: Tensor, **members: Tensor) -> Prediction:
    """Of S probabilities of the one foreground class."""

    def both(values: Tensor) -> Tensor:
        return torch.stack([1 - values, values])[None]

    return Prediction(both(foreground), foreground[None, None], {name: both(one) for name, one in members.items()})


def test_the_figures_of_an_image() -> None:
    foreground = torch.zeros(16, 16)
    foreground[:8] = 0.5
    foreground[8:12] = 1.0
    one, other = (foreground == 1).float(), torch.zeros(16, 16)
    other[8:10] = 1.0
    found = measure("a", prediction(foreground, one=one, other=other), np.zeros((1, 16, 16), np.float32))
    assert (found.case, found.slice) == ("a", None)
    assert found.entropy == pytest.approx(0.5)  # a coin in one half of the image
    assert found.class_entropy == pytest.approx((0.25,))
    assert found.foreground == (64,)
    assert found.disagreement == pytest.approx(1 - 2 * 32 / (64 + 32))
    alone = measure("a", prediction(foreground, one=one, other=other), np.zeros((1, 16, 16)), silent=["other"])
    assert math.isnan(alone.disagreement), "a network that has learned nothing disagrees with none"
    assert alone.failure_score == found.failure_score == pytest.approx(1 - 2 * 64 / (64 + 128))
    assert len(found.look) == 2 * 64
    assert found.look[64:72] == pytest.approx([0.5] * 8)


def test_a_class_that_should_be_there_and_one_network() -> None:
    empty = torch.zeros(8, 8)
    found = measure("a", prediction(empty, one=empty, other=empty), np.zeros((1, 8, 8)), always_present=[1])
    assert found.disagreement == 1
    assert math.isnan(measure("a", prediction(empty), np.zeros((1, 8, 8))).disagreement)


class _Bright:
    """A predictor whose foreground probability is the image."""

    silent = ()

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def predict_grid(self, image: np.ndarray, report: object = None) -> Maps:
        found = prediction(torch.from_numpy(image[0]).clamp(0, 1))
        return Maps(found.probabilities.numpy(), found.uncertainty.numpy())


def volume(turned: bool) -> tuple[Scan, Plan]:
    """Nine slices across the first axis, 3 mm apart; slice 2 alone is a coin's toss."""
    array = np.zeros((1, 9, 16, 16), np.float32)
    array[:, 2, :8] = 0.5
    array[:, 3] = 1.0
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    if turned:
        affine[2, 0] = -3
    plan = Plan.model_validate(
        {
            "dims": 3, "unit": "mm", "spacing": (1.0, 1.0, 3.0), "patch": (16, 16, 16), "token": (8, 8, 8),
            "labelled_batch": 2, "unlabelled_batch": 2, "channels": 1, "classes": {0: "background", 1: "organ"},
            "normalisation": "unit",
        }
    )  # fmt: skip
    return Scan(array, Geometry(affine), Path("scan.nii.gz")), plan


@pytest.mark.parametrize("turned", [False, True])
def test_slices_are_numbered_as_in_the_scan(turned: bool) -> None:
    scan, plan = volume(turned)
    assert slice_axis(scan, plan) == 0
    found: list[Measure] = measure_scan(_Bright(plan), "a", scan, slices=True)  # type: ignore[arg-type]
    assert [one.slice for one in found] == [*range(9)]
    assert max(found, key=lambda one: one.entropy).slice == 2
    assert {one.axis for one in found} == {0}
    assert found[3].foreground == (256,)


def test_slices_of_a_coarser_grid_share_their_figures() -> None:
    scan, plan = volume(False)
    coarse = plan.model_copy(update={"spacing": (1.0, 1.0, 9.0)})
    found = measure_scan(_Bright(coarse), "a", scan, slices=True)  # type: ignore[arg-type]
    assert len(found) == 9
    assert found[0].entropy == found[2].entropy != found[4].entropy
