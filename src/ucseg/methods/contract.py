"""A method held against the contract while it works: a mistake is named, and does not become a figure."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ucseg.errors import UserError
from ucseg.methods.base import Method
from ucseg.types import Prediction, StepOutput, Strength

ROUNDING = 0.01
"""How far from one the probabilities of a voxel may sum: they may come from half precision."""


def check_views(method: Method) -> None:
    """Raise a UserError unless the method's views are changed as strongly as the data stream can."""
    for view, strength in method.views.items():
        if strength not in get_args(Strength):
            known = ", ".join(f"'{one}'" for one in get_args(Strength))
            raise _error(method, f"its view '{view}' is changed '{strength}'; it must be one of {known}")


def check_step(method: Method, output: StepOutput) -> None:
    """Raise a UserError unless the terms and metrics of a step are scalars, and its loss depends on the weights."""
    if not output.terms:
        raise _error(method, "step gives no loss term")
    for kind, figures in (("term", output.terms), ("metric", output.metrics)):
        for name, value in figures.items():
            if not isinstance(value, Tensor) or value.ndim:
                raise _error(method, f"the {kind} '{name}' of step: {_said(value)}; expected a tensor of no axes")
    if not any(term.requires_grad for term in output.terms.values()):
        raise _error(method, "no loss term of step depends on the weights; something detached them")


def check_prediction(method: Method, image: Tensor, prediction: Prediction) -> None:
    """Raise a UserError unless a prediction of images B x Cin x S has its shapes, and probabilities that are such."""
    if not isinstance(prediction, Prediction):
        raise _error(method, f"predict gives {_said(prediction)}; expected a Prediction")
    batch, _, *size = image.shape
    probabilities = {"probabilities": prediction.probabilities}
    probabilities |= {f"probabilities of member '{name}'": member for name, member in prediction.members.items()}
    maps = [("uncertainty", prediction.uncertainty, 1)]
    maps += [(name, values, method.problem.classes) for name, values in probabilities.items()]
    for name, values, channels in maps:
        expected = (batch, channels, *size)
        if not isinstance(values, Tensor) or tuple(values.shape) != expected:
            raise _error(method, f"the {name} of predict: {_said(values)}; expected {_axes(expected)}")
    # Where the uncertainty is not finite the network has diverged on this scan, which is said with the scan's name.
    believed = torch.isfinite(prediction.uncertainty[:, 0])
    for name, values in probabilities.items():
        good = ((values.sum(dim=1) - 1).abs() < ROUNDING) & (values > -ROUNDING).all(dim=1)  # false of NaN
        if bool((believed & ~good).any()):
            raise _error(method, f"the {name} of predict: below 0, not finite, or not 1 in sum over the classes")


def _said(value: object) -> str:
    return _axes(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _axes(shape: tuple[int, ...]) -> str:
    return f"a tensor of {' x '.join(map(str, shape)) or 'no axes'}"


def _error(method: Method, wrong: str) -> UserError:
    return UserError("todo", f"method {type(method).__name__}: {wrong}.")
