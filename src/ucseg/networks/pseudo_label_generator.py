"""UPG: fuses the logits of two subnets, weighted by the uncertainty of each (docs/methods/uc_seg.md, UPG 2 to 4).

`methods/uc_seg.py` makes the pseudo-labels from the logits that it returns.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ucseg.networks.blocks import BATCH_NORM, CONV, LINEAR, crop_to, cut_windows, join_windows, pad_to_multiple

Gate = Literal["softmax", "published", "none"]
FUSION_WIDTHS = (16, 32, 64, 32, 16)
PUBLISHED_ATTENTION = {2: 96, 3: 1024}
"""How wide tokens are."""
HEADS = 8
LEAST_HEAD_WIDTH = 64
MLP_WIDTH = 384
DROPOUT = 0.1


class UncertaintyAttention(nn.Module):
    """Cross-attention between two vacuity maps: queries from the first, keys and values from the second.

    Args:
        dims: 2 or 3.
        patch: image size S of the learned position embedding; it is interpolated for other sizes.
        token: edge lengths of the patches that become tokens.
        outputs: maps to return.
        width: of a token.
    """

    def __init__(self, dims: int, patch: tuple[int, ...], token: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        # At the published widths 64 in 2D and 128 in 3D, as in the paper.
        head_width = max(LEAST_HEAD_WIDTH, width // HEADS)
        self.dims, self.token, self.heads, self.head_width = dims, token, HEADS, head_width
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
        padded = [pad_to_multiple(u, self.token).movedim(1, -1) for u in (u_query, u_context)]
        query, context = (cut_windows(u, self.token)[..., 0] for u in padded)
        size = tuple(padded[0].shape[1:-1])
        grid = tuple(edge // token for edge, token in zip(size, self.token, strict=True))
        position: Tensor = self.position
        if tuple(position.shape[2:]) != grid:
            position = F.interpolate(position, size=grid, mode=LINEAR[self.dims], align_corners=False)
        position = position.flatten(2).transpose(1, 2)
        tokens = self.dropout(self.embed_query(query) + position)
        others = self.dropout(self.embed_context(context) + position)
        q, k, v = (
            layer(x).reshape(*x.shape[:2], HEADS, self.head_width).transpose(1, 2)
            for layer, x in ((self.query, tokens), (self.key, others), (self.value, others))
        )
        x = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(x)
        voxels = self.to_pixels(x).reshape(*x.shape[:2], -1, math.prod(self.token)).transpose(-1, -2)
        maps = join_windows(voxels, size, self.token).permute(0, self.dims + 1, *range(1, self.dims + 1)).contiguous()
        return crop_to(maps, shape).float()


class PseudoLabelGenerator(nn.Module):
    """Weighs the logits of both subnets and fuses them with 1^n convolutions, six in the paper.

    Args:
        gate: "softmax": one gate a subnet, softmax over the two (CORRECTION: bounded and positive);
            "published": one unbounded map for both; "none": no weighting by uncertainty, plain fusion.
        residual: add the gated mean of the two logits to the fused ones. DEVIATION: with the last convolution
            starting at zero the module starts as the mean of the two subnets instead of as noise. So
            pseudo-labels are useful from the first steps on.
        widths: channels between the convolutions.
        attention: how wide the tokens of the attention are; None: as in the paper.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        patch: tuple[int, ...],
        token: tuple[int, ...],
        gate: Gate,
        residual: bool,
        widths: tuple[int, ...] = FUSION_WIDTHS,
        attention: int | None = None,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.residual = residual
        if gate != "none":
            outputs = 2 if gate == "softmax" else 1
            self.attention = UncertaintyAttention(dims, patch, token, outputs, attention or PUBLISHED_ATTENTION[dims])
        layers: list[nn.Module] = []
        for inputs, outputs in zip((2 * classes, *widths), widths, strict=False):
            layers += [
                CONV[dims](inputs, outputs, 1, bias=False),
                BATCH_NORM[dims](outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        # CORRECTION: the last layer is a plain convolution with bias, so that logits keep their sign.
        last = CONV[dims](widths[-1], classes, 1)
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
