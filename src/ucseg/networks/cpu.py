"""How the networks' layers are computed on a CPU, where torch's own way is slow or wrong. Measured with torch 2.13.

Nothing else in the networks depends on the device: on others all of these are torch's own layers.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS_LAST: dict[int, torch.memory_format] = {2: torch.channels_last, 3: torch.channels_last_3d}
ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
UNFOLDED = 20_480  # torch's own bound, Convolution.cpp, use_mkldnn


def holds(x: Tensor) -> bool:
    """Whether a CPU computes with this tensor, in torch: what is exported to ONNX has torch's own layers."""
    return x.device.type == "cpu" and not torch.onnx.is_in_onnx_export()


class VolumeConv(nn.Conv3d):
    """A 3D convolution that avoids two faults of torch.

    - bfloat16: oneDNN's weight gradient of a 3^3 convolution is far too large, or infinite, if the first spatial axis
      has exactly two slices. So has the lowest level of a 32-voxel patch. All other sizes were right, on a processor
      with avx512_bf16.
    - float32: torch unfolds a single volume instead of using oneDNN, which takes up to six times as long. It does so
      where channels times the first two axes are at most 20,480, and the kernel has at most three voxels an axis. That
      is the first layer and the lower levels. It never does so with two volumes, and the halves of a volume are two.
    """

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S'."""
        if not holds(x):
            return super().forward(x)
        if not torch.is_autocast_enabled("cpu"):
            single = x.ndim == 5 and len(x) == 1 and x.dtype == torch.float32 and ONEDNN
            unfolded = single and math.prod(x.shape[1:4]) <= UNFOLDED
            return self._in_halves(x) if unfolded else super().forward(x)
        if x.shape[2] != 2:
            return super().forward(x)
        if (self.kernel_size[0], self.stride[0], self.padding[0], self.dilation[0]) == (3, 1, 1, 1):
            # The convolution pads with zeros. So a third slice of zeros changes nothing in the first two, and it is
            # quicker than float32.
            return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())

    def _in_halves(self, x: Tensor) -> Tensor:
        """1 x inputs x S -> 1 x outputs x S', both halves of S' as a batch. If S' is odd they share a slice."""
        edge, once = self.kernel_size[0], (1, 1, 1)
        # Left to torch: a kernel one slice thick, and one with a stride, which gains next to nothing.
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


class Dropout(nn.Dropout):
    """Dropout that compares 16 random bits with the rate, in a quarter of the time of torch's own.

    The rate is exact to 1 in 65,536. The scale belongs to the rate that is used.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not holds(x) or not self.training or not 0.0 < self.p < 1.0:
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


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """B x C x S -> B x C x S: each image is a batch norm by itself.

    The same mathematics in a third of the time. torch's instance norm copies channels-last tensors to the contiguous
    layout and back, and its group norm is slow where groups have one channel.
    """
    # `chunk`, because its backward joins the gradients of the images. Slices would each fill a gradient of the batch.
    normed = [torch.batch_norm(one, weight, bias, None, None, True, 0.0, epsilon, False) for one in x.chunk(len(x))]
    return torch.cat(normed) if len(normed) > 1 else normed[0]


def step_up(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
    """A transposed convolution whose kernel is its stride, B x inputs x S -> B x outputs x (S times the kernel).

    Kernels do not overlap, so it is one matrix product for each voxel, spread over the voxels that it becomes. That
    takes half of the time of the library's convolution, which reorders its tensors.

    Returns:
        None where torch's own is as good: on other devices and in the contiguous layout.
    """
    dims, step = x.ndim - 2, weight.shape[2:]
    if not holds(x) or not x.is_contiguous(memory_format=CHANNELS_LAST[dims]):
        return None
    voxels = x.movedim(1, -1).flatten(0, -2)
    spread = torch.addmm(bias.repeat(math.prod(step)), voxels, weight.movedim(1, -1).flatten(1))
    spread = spread.view(len(x), *x.shape[2:], *step, -1)
    order = [axis for a in range(dims) for axis in (1 + a, 1 + dims + a)]
    grid = [size * edge for size, edge in zip(x.shape[2:], step, strict=True)]
    return spread.permute(0, *order, -1).reshape(len(x), *grid, -1).movedim(-1, 1)


def close_gaps_of_gradient(x: Tensor) -> None:
    """Let the gradient of B x C x S arrive without gaps in memory, as `x` lies there.

    A concatenation hands back a gradient with gaps, and torch's backward of interpolation is several times slower then.
    """
    if not x.requires_grad or not holds(x):
        return
    layout = CHANNELS_LAST[x.ndim - 2]
    layout = layout if x.is_contiguous(memory_format=layout) else torch.contiguous_format
    x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))  # type: ignore[no-untyped-call]


def max_pool(x: Tensor, step: Any) -> Tensor:
    """The largest of each block of `step` voxels, B x C x S -> B x C x S', in x's own precision."""
    # Autocast would do it in float32 in 3D, with a copy of the map, for the same result.
    with torch.autocast(x.device.type, enabled=False):
        return F.max_pool2d(x, step) if x.ndim == 4 else F.max_pool3d(x, step)
