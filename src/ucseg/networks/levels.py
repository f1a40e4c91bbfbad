"""What U-Net, V-Net and Swin-Unet share: an encoder down several levels, a decoder up again, a skip at each level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ucseg.networks.blocks import CHANNELS_LAST, crop_to, pad_to_multiple
from ucseg.types import Problem, Strides

MOST_LEVELS = 5


def widths_of(problem: Problem) -> tuple[int, ...]:
    """Channels of the encoder levels, finest first; 16 to 256 in UC-Seg."""
    return tuple(problem.width * 2**level for level in range(len(steps_of(problem)) + 1))


def steps_of(problem: Problem) -> Strides:
    """The steps down between the encoder levels, a row each: those of the problem, or four that halve every axis."""
    return (((2,) * problem.dims,) * 4 if problem.strides is None else problem.strides)[: MOST_LEVELS - 1]


def concatenate(x: Tensor, skip: Tensor) -> Tensor:
    """The channels of the encoder's map, then those from below."""
    x = x.to(skip.dtype)
    layout = CHANNELS_LAST[x.ndim - 2]
    if not torch.is_grad_enabled() and skip.is_contiguous(memory_format=layout):
        x = x.contiguous(memory_format=layout)  # or the next convolution would copy all channels
    return torch.cat([skip, x], dim=1)


def go_up(
    features: list[Tensor],
    steps: Iterable[nn.Module],
    blocks: Iterable[nn.Module],
    join: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    """Encoder maps, finest first -> decoder maps, coarsest first; the last one has the size of the padded image.

    Args:
        steps, blocks: one of each for every level but the lowest, coarsest first.
        join: puts what comes up from below together with the encoder's map.
    """
    x, maps = features[-1], []
    for step, block, skip in zip(steps, blocks, features[-2::-1], strict=True):
        x = join(step(x), skip)
        for part in _parts(block):  # one by one: the joined map, twice as wide, is free after the first
            x = part(x)
        maps.append(x)
    return maps


def _parts(block: nn.Module) -> list[Callable[[Tensor], Tensor]]:
    """What a block does with a map, one after the other: its `parts` if it names them."""
    if isinstance(block, nn.Sequential):
        return [part for inside in block for part in _parts(inside)]
    return list(getattr(block, "parts", [block]))


class Levels(nn.Module, ABC):
    """A network of several levels for a problem. A subclass sets `encoder`, a block for each level, or `levels_down`.

    Attributes:
        strides: from one level to the next. A step can halve some axes only, for anisotropic volumes.
        widths: channels of the encoder levels, finest first.
        multiple: for each axis, the product of its strides. Images are padded to a multiple of it.
    """

    encoder: nn.Module

    def __init__(self, problem: Problem, widths: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.dims, self.strides = problem.dims, steps_of(problem)
        self.widths = (widths or widths_of(problem))[: len(self.strides) + 1]
        self.multiple = tuple(math.prod(step[axis] for step in self.strides) for axis in range(problem.dims))

    def step_down(self, x: Tensor, level: int) -> Tensor:
        """A map of the level above -> the input of `level`."""
        raise NotImplementedError

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Encoder maps, finest first -> logits of the padded image."""

    def encode(self, image: Tensor) -> list[Tensor]:
        """B x Cin x S -> one map for each encoder level, finest first. Any S: padded."""
        return self.levels_down(pad_to_multiple(image, self.multiple))

    def levels_down(self, x: Tensor) -> list[Tensor]:
        """The padded image -> one map for each encoder level."""
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder.children()):
            x = block(self.step_down(x, level) if level else x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """B x Cin x S -> (logits B x C x S float32, encoder maps, finest first). Any S: padded, then cropped."""
        features = self.encode(image)
        return crop_to(self.decode(features), tuple(image.shape[2:])).float(), features


class StridedLevels(Levels):
    """Levels with strided convolutions between them.

    A subclass also sets `down`, `up` and `decoder`, a module for each step, and `head`.
    """

    down: nn.ModuleList
    up: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module

    def step_down(self, x: Tensor, level: int) -> Tensor:
        out: Tensor = self.down[level - 1](x)
        return out

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        return concatenate(x, skip)

    def decode(self, features: list[Tensor]) -> Tensor:
        out: Tensor = self.head(go_up(features, self.up, self.decoder, self.join)[-1])
        return out
