"""Small changes of inputs and features under which a prediction should stay as it is."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_noise(x: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """`x` with Gaussian noise, clipped at two deviations as in the code of UA-MT (Yu et al. 2019, arXiv:1907.07034).

    Args:
        x: any shape and device.
        std: in the units of x.
        generator: on the CPU, so that every device sees the same noise.
    """
    noise = torch.randn(x.shape, generator=generator).clamp_(-2.0, 2.0) * std
    return x + noise.to(x.device, x.dtype)


def channel_dropout(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Features B x K x S with whole channels set to zero at `rate`, the others scaled up to keep the mean."""
    kept = torch.rand(x.shape[:2], generator=generator) >= rate
    mask = kept.to(x.device, x.dtype).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return x * mask / (1.0 - rate)
