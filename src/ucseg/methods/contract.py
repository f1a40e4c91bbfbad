"""Checks of a method against the contract while it works: a mistake is reported, and does not become a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from ucseg.errors import UserError
from ucseg.methods.base import Method
from ucseg.types import Prediction, StepOutput, Strength

ROUNDING = 0.01
"""How far from one the sum of a voxel's probabilities may be: half precision is allowed."""


def check_views(method: Method) -> None:
    """Raise a UserError (view-strength) unless the data stream knows how strongly to change each view."""
    for view, strength in method.views.items():
        if strength not in get_args(Strength):
            known = ", ".join(f"'{one}'" for one in get_args(Strength))
            raise _error("view-strength", method, f"view '{view}' has the strength '{strength}'; use one of {known}")


def check_step(method: Method, output: StepOutput) -> None:
    """Raise a UserError unless the terms and metrics of a step are scalars, and its loss depends on the weights."""
    if not output.terms:
        raise _error("step-without-terms", method, "step returns no loss term")
    for kind, figures in (("term", output.terms), ("metric", output.metrics)):
        for name, value in figures.items():
            if not isinstance(value, Tensor) or value.ndim:
                wrong = f"step returns {_kind_of(value)} as {kind} '{name}'; it must be a scalar tensor"
                raise _error("step-scalars", method, wrong)
    if not any(term.requires_grad for term in output.terms.values()):
        raise _error("step-detached", method, "no loss term of step depends on the weights; look for a detach()")


def check_prediction(method: Method, image: Tensor, prediction: Prediction) -> None:
    """Raise a UserError unless a prediction of images B x Cin x S has maps of the right shapes."""
    if not isinstance(prediction, Prediction):
        raise _error("prediction-type", method, f"predict returns {_kind_of(prediction)}, and not a Prediction")
    batch, _, *size = image.shape
    maps = [("uncertainty", prediction.uncertainty, 1)]
    maps += [(name, values, method.problem.classes) for name, values in _probabilities(prediction).items()]
    for name, values, channels in maps:
        expected = (batch, channels, *size)
        if not isinstance(values, Tensor) or tuple(values.shape) != expected:
            wrong = f"predict returns {_kind_of(values)} as {name}; it must have the shape {_shape(expected)}"
            raise _error("prediction-shape", method, wrong)


def check_probabilities(method: Method, predictions: Sequence[Prediction]) -> None:
    """Raise a UserError unless the probabilities of predictions are true ones.

    They are asked for at once: a GPU answers only when it has done its work.
    """
    wrong: dict[str, Tensor] = {}
    for prediction in predictions:
        # Uncertainty that is not finite: the network diverged on this scan. The caller reports that with its name.
        finite = torch.isfinite(prediction.uncertainty[:, 0])
        for name, values in _probabilities(prediction).items():
            good = ((values.sum(dim=1) - 1).abs() < ROUNDING) & (values > -ROUNDING).all(dim=1)  # false for NaN
            found = (finite & ~good).any()
            wrong[name] = wrong[name] | found if name in wrong else found
    for name, found_here in zip(wrong, torch.stack(list(wrong.values())).tolist(), strict=True):
        if found_here:
            message = f"predict returns {name} that are negative, not finite, or do not sum to 1 over the classes"
            raise _error("prediction-values", method, message)


def _probabilities(prediction: Prediction) -> dict[str, Tensor]:
    members = {f"probabilities of member '{name}'": member for name, member in prediction.members.items()}
    return {"probabilities": prediction.probabilities, **members}


def _kind_of(value: object) -> str:
    return f"a tensor of shape {_shape(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "()"


def _error(kind: str, method: Method, wrong: str) -> UserError:
    return UserError(kind, f"method {type(method).__name__}: {wrong}.")
