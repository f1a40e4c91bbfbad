"""A U-Net that sees the image one level coarser. Not in the paper: a second network that costs little."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ucseg.networks.blocks import up_sample
from ucseg.networks.encoder_unet import EncoderUNet
from ucseg.networks.levels import Levels, steps_of
from ucseg.networks.unet import UNet
from ucseg.types import Problem


class CoarseUNet(Levels):
    """`unet` on the means of the voxels that the first step joins; its logits are interpolated between them.

    Its finest map is the image itself, so that its maps lie on the grids of those of `unet`.
    """

    def __init__(self, problem: Problem) -> None:
        self.by, *others = steps_of(problem) or ((1,) * problem.dims,)
        patch = tuple(-(-edge // by) for edge, by in zip(problem.patch, self.by, strict=True))
        coarser = replace(problem, patch=patch, strides=tuple(others))
        network = UNet(coarser) if problem.encoder is None else EncoderUNet(problem.encoder, coarser)
        super().__init__(problem, (problem.channels, *network.widths))
        self.network = network

    def levels_down(self, x: Tensor) -> list[Tensor]:
        coarse = F.avg_pool2d(x, self.by) if self.dims == 2 else F.avg_pool3d(x, self.by)
        return [x, *self.network.levels_down(coarse)]

    def decode(self, features: list[Tensor]) -> Tensor:
        return up_sample(self.network.decode(features[1:]), features[0].shape[2:], "linear")
