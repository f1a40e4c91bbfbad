"""UPG: fuses the logits of two subnets, weighted by the uncertainty of each (method.md, "UPG", steps 1-4)."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ucseg.networks.blocks import BATCH_NORM, CONV, LINEAR, crop_to, pad_to_multiple

Gate = Literal["softmax", "published", "none"]
FUSION_WIDTHS = (16, 32, 64, 32, 16)
EMBEDDING = {2: 96, 3: 1024}
HEADS = 8
HEAD_WIDTH = {2: 64, 3: 128}
MLP_WIDTH = 384
DROPOUT = 0.1


class UncertaintyAttention(nn.Module):
    """Cross-attention between two vacuity maps: queries from the first, keys and values from the second.

    Args:
        dims: 2 or 3.
        patch: image size S of the learned position embedding; it is interpolated for other sizes.
        token: edge lengths of the patches that become tokens.
        outputs: maps to return.
    """

    def __init__(
        self,
        dims: int,
        patch: tuple[int, ...],
        token: tuple[int, ...],
        outputs: int,
    ) -> None:
        super().__init__()
        width = EMBEDDING[dims]
        self.dims, self.token, self.heads, self.head_width = dims, token, HEADS, HEAD_WIDTH[dims]
        grid = [-(-size // edge) for size, edge in zip(patch, token, strict=True)]
        voxels = math.prod(token)
        self.embed_query = nn.Linear(voxels, width)
        self.embed_context = nn.Linear(voxels, width)
        self.position = nn.Parameter(torch.randn(1, width, *grid) * 0.02)
        self.dropout = nn.Dropout(DROPOUT)
        self.query = nn.Linear(width, HEADS * self.head_width)
        self.key = nn.Linear(width, HEADS * self.head_width, bias=False)  # the softmax would cancel a bias
        self.value = nn.Linear(width, HEADS * self.head_width)
        self.project = nn.Linear(HEADS * self.head_width, width)
        self.mlp = nn.Sequential(nn.Linear(width, MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, width))
        self.to_pixels = nn.Linear(width, outputs * voxels)

    def forward(self, u_query: Tensor, u_context: Tensor) -> Tensor:
        """Two B x 1 x S vacuity maps -> B x outputs x S. Any S."""
        shape = tuple(u_query.shape[2:])
        query, grid = cut_tokens(pad_to_multiple(u_query, self.token), self.token)
        context, _ = cut_tokens(pad_to_multiple(u_context, self.token), self.token)
        position: Tensor = self.position
        if tuple(position.shape[2:]) != grid:
            position = F.interpolate(position, size=grid, mode=LINEAR[self.dims], align_corners=False)
        position = position.flatten(2).transpose(1, 2)
        tokens = self.dropout(self.embed_query(query) + position)
        others = self.dropout(self.embed_context(context) + position)
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, self.head_width)).transpose(1, 2)
            for layer, x in ((self.query, tokens), (self.key, others), (self.value, others))
        )
        x = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(x)
        return crop_to(join_tokens(self.to_pixels(x), grid, self.token), shape).float()


def cut_tokens(x: Tensor, token: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Maps B x 1 x S -> (tokens B x N x voxels, the grid of the N tokens); S must be a multiple of `token`."""
    grid = tuple(size // edge for size, edge in zip(x.shape[2:], token, strict=True))
    dims = len(token)
    pairs = [value for pair in zip(grid, token, strict=True) for value in pair]
    order = [1 + 2 * axis for axis in range(dims)] + [2 + 2 * axis for axis in range(dims)]
    return x.reshape(len(x), *pairs).permute(0, *order).reshape(len(x), math.prod(grid), math.prod(token)), grid


def join_tokens(x: Tensor, grid: tuple[int, ...], token: tuple[int, ...]) -> Tensor:
    """Tokens B x N x (K voxels) -> maps B x K x S: the inverse of `cut_tokens`, for K maps."""
    dims = len(token)
    order = [value for axis in range(dims) for value in (1 + axis, 2 + dims + axis)]
    size = [edge * count for edge, count in zip(token, grid, strict=True)]
    return x.reshape(len(x), *grid, -1, *token).permute(0, 1 + dims, *order).reshape(len(x), -1, *size)


class PseudoLabelGenerator(nn.Module):
    """Weighs the logits of both subnets and fuses them with six 1^n convolutions.

    Args:
        gate: "softmax": one gate a subnet, softmax over the two (CORRECTION of method.md: bounded and positive);
            "published": one unbounded map for both; "none": no weighting by uncertainty, plain fusion.
        residual: add the gated mean of the two logits to the fused ones. DEVIATION: with the last convolution
            starting at zero the module starts as the mean of the two subnets instead of as noise. So
            pseudo-labels are useful from the first steps on.
    """

    def __init__(
        self, dims: int, classes: int, patch: tuple[int, ...], token: tuple[int, ...], gate: Gate, residual: bool
    ) -> None:
        super().__init__()
        self.gate = gate
        self.residual = residual
        if gate != "none":
            self.attention = UncertaintyAttention(dims, patch, token, outputs=2 if gate == "softmax" else 1)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((2 * classes, *FUSION_WIDTHS), FUSION_WIDTHS, strict=False):
            layers += [
                CONV[dims](inputs, outputs, 1, bias=False),
                BATCH_NORM[dims](outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        # CORRECTION: the last layer is a plain convolution with bias, so that logits keep their sign.
        last = CONV[dims](FUSION_WIDTHS[-1], classes, 1)
        if residual:
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
        self.fusion = nn.Sequential(*layers, last)

    def weights(self, u_1: Tensor, u_2: Tensor) -> Tensor:
        """Two B x 1 x S vacuity maps -> the weights A of the two subnets, B x 2 x S."""
        if self.gate == "none":
            return torch.full_like(u_1, 0.5).expand(-1, 2, *u_1.shape[2:])
        maps: Tensor = self.attention(u_1, u_2)
        return maps.softmax(dim=1) if self.gate == "softmax" else maps.expand(-1, 2, *maps.shape[2:])

    def _fused(self, x: Tensor) -> Tensor:
        """B x 2C x S -> B x C x S. In prediction each batch norm is a part of the convolution before it."""
        if self.training or torch.is_grad_enabled():  # the joint weights are copies and pass no gradient
            fused: Tensor = self.fusion(x)
            return fused
        layers: list[Any] = list(self.fusion)
        for convolution, normalisation, activation in zip(layers[0:-1:3], layers[1:-1:3], layers[2:-1:3], strict=True):
            x = activation(fuse_conv_bn_eval(convolution, normalisation)(x))
        return cast(Tensor, layers[-1](x))

    def forward(self, z_1: Tensor, z_2: Tensor, u_1: Tensor, u_2: Tensor) -> Tensor:
        """Logits B x C x S of both subnets and their vacuity maps B x 1 x S -> fused logits z_p, B x C x S float32."""
        a = self.weights(u_1, u_2)
        weighted_1, weighted_2 = a[:, :1] * z_1, a[:, 1:] * z_2
        fused = self._fused(torch.cat([weighted_1, weighted_2], dim=1)).float()
        return fused + weighted_1 + weighted_2 if self.residual else fused
