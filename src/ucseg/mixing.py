"""Copy-paste mixing: image and target together, one box for the whole batch."""

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
