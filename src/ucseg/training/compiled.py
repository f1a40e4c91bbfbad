"""Networks whose passes torch.compile makes (`--set compile=true`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ucseg.errors import UserError
from ucseg.networks.levels import Levels
from ucseg.networks.monai_networks import MonaiNetwork

OF_TORCH = ("torch._dynamo", "torch._inductor")
MOST_GRAPHS = 64
"""Of all networks together: one for each network, size of images, number of images, and whether there are gradients.

Torch compiles eight, and then goes back to what is not compiled.
"""


def compile_networks(module: nn.Module, backend: str = "inductor") -> None:
    """Compile the forward pass of each network of a module, in place. Weights, names and hooks stay.

    Only in training mode: there images have few sizes, and each new size is compiled again. Prediction sees any size.
    """
    torch._dynamo.config.recompile_limit = max(MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    for network in module.modules():
        if isinstance(network, Levels | MonaiNetwork):
            setattr(network, "forward", _in_training(network, network.forward, backend))  # noqa: B010


def _in_training(network: nn.Module, plain: Callable[[Tensor], Any], backend: str) -> Callable[[Tensor], Any]:
    compiled = torch.compile(plain, dynamic=False, backend=backend)

    def forward(image: Tensor) -> Any:
        if not network.training:
            return plain(image)
        try:
            return compiled(image)
        except Exception as error:
            if not type(error).__module__.startswith(OF_TORCH):
                raise
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                "compile-failed", f"compile=true: torch cannot compile the networks here ({reason}); leave it out."
            ) from None

    return forward
