"""An exponential moving average of a module's weights, kept for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of the weights over training: a_t = d a_{t-1} + (1 - d) w_t, d = min(decay, (1 + t) / (10 + t)).

    The shorter memory at the start keeps the random initial weights out of it. Floating-point buffers of normalisation
    layers are averaged like weights; every other buffer (counters, feature memories) is copied, since a mean of it
    means nothing.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self._averaged = {name for name, _ in module.named_parameters()} | _normalisation_buffers(module)
        self.tensors: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.module.state_dict().items():
            if name in self._averaged and value.is_floating_point():
                self.tensors[name].lerp_(value, 1.0 - decay)
            else:
                self.tensors[name].copy_(value)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, the module holds the averaged weights; afterwards its own again, bit for bit."""
        own = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.module.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self.module.load_state_dict(own)


def _normalisation_buffers(module: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._NormBase)
        for name, _ in layer.named_buffers(recurse=False)
    }
