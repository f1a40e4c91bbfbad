"""A U-Net on an encoder that was trained on photographs: `effnet_lite0` and `timm:NAME`. For 2D networks.

Either a network of this name, or what `unet` is where the plan has an encoder.

The encoder's maps are brought to the widths of `unet` by a convolution of one pixel. So the decoder is that of `unet`,
and the terms of UC-Seg that compare the maps of two networks work with `unet` and `vnet`.
"""

from __future__ import annotations

import itertools
import operator

import torch
from torch import Tensor, nn

from ucseg.errors import UserError
from ucseg.networks.blocks import norm, up_sample
from ucseg.networks.cpu import Dropout, max_pool
from ucseg.networks.effnet_lite0 import EffNetLite0
from ucseg.networks.levels import Levels
from ucseg.networks.timm_encoder import TimmEncoder
from ucseg.networks.unet import DoubleConv, UNetDecoder, encoder_dropout
from ucseg.types import TIMM, Norm, Problem

RANDOM = "random"
COLOURS = 3
CENTRE, SPREAD = 0.5, 0.25
"""What 0 and 1 of a plan's intensities are on a photograph's scale of 0 to 1: exactly with normalisation `rgb`.

An image with `zscore` has mean 0 and deviation 1, which is about the same.
"""


class Project(nn.Sequential):
    """Maps of an encoder -> a map of the U-Net: dropout at the U-Net's rate, 1 x 1 convolution, norm, activation."""

    def __init__(self, inputs: int, outputs: int, dropout: float, kind: Norm) -> None:
        super().__init__(
            Dropout(dropout),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            norm(2, outputs, kind),
            nn.LeakyReLU(0.01, inplace=True),
        )


class EncoderUNet(Levels):
    """The levels of `unet`, from an encoder where it has a map of their size, or a coarser one for the lowest.

    Finer levels, such as the full size, are those of `unet`.

    Attributes:
        backbone: the encoder.
        name: for messages.
        start: "random", a file of weights, or "" for the weights that come with the encoder, if any.

    Raises:
        UserError: the problem is not 2D, or the encoder is not there.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, text: str, problem: Problem) -> None:
        super().__init__(problem)
        if problem.dims != 2:
            raise UserError(
                "encoder-2d",
                f"network '{text}' is for 2D networks, and this plan is 3D; choose another, e.g. resenc.",
            )
        word, _, self.start = text.removeprefix(TIMM).partition(":")
        self.backbone: EffNetLite0 | TimmEncoder
        if text.startswith(TIMM):
            self.name = TIMM + word
            self.backbone = TimmEncoder(word, problem.channels, problem.patch, self.multiple)
        else:
            self.name = word
            self.backbone = EffNetLite0(problem.channels)
        mean, std = (torch.tensor(values) for values in (self.backbone.mean, self.backbone.std))
        if problem.channels != COLOURS:
            mean, std = mean.mean(), std.mean()
        for name, value in (("scale", SPREAD / std), ("shift", (CENTRE - mean) / std)):
            self.register_buffer(name, value.reshape(-1, 1, 1), persistent=False)

        factors = [1, *itertools.accumulate((max(step) for step in self.strides), operator.mul)]
        # For each level, which of the encoder's maps it is made of. None: it is the U-Net's own.
        self.sources: list[list[int]] = [[] for _ in factors]
        for index, reduction in enumerate(self.backbone.reductions):
            self.sources[max(level for level, factor in enumerate(factors) if factor <= reduction)].append(index)
        blocks: list[nn.Module] = []
        for level, (width, dropout) in enumerate(zip(self.widths, encoder_dropout(problem), strict=False)):
            inputs = sum(self.backbone.channels[index] for index in self.sources[level])
            before = self.widths[level - 1] if level else problem.channels
            blocks.append(
                Project(inputs, width, dropout, problem.norm)
                if inputs
                else DoubleConv(2, before, width, dropout, problem.norm)
            )
        self.encoder = nn.ModuleList(blocks)
        self.decoder = UNetDecoder(problem)

    def levels_down(self, x: Tensor) -> list[Tensor]:
        maps = self.backbone(x * self.scale + self.shift)
        grid = tuple(x.shape[2:])
        features: list[Tensor] = []
        for level, (block, sources) in enumerate(zip(self.encoder.children(), self.sources, strict=True)):
            if level:
                grid = tuple(edge // by for edge, by in zip(grid, self.strides[level - 1], strict=True))
            if sources:
                seen = [maps[index] for index in sources]
                fitting = [one if tuple(one.shape[2:]) == grid else up_sample(one, grid, "linear") for one in seen]
                features.append(block(torch.cat(fitting, dim=1)))
            else:
                features.append(block(max_pool(features[-1], self.strides[level - 1]) if level else x))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        logits: Tensor = self.decoder(features)
        return logits
