"""Mixing of images and their targets: copy-paste of boxes, and mixup."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sample_box(shape: tuple[int, ...], share: float, generator: torch.Generator) -> tuple[slice[int, int, None], ...]:
    """A random box of `share` of each side of `shape`, anywhere inside."""
    box = []
    for size in shape:
        edge = max(1, round(size * share))
        start = int(torch.randint(size - edge + 1, (), generator=generator))
        box.append(slice(start, start + edge))
    return tuple(box)


def paste(background: Tensor, foreground: Tensor, box: tuple[slice[int, int, None], ...]) -> Tensor:
    """`background` with the box of `foreground` in it. Both B x ... x S; the box is over the last axes."""
    mixed = background.clone()
    inside: Any = (..., *box)
    mixed[inside] = foreground[inside]
    return mixed


def mixup(x: Tensor, share: float) -> Tensor:
    """Each of B x ... mixed with the next one of the batch: share x_i + (1 - share) x_(i+1) (Zhang et al. 2018)."""
    return share * x + (1.0 - share) * x.roll(-1, dims=0)
