"""V-Net (Milletari et al. 2016, arXiv:1606.04797) in the widths of UC-Seg's second subnet: no norm, additive skips.

`NormedVNet` has norms too: after every convolution of the stacks and every step down.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from torch import Tensor, nn

from ucseg.networks.blocks import CONV, StepUp, norm, step_down
from ucseg.networks.levels import StridedLevels
from ucseg.types import Norm, Problem

CONVOLUTIONS = (1, 2, 3, 3, 3)


class ConvStack(nn.Sequential):
    """`count` 3^n convolutions, each with ReLU, and before it the norm `normed`, if any."""

    def __init__(self, dims: int, inputs: int, outputs: int, count: int, normed: Norm | None) -> None:
        layers: list[nn.Module] = []
        for index in range(count):
            # No bias before a norm, which would remove it.
            layers.append(CONV[dims](inputs if index == 0 else outputs, outputs, 3, padding=1, bias=not normed))
            layers += [norm(dims, outputs, normed)] if normed else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class VNet(StridedLevels):
    """Strided 2^n convolutions down, transposed 2^n convolutions up, additive skips, He initialisation."""

    normed: ClassVar[bool] = False

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        dims, widths = problem.dims, self.widths
        normed = problem.norm if self.normed else None
        pairs = list(zip(itertools.pairwise(widths), self.strides, strict=True))
        counts = CONVOLUTIONS[: len(widths)]
        self.encoder = nn.ModuleList(
            ConvStack(dims, width if level else problem.channels, width, count, normed)
            for level, (width, count) in enumerate(zip(widths, counts, strict=True))
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                step_down(dims, a, b, s, bias=not normed),
                *([norm(dims, b, normed)] if normed else []),
                nn.ReLU(inplace=True),
            )
            for (a, b), s in pairs
        )
        self.up = nn.ModuleList(
            # Not in place: a step up can return a view, and in place that costs autograd more than a second map.
            nn.Sequential(StepUp(dims, b, a, s), nn.ReLU())
            for (a, b), s in reversed(pairs)
        )
        self.decoder = nn.ModuleList(
            ConvStack(dims, width, width, count, normed)
            for width, count in zip(widths[-2::-1], counts[-2::-1], strict=True)
        )
        self.head = CONV[dims](widths[0], problem.classes, 1)
        for module in self.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                he_initialise(module)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + skip


class NormedVNet(VNet):
    """V-Net with norms. Without them it learns slowly at U-Net's learning rate. Not in the paper."""

    normed = True


def he_initialise(module: nn.modules.conv._ConvNd) -> None:
    """He et al. 2015 (arXiv:1502.01852): variance 2 / fan-in, so that ReLU layers without a norm keep their scale.

    The fan-in of a transposed convolution whose stride equals its kernel is its number of input channels alone:
    each output voxel sees one input voxel. (torch would count the output channels times the kernel.)
    """
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    fan_in = module.in_channels if transposed else module.weight[0].numel()
    with torch.no_grad():
        module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5)
        if module.bias is not None:
            module.bias.zero_()
