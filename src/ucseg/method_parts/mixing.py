"""Mixing of images and their targets: copy-paste of boxes, CutMix, and mixup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ucseg import ranks

Box: TypeAlias = "tuple[slice[int, int, None], ...]"


def sample_box(shape: tuple[int, ...], share: float, generator: torch.Generator) -> Box:
    """A box at a random place inside `shape`; each side is `share` of the image's."""
    return tuple(_anywhere(round(size * share), size, generator) for size in shape)


def _anywhere(edge: int, size: int, generator: torch.Generator) -> slice[int, int, None]:
    """An edge of at least one voxel, cut to the size, at a random place of an axis."""
    edge = min(size, max(1, edge))
    start = int(torch.randint(size - edge + 1, (), generator=generator))
    return slice(start, start + edge)


def paste(background: Tensor, foreground: Tensor, box: Box) -> Tensor:
    """`background` with the box of `foreground` in it. Both B x ... x S; the box is over the last axes."""
    mixed = background.clone()
    inside: Any = (..., *box)
    mixed[inside] = foreground[inside]
    return mixed


def sample_cutmix_boxes(
    shape: tuple[int, ...],
    count: int,
    generator: torch.Generator,
    rate: float = 0.5,
    share: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> list[Box | None]:
    """A box or None for each of `count` images, as in the code of UniMatch (Yang et al. 2023, arXiv:2208.09910).

    The share of the voxels is uniform, and so are the ratios of the edges to the first edge, relative to the image.
    DEVIATION: an edge too long for the image is cut; the code draws again.

    Args:
        shape: of an image, any rank.
        rate: probability of a box.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    boxes: list[Box | None] = []
    for _ in range(count * ranks.size()):
        if uniform(0, 1) >= rate:
            boxes.append(None)
            continue
        volume = uniform(*share)
        ratios = [1.0] + [uniform(*aspect) for _ in shape[1:]]
        mean = math.prod(ratios) ** (1 / len(shape))
        edges = [round(s * volume ** (1 / len(shape)) * ratio / mean) for s, ratio in zip(shape, ratios, strict=True)]
        boxes.append(tuple(_anywhere(e, s, generator) for e, s in zip(edges, shape, strict=True)))
    return ranks.own(boxes)


def cutmix(x: Tensor, boxes: Sequence[Box | None]) -> Tensor:
    """Paste into each of B x ... x S its box of the next one of the batch (Yun et al. 2019, arXiv:1905.04899).

    For images, targets and the weights of targets alike. An image alone in its batch does not change.
    """
    following = ranks.neighbours(x)
    return torch.stack([x[i] if box is None else paste(x[i], following[i], box) for i, box in enumerate(boxes)])


def mixup(x: Tensor, share: float) -> Tensor:
    """Each of B x ... mixed with the next one of the batch: share x_i + (1 - share) x_(i+1) (Zhang et al. 2018)."""
    return share * x + (1.0 - share) * ranks.neighbours(x)
