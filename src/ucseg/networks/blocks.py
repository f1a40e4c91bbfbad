"""Building blocks for any rank: one code path for 2D and 3D. How a CPU computes them: `cpu.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.networks import cpu
from ucseg.types import Norm

CHANNELS_LAST = cpu.CHANNELS_LAST
CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: cpu.VolumeConv}
BATCH_NORM: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ADAPTIVE_MEAN: dict[int, Callable[..., Tensor]] = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}


class InstanceNorm(nn.GroupNorm):
    """Instance norm with learned scale and shift, for any rank: a group norm with one channel a group.

    Statistics are in float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x S -> B x C x S, float32 or, on a CPU, as x. A single voxel comes out as the shift."""
        if cpu.holds(x):
            return cpu.instance_norm(x, self.weight, self.bias, self.eps)
        if torch.onnx.is_in_onnx_export():  # an operator of ONNX, and a group norm would be five
            return torch.instance_norm(x.float(), self.weight, self.bias, None, None, True, 0.0, self.eps, False)
        # Not nn.GroupNorm's own: it refuses an image of one voxel, which small scans have on the lowest level.
        return torch.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)


def norm(dims: int, channels: int, kind: Norm) -> nn.Module:
    """`kind` in 2D, instance norm in 3D, where batches are small. UC-Seg's networks have batch norm in 2D."""
    return BATCH_NORM[dims](channels) if dims == 2 and kind == "batch" else InstanceNorm(channels)


class StepUp(nn.modules.conv._ConvTransposeNd):
    """A transposed convolution whose kernel is its stride, for any rank: a step up between two levels."""

    bias: Tensor

    def __init__(self, dims: int, inputs: int, outputs: int, step: tuple[int, ...]) -> None:
        none, once = (0,) * dims, (1,) * dims
        super().__init__(inputs, outputs, step, step, none, once, True, none, 1, True, "zeros")

    def reset_parameters(self) -> None:
        """Start as torch's convolutions do, with the real fan-in: an output voxel sees one input voxel.

        torch counts the output channels times the kernel: a step up in 3D that halves the channels would start with
        half of the scale.
        """
        bound = self.in_channels**-0.5
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x (S times the step)."""
        up = cpu.step_up(x, self.weight, self.bias)
        if up is not None:
            return up
        transposed = F.conv_transpose2d if x.ndim == 4 else F.conv_transpose3d
        return transposed(x, self.weight, self.bias, self.stride)


def step_down(dims: int, inputs: int, outputs: int, step: Any, bias: bool = True) -> nn.Module:
    """A convolution whose kernel is its stride: a step between two levels."""
    return CONV[dims](inputs, outputs, step, stride=step, bias=bias)


def up_sample(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """B x C x S -> B x C x `size`, by linear interpolation ("linear") or the nearest voxel ("nearest")."""
    if mode == "nearest":
        return F.interpolate(x, size=size, mode=mode)
    out = F.interpolate(x, size=size, mode=LINEAR[x.ndim - 2], align_corners=False)
    cpu.close_gaps_of_gradient(out)
    return out


def pad_to_multiple(x: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """Pad the end of every axis of B x C x S with edge values, to the next multiple of `multiple`."""
    missing = [-size % m for size, m in zip(x.shape[2:], multiple, strict=True)]
    if not any(missing):
        return x
    pads = [value for amount in reversed(missing) for value in (0, amount)]
    return F.pad(x, pads, mode="replicate")


def crop_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first `shape` voxels of each axis: undoes `pad_to_multiple`."""
    inside: Any = (..., *(slice(0, size) for size in shape))
    return x[inside]


def cut_windows(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """B x S x K -> B x windows x tokens x K; S must be a multiple of `window`."""
    dims = len(window)
    pairs = [value for size, w in zip(x.shape[1:-1], window, strict=True) for value in (size // w, w)]
    order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return (
        x.reshape(x.shape[0], *pairs, x.shape[-1])
        .permute(order)
        .reshape(x.shape[0], -1, math.prod(window), x.shape[-1])
    )


def join_windows(x: Tensor, grid: tuple[int, ...], window: tuple[int, ...]) -> Tensor:
    """The inverse of `cut_windows` for a grid S = `grid`."""
    dims = len(window)
    counts = [size // w for size, w in zip(grid, window, strict=True)]
    order = [axis for pair in zip(range(1, dims + 1), range(dims + 1, 2 * dims + 1), strict=True) for axis in pair]
    return (
        x.reshape(x.shape[0], *counts, *window, x.shape[-1])
        .permute(0, *order, 2 * dims + 1)
        .reshape(x.shape[0], *grid, x.shape[-1])
    )
