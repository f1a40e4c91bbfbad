"""A small U-shaped transformer: Swin blocks (Liu et al. 2021, arXiv:2103.14030) in the shape of Swin-Unet (Cao et al.
2021, arXiv:2105.05537), for images of either rank and in the widths of the other networks.

DEVIATION: Swin-Unet starts from weights of ImageNet; here it learns from scratch, from few images. So convolutions at
full and half resolution embed the patches (Xiao et al. 2021, arXiv:2106.14881). They also keep the fine skips, which a
patch of 4^n voxels loses. Attention works from a quarter of the resolution downwards.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg.networks.blocks import CONV, StepUp, cut_windows, join_windows, step_down
from ucseg.networks.levels import StridedLevels
from ucseg.networks.unet import DoubleConv
from ucseg.types import Problem

STEM = 2  # levels of convolutions, above those of attention
WINDOW = {2: 8, 3: 4}  # 64 tokens a window in either rank
HEAD_WIDTH = 32


class WindowAttention(nn.Module):
    """Self-attention inside windows of a grid, with a learned bias for each relative position.

    Shifted windows are cut from a grid that is padded by half a window at its start; padding is no key. Swin's masked
    cyclic shift computes the same, but wraps one end round to the other.
    """

    def __init__(self, dims: int, width: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.heads, self.shifted = WINDOW[dims], width // HEAD_WIDTH, shifted
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(self.heads, *(2 * self.window - 1,) * dims) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """B x S x K -> B x S x K. Any grid S; a window is never larger than the grid."""
        grid = tuple(x.shape[1:-1])
        window = tuple(min(self.window, size) for size in grid)
        # Where one window holds the whole axis there is nothing to shift.
        first = [w // 2 if self.shifted and size > w else 0 for size, w in zip(grid, window, strict=True)]
        last = [-(size + f) % w for size, f, w in zip(grid, first, window, strict=True)]
        pads = [0, 0, *(pad for pair in zip(reversed(first), reversed(last), strict=True) for pad in pair)]
        is_key = cut_windows(F.pad(x.new_ones(1, *grid, 1, dtype=torch.float32), pads), window)[..., 0] > 0
        tokens = cut_windows(F.pad(x, pads), window)
        # B x windows x heads x tokens x head width, three times.
        q, k, v = (
            part.reshape(*part.shape[:3], self.heads, HEAD_WIDTH).transpose(2, 3)
            for part in self.query_key_value(tokens).chunk(3, dim=-1)
        )
        score = (q @ k.transpose(-1, -2)).float() * HEAD_WIDTH**-0.5 + self.relative_bias(window)
        score = score.masked_fill(~is_key[:, :, None, None], float("-inf"))
        out = (score.softmax(dim=-1).to(v.dtype) @ v).transpose(2, 3).flatten(3)
        padded = tuple(size + f + e for size, f, e in zip(grid, first, last, strict=True))
        inside: Any = (slice(None), *(slice(f, f + size) for f, size in zip(first, grid, strict=True)))
        joined: Tensor = self.project(join_windows(out, padded, window)[inside])
        return joined

    def relative_bias(self, window: tuple[int, ...]) -> Tensor:
        """heads x N x N: the bias of each pair of a window's N tokens."""
        edges = (torch.arange(w, device=self.bias.device) for w in window)
        place = torch.stack(torch.meshgrid(*edges, indexing="ij")).flatten(1)
        apart = place[:, :, None] - place[:, None] + self.window - 1
        index: Any = (slice(None), *apart)
        return self.bias[index]


class SwinBlock(nn.Module):
    """Pre-norm attention in windows and a perceptron of four times the width, each added to its input."""

    def __init__(self, dims: int, width: int, shifted: bool) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(dims, width, shifted)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """B x S x K -> B x S x K."""
        x = x + self.attention(self.norm_1(x))
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


class SwinStage(nn.Module):
    """A 1^n convolution if the width changes, then a pair of blocks: windows as they are, and shifted ones."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.embed = CONV[dims](inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.blocks = nn.Sequential(SwinBlock(dims, outputs, False), SwinBlock(dims, outputs, True))
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S."""
        out: Tensor = self.norm(self.blocks(self.embed(x).permute(0, *range(2, x.ndim), 1)))
        return out.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


class SwinUNet(StridedLevels):
    """Two levels of convolutions and three of windowed attention, on the way down and up again.

    Patch merging is a 2^n convolution of stride two, patch expanding a transposed one: the linear maps of the papers.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        dims, widths = problem.dims, self.widths
        pairs = list(zip(itertools.pairwise(widths), self.strides, strict=True))

        def stage(level: int, inputs: int) -> nn.Module:
            width = widths[level]
            if level < STEM:
                return DoubleConv(dims, inputs, width, 0.0, problem.norm)
            return SwinStage(dims, inputs, width)

        self.encoder = nn.ModuleList(stage(level, w if level else problem.channels) for level, w in enumerate(widths))
        self.down = nn.ModuleList(step_down(dims, a, b, s) for (a, b), s in pairs)
        self.up = nn.ModuleList(StepUp(dims, b, a, s) for (a, b), s in reversed(pairs))
        self.decoder = nn.ModuleList(stage(level, 2 * widths[level]) for level in reversed(range(len(pairs))))
        self.head = CONV[dims](widths[0], problem.classes, 1)
