"""The plain U-Net of nnU-Net (Isensee et al. 2021) in the widths of the problem. Not in the paper.

It takes as long as `unet` and learns as quickly, but is built otherwise: strided convolutions down, transposed ones up,
and instance norms in 2D too. So it does not share the running statistics of batch norms, nor their mistakes.
"""

from __future__ import annotations

import itertools

from torch import nn

from ucseg.networks.blocks import CONV, StepUp
from ucseg.networks.levels import StridedLevels
from ucseg.networks.resenc import NormedConv
from ucseg.types import Problem


class StridedUNet(StridedLevels):
    """Two convolutions a level, each with an instance norm and a leaky ReLU. The first of each level steps down."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        dims, widths = problem.dims, self.widths
        pairs = list(itertools.pairwise(widths))
        self.encoder = nn.ModuleList(
            NormedConv(dims, width, width, bias=False)
            if level
            else nn.Sequential(
                NormedConv(dims, problem.channels, width, bias=False), NormedConv(dims, width, width, bias=False)
            )
            for level, width in enumerate(widths)
        )
        self.down = nn.ModuleList(
            NormedConv(dims, a, b, step=step, bias=False) for (a, b), step in zip(pairs, self.strides, strict=True)
        )
        self.up = nn.ModuleList(
            StepUp(dims, b, a, step) for (a, b), step in zip(pairs[::-1], self.strides[::-1], strict=True)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(NormedConv(dims, 2 * a, a, bias=False), NormedConv(dims, a, a, bias=False))
            for a, _ in pairs[::-1]
        )
        self.head = CONV[dims](widths[0], problem.classes, 1)
