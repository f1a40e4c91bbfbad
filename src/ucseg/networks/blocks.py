"""Rank-agnostic building blocks: one code path for 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.types import Strides

ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
UNFOLDED = 20_480  # torch's own bound, Convolution.cpp, use_mkldnn


class VolumeConv(nn.Conv3d):
    """A 3D convolution that works around two faults of torch on a CPU, measured with torch 2.13.

    - In bfloat16 oneDNN's weight gradient of a 3^3 convolution is wrong (far too large, or infinite) where the first
      spatial axis has exactly two slices, as the lowest level of a 32-voxel patch has: on a processor with
      avx512_bf16; all other sizes were right.
    - In float32 a single volume does not reach oneDNN where its channels times its first two axes are 20,480 or
      fewer, as in the first layer and on the lower levels, and the kernel is of at most three voxels an axis: torch
      then unfolds it, which takes up to six times as long. Of two volumes that is never so, and the two halves of a
      volume are two.
    """

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S'."""
        if x.device.type != "cpu":
            return super().forward(x)
        if not torch.is_autocast_enabled("cpu"):
            single = x.ndim == 5 and len(x) == 1 and x.dtype == torch.float32 and ONEDNN
            unfolded = single and math.prod(x.shape[1:4]) <= UNFOLDED
            return self._in_halves(x) if unfolded else super().forward(x)
        if x.shape[2] != 2:
            return super().forward(x)
        if (self.kernel_size[0], self.stride[0], self.padding[0], self.dilation[0]) == (3, 1, 1, 1):
            # Beyond the end the convolution sees zeros anyway: with a third slice of them the first two are the same,
            # and quicker than in float32.
            return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())

    def _in_halves(self, x: Tensor) -> Tensor:
        """1 x inputs x S -> 1 x outputs x S', both halves of S' as a batch. If S' is odd they share a slice."""
        edge, once = self.kernel_size[0], (1, 1, 1)
        # A kernel one slice thick is left to torch, and one that steps gains next to nothing.
        plain = (self.stride, self.dilation, self.groups, self.padding_mode) == (once, once, 1, "zeros")
        if edge == 1 or not plain or isinstance(self.padding, str):
            return super().forward(x)
        pad = self.padding[0]
        slices = x.shape[2] + 2 * pad - edge + 1
        if slices < 2:
            return super().forward(x)
        half = -(-slices // 2)
        padded = F.pad(x, (0, 0, 0, 0, pad, pad))
        halves = torch.cat([padded[:, :, : half + edge - 1], padded[:, :, slices - half :]])
        y = F.conv3d(halves, self.weight, self.bias, self.stride, (0, *self.padding[1:]))
        return torch.cat([y[:1], y[1:, :, 2 * half - slices :]], dim=2)


CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: VolumeConv}
CHANNELS_LAST: dict[int, torch.memory_format] = {2: torch.channels_last, 3: torch.channels_last_3d}
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


def norm(dims: int, channels: int) -> nn.Module:
    """The norm of UC-Seg's networks: batch norm in 2D, instance norm in 3D, where batches are small."""
    return BATCH_NORM[dims](channels) if dims == 2 else InstanceNorm(channels)


class StepUp(nn.modules.conv._ConvTransposeNd):
    """A transposed convolution whose kernel is its stride, for any rank: a step up between two levels.

    Its kernels do not overlap, so it is one matrix product of each voxel, spread over the voxels that it becomes. On a
    CPU that takes half of the time of the library's convolution, which reorders its tensors.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, step: tuple[int, ...]) -> None:
        none, once = (0,) * dims, (1,) * dims
        super().__init__(inputs, outputs, step, step, none, once, True, none, 1, True, "zeros")

    def reset_parameters(self) -> None:
        """Start as torch's convolutions do, with the fan-in that there is: an output voxel sees one input voxel.

        torch counts the output channels times the kernel: between two levels of which one has half of the other's
        channels, a step up in 3D would start with half of the scale.
        """
        bound = self.in_channels**-0.5
        for parameter in (self.weight, self.bias):
            assert parameter is not None
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x (S times the step)."""
        dims = x.ndim - 2
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=CHANNELS_LAST[dims]):
            transposed = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[dims]
            return transposed(x, self.weight, self.bias, self.stride)
        assert self.bias is not None
        axes, step = range(dims), self.kernel_size
        voxels = x.movedim(1, -1).flatten(0, -2)
        spread = torch.addmm(self.bias.repeat(math.prod(step)), voxels, self.weight.movedim(1, -1).flatten(1))
        spread = spread.view(len(x), *x.shape[2:], *step, -1)
        order = [axis for a in axes for axis in (1 + a, 1 + dims + a)]
        grid = [size * edge for size, edge in zip(x.shape[2:], step, strict=True)]
        return spread.permute(0, *order, -1).reshape(len(x), *grid, -1).movedim(-1, 1)


class Dropout(nn.Dropout):
    """Dropout that on a CPU compares 16 random bits with the rate, in a quarter of the time of torch's own.

    The rate is met to 1 in 65,536, the scale is that of the rate met.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, which stays."""
        if x.device.type != "cpu" or not self.training or not 0.0 < self.p < 1.0:
            return super().forward(x)
        return cast(Tensor, _Dropped.apply(x, self.p))  # type: ignore[no-untyped-call]


class _Dropped(torch.autograd.Function):
    """Zeros at a rate, the rest scaled up. Saves a byte a value."""

    @staticmethod
    def forward(context: Any, x: Tensor, rate: float) -> Tensor:
        out_of = min(round(rate * 2**16), 2**16 - 1)
        kept = torch.empty_like(x, dtype=torch.bool)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        # In the order in which the values lie in memory: `kept` has no gaps.
        torch.ge(bits.as_strided(kept.shape, kept.stride()), out_of - 2**15, out=kept)
        context.scale = 2**16 / (2**16 - out_of)
        context.save_for_backward(kept)
        return _Dropped._of(x, kept, context.scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = context.saved_tensors
        return _Dropped._of(gradients[0], kept, context.scale), None

    @staticmethod
    def _of(x: Tensor, kept: Tensor, scale: float) -> Tensor:
        # As bytes: torch's product with booleans is not vectorised.
        return (x * kept.view(torch.uint8)).mul_(scale)


def max_pool(x: Tensor, step: Any) -> Tensor:
    """The largest of each block of `step` voxels, B x C x S -> B x C x S', in x's own precision."""
    # Autocast would do it in float32 in 3D on a CPU, with a copy of the map, for the same result.
    with torch.autocast(x.device.type, enabled=False):
        return F.max_pool2d(x, step) if x.ndim == 4 else F.max_pool3d(x, step)


def up_sample(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """B x C x S -> B x C x `size`, by linear interpolation ("linear") or the nearest voxel ("nearest")."""
    if mode == "nearest":
        return F.interpolate(x, size=size, mode=mode)
    out = F.interpolate(x, size=size, mode=LINEAR[x.ndim - 2], align_corners=False)
    if out.requires_grad and out.device.type == "cpu":
        # From a concatenation comes a gradient with gaps, for which torch's backward is several times slower.
        layout = CHANNELS_LAST[x.ndim - 2]
        layout = layout if out.is_contiguous(memory_format=layout) else torch.contiguous_format
        out.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))  # type: ignore[no-untyped-call]
    return out


def levels(strides: Strides | None, dims: int, most: int) -> tuple[Strides, tuple[int, ...]]:
    """The steps down between encoder levels, and the product of each axis: what the levels divide an image by.

    Args:
        strides: None, or a row for each step down; a step that halves some axes alone is for anisotropic volumes.
        dims: 2 or 3.
        most: levels that there are at most; that many where `strides` is None, each half of the one above.
    """
    steps = ((2,) * dims,) * (most - 1) if strides is None else strides[: most - 1]
    return steps, tuple(math.prod(step[axis] for step in steps) for axis in range(dims))


def step_down(dims: int, inputs: int, outputs: int, step: Any, bias: bool = True) -> nn.Module:
    """A convolution whose kernel is its stride: a step between two levels."""
    return CONV[dims](inputs, outputs, step, stride=step, bias=bias)


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
