"""A U-Net with a residual encoder, as nnU-Net's ResEnc L (Isensee et al. 2024, arXiv:2404.09556).

Modules have the names of the public ResidualEncoderUNet (dynamic-network-architectures). So nnssl's checkpoints fit,
among them those trained on the 114,000 volumes of OpenMind (Wald et al. 2024, arXiv:2412.17041).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.networks.blocks import CONV, InstanceNorm, StepUp
from ucseg.networks.levels import Levels, go_up
from ucseg.types import Problem

WIDTHS = (32, 64, 128, 256, 320)
BLOCKS = (1, 3, 4, 6, 6)
"""Residual blocks of each level, finest first. Plans have at most five levels; the checkpoints have a sixth."""


class NormedConv(nn.Module):
    """A convolution and an instance norm, in 2D too, and a leaky ReLU if `active`."""

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        edge: int = 3,
        step: Any = 1,
        active: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        # A norm removes the bias; it is there because the checkpoints have it.
        self.conv = CONV[dims](inputs, outputs, edge, stride=step, padding=edge // 2, bias=bias)
        self.norm = InstanceNorm(outputs)
        self.active = active

    @property
    def parts(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """What it does, one after the other; see `levels.py`."""
        return self.conv, self._normed

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x (S over the step)."""
        return self._normed(self.conv(x))

    def _normed(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return F.leaky_relu_(out, 0.01) if self.active else out


class MeanPool(nn.Module):
    """Means over windows of the step's size."""

    def __init__(self, step: tuple[int, ...]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.step) if x.ndim == 4 else F.avg_pool3d(x, self.step)


class ResidualBlock(nn.Module):
    """Two convolutions, and the input added to them (ResNet-D: a step down is a mean on the skip)."""

    def __init__(self, dims: int, inputs: int, outputs: int, step: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = NormedConv(dims, inputs, outputs, step=step)
        self.conv2 = NormedConv(dims, outputs, outputs, active=False)
        skip: list[nn.Module] = [MeanPool(step)] if max(step) > 1 else []
        if inputs != outputs:
            skip.append(NormedConv(dims, inputs, outputs, 1, active=False, bias=False))
        self.skip = nn.Sequential(*skip)
        nn.init.zeros_(self.conv2.norm.weight)  # a block starts as its skip, as in nnU-Net

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x (S over the step)."""
        return F.leaky_relu_(self.conv2(self.conv1(x)) + self.skip(x), 0.01)


class Blocks(nn.Module):
    """The residual blocks of a level. The first one steps down."""

    def __init__(self, dims: int, inputs: int, outputs: int, count: int, step: tuple[int, ...]) -> None:
        super().__init__()
        once = (1,) * dims
        self.blocks = nn.Sequential(
            *(ResidualBlock(dims, outputs if k else inputs, outputs, once if k else step) for k in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class Convs(nn.Module):
    """One convolution with norm and activation, under the name that it has in the checkpoints."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(NormedConv(dims, inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return out


class ResidualEncoder(nn.Module):
    """A stem at full resolution, then a stage of residual blocks for each level."""

    def __init__(self, problem: Problem, steps: list[tuple[int, ...]]) -> None:
        super().__init__()
        dims, widths = problem.dims, WIDTHS[: len(steps)]
        self.stem = Convs(dims, problem.channels, widths[0])
        pairs = zip((widths[0], *widths), widths, BLOCKS, steps, strict=False)
        self.stages = nn.Sequential(*(Blocks(dims, a, b, count, step) for a, b, count, step in pairs))


class ResidualDecoder(nn.Module):
    """The way up: a transposed convolution, the encoder's map, one convolution; after the last level a head."""

    def __init__(self, problem: Problem, steps: list[tuple[int, ...]]) -> None:
        super().__init__()
        dims, pairs = problem.dims, list(itertools.pairwise(WIDTHS[: len(steps)]))[::-1]
        self.transpconvs = nn.ModuleList(
            StepUp(dims, b, a, step) for (a, b), step in zip(pairs, steps[:0:-1], strict=True)
        )
        self.stages = nn.ModuleList(Convs(dims, 2 * a, a) for a, _ in pairs)
        # The checkpoints have a head for each level; only that of the finest is needed here.
        self.seg_layers = nn.ModuleDict({str(len(pairs) - 1): CONV[dims](WIDTHS[0], problem.classes, 1)})


class ResEnc(Levels):
    """See the module's docstring. In 3D it has twelve times the weights of `unet`: made for GPUs."""

    encoder: ResidualEncoder

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, WIDTHS)
        steps = [(1,) * problem.dims, *self.strides]
        self.encoder = ResidualEncoder(problem, steps)
        self.decoder = ResidualDecoder(problem, steps)

    def levels_down(self, x: Tensor) -> list[Tensor]:
        features = [self.encoder.stem(x)]
        for stage in self.encoder.stages:
            features.append(stage(features[-1]))
        return features[1:]

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """What comes from below, then the encoder's map: the order of the checkpoints."""
        return torch.cat([x.to(skip.dtype), skip], dim=1)

    def decode(self, features: list[Tensor]) -> Tensor:
        finest = go_up(features, self.decoder.transpconvs, self.decoder.stages, self.join)[-1]
        (head,) = self.decoder.seg_layers.values()
        out: Tensor = head(finest)
        return out
