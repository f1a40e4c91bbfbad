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
    # One pass over each weight takes a third of the time on a CPU. On a GPU torch's choice is quick.
    fused = True if all(p.device.type == "cpu" for p in trained) else None
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(trained, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
        if name == "adamw"
        else torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
    )
    if fused:
        optimizer.register_step_pre_hook(_make_ready)
    return optimizer


def _make_ready(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """What torch's one pass does not look at on a CPU.

    Each gradient comes into the order of its weights in memory. A weight whose first gradient comes later than that of
    others, as those of a part of a method may, gets a momentum of zero.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            if weight.grad.stride() != weight.stride():
                weight.grad = torch.empty_like(weight, requires_grad=False).copy_(weight.grad)
            if group.get("momentum") and "momentum_buffer" not in optimizer.state[weight]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight, requires_grad=False)


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
