"""Rank-agnostic building blocks: one code path for 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.types import Strides


class VolumeConv(nn.Conv3d):
    """A 3D convolution that works around a fault in bfloat16 on a CPU, where grids have two slices.

    oneDNN's bfloat16 weight gradient of a 3^3 convolution is wrong (far too large, or infinite) where the first
    spatial axis has exactly two slices, as the lowest level of a 32-voxel patch has: measured with torch 2.13 on a
    processor with avx512_bf16; all other sizes were right.
    """

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S'."""
        if x.shape[2] != 2 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        if (self.kernel_size[0], self.stride[0], self.padding[0], self.dilation[0]) == (3, 1, 1, 1):
            # Beyond the end the convolution sees zeros anyway: with a third slice of them the first two are the same,
            # and quicker than in float32.
            return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: VolumeConv}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Callable[..., Tensor]] = {2: F.max_pool2d, 3: F.max_pool3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ADAPTIVE_MEAN: dict[int, Callable[..., Tensor]] = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}


class InstanceNorm(nn.GroupNorm):
    """Instance norm with learned scale and shift, for any rank: a group norm with one channel a group.

    torch's own instance norm copies channels-last tensors to the contiguous layout and back, and its group norm is
    slow where groups have one channel. On a CPU each image is therefore a batch norm of its own: the same mathematics
    in a third of the time. Statistics are in float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x S -> B x C x S, float32 or, on a CPU, as x. A single voxel comes out as the shift."""
        # Not nn.GroupNorm's own, nor F.batch_norm: they refuse an image of one voxel, as small scans have at the end.
        if x.device.type != "cpu":
            return torch.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
        # `chunk`, whose backward joins the images' gradients: slices would each fill a gradient of the whole batch.
        normed = [
            torch.batch_norm(image, self.weight, self.bias, None, None, True, 0.0, self.eps, False)
            for image in x.chunk(len(x))
        ]
        return torch.cat(normed) if len(normed) > 1 else normed[0]


def levels(strides: Strides | None, dims: int, most: int) -> tuple[Strides, tuple[int, ...]]:
    """The steps down between encoder levels, and the product of each axis: what the levels divide an image by.

    Args:
        strides: None, or a row for each step down; a step that halves some axes alone is for anisotropic volumes.
        dims: 2 or 3.
        most: levels that there are at most; that many where `strides` is None, each half of the one above.
    """
    steps = ((2,) * dims,) * (most - 1) if strides is None else strides[: most - 1]
    return steps, tuple(math.prod(step[axis] for step in steps) for axis in range(dims))


def strided(kind: Mapping[int, type[nn.Module]], dims: int, inputs: int, outputs: int, step: Any) -> nn.Module:
    """A convolution (CONV or TRANSPOSED) whose kernel is its stride: a step between two levels."""
    return kind[dims](inputs, outputs, step, stride=step)


def pad_to_multiple(x: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """Pad the end of every axis of B x C x S with edge values, to the next multiple of `multiple`."""
    missing = [-size % m for size, m in zip(x.shape[2:], multiple, strict=True)]
    if not any(missing):
        return x
    pads = [value for amount in reversed(missing) for value in (0, amount)]
    return F.pad(x, pads, mode="replicate")


def crop_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first `shape` voxels of each axis: takes back `pad_to_multiple`."""
    inside: Any = (..., *(slice(0, size) for size in shape))
    return x[inside]
