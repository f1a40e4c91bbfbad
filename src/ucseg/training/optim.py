"""The optimiser, its learning rate as a function of the step, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

Schedule = Literal["linear", "poly", "constant"]
OptimizerName = Literal["sgd", "adamw"]


def make_optimizer(
    module: nn.Module, name: OptimizerName, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser over the parameters that train. Teachers (no gradient) are left out.

    "sgd" is UC-Seg's. "adamw" (Loshchilov & Hutter 2019, arXiv:1711.05101) moves every weight at the same pace.
    Short runs need that where a network has no norm layers. Its first beta is `momentum`.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(trained, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay)
    return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay)


def learning_rate(lr: float, schedule: Schedule, step: int, total: int) -> float:
    """The learning rate of step 0 <= step < total.

    "linear": lr (1 - t/T), as UC-Seg's paper; "poly": lr (1 - t/T)^0.9, as nnU-Net; "constant".
    """
    rest = 1.0 - step / total
    power = {"linear": 1.0, "poly": 0.9, "constant": 0.0}[schedule]
    return float(lr * rest**power)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory (for SGD the momentum) as "<parameter number>.<name>" -> tensor."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, state in states.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. Layouts follow the parameters, so that the next update is the same."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    for key, saved in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        like = saved.shape == parameter.shape
        value = torch.empty_like(parameter, requires_grad=False).copy_(saved) if like else saved.clone()
        states.setdefault(int(index), {})[name] = value
    for number, state in states.items():
        optimizer.state[parameters[number]] = state
