"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) in the widths of UC-Seg's first subnet."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ucseg.networks.blocks import (
    CONV,
    Dropout,
    StepUp,
    crop_to,
    levels,
    max_pool,
    norm,
    pad_to_multiple,
    up_sample,
)
from ucseg.types import Strides

UpSampling = Literal["linear", "nearest", "transposed"]
WIDTHS = (16, 32, 64, 128, 256)
DROPOUT_2D = (0.05, 0.1, 0.2, 0.3, 0.5)
BOTTOM_DROPOUT_3D = 0.3
HEAD_DROPOUT = {2: 0.0, 3: 0.3}


class DoubleConv(nn.Module):
    """Two 3^n convolutions, each with norm and activation: batch norm + leaky ReLU (2D), instance norm + ReLU (3D)."""

    def __init__(self, dims: int, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()

        def norm_and_activation() -> list[nn.Module]:
            return [norm(dims, outputs), nn.LeakyReLU(0.01, inplace=True) if dims == 2 else nn.ReLU(inplace=True)]

        # The norm takes any bias away again, so the convolutions have none.
        self.layers = nn.Sequential(
            CONV[dims](inputs, outputs, 3, padding=1, bias=False),
            *norm_and_activation(),
            Dropout(dropout),
            CONV[dims](outputs, outputs, 3, padding=1, bias=False),
            *norm_and_activation(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S."""
        out: Tensor = self.layers(x)
        return out


class UNetDecoder(nn.Module):
    """The way up: up-sampling, concatenation with the encoder's features, two convolutions, and a head.

    Args:
        up: "linear" and "nearest" interpolate after a 1^n convolution, "transposed" is a convolution of the stride.
        strides: of the encoder.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        widths: tuple[int, ...] = WIDTHS,
        up: UpSampling = "linear",
        strides: Strides | None = None,
    ) -> None:
        super().__init__()
        steps, _ = levels(strides, dims, len(widths))
        widths = widths[: len(steps) + 1]
        self.dims, self.up = dims, up
        self.widths = widths[-2::-1]
        pairs = zip(widths[-2::-1], widths[:0:-1], steps[::-1], strict=True)
        self.reduce = nn.ModuleList(
            StepUp(dims, b, a, step) if up == "transposed" else CONV[dims](b, a, 1) for a, b, step in pairs
        )
        self.blocks = nn.ModuleList(DoubleConv(dims, 2 * a, a, 0.0) for a in self.widths)
        self.head_dropout = Dropout(HEAD_DROPOUT[dims])
        self.head = CONV[dims](widths[0], classes, 1)

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """Encoder features, finest first -> decoder maps, coarsest first, of `widths` channels; the last is full size.

        The size of a map is that of the encoder's features of its level.
        """
        x, maps = features[-1], []
        for reduce, block, skip in zip(self.reduce, self.blocks, features[-2::-1], strict=True):
            x = reduce(x)
            if self.up != "transposed":
                x = up_sample(x, skip.shape[2:], self.up)
            x = block(torch.cat([skip, x.to(skip.dtype)], dim=1))
            maps.append(x)
        return maps

    def forward(self, features: list[Tensor]) -> Tensor:
        """Encoder features, finest first -> logits of the padded image, B x C x S' float32."""
        logits: Tensor = self.head(self.head_dropout(self.maps(features)[-1]))
        return logits.float()


class UNet(nn.Module):
    """Max-pool down, linear up-sampling and concatenation.

    Args:
        dims: 2 or 3.
        channels: image channels Cin.
        classes: C, background included.
        widths: channels of the encoder levels, as many as `strides` make.
        up: how the decoder up-samples.
        strides: from one level to the next, as in `Problem`.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        widths: tuple[int, ...] = WIDTHS,
        up: UpSampling = "linear",
        strides: Strides | None = None,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.strides, self.multiple = levels(strides, dims, len(widths))
        self.widths = widths = widths[: len(self.strides) + 1]
        dropout = DROPOUT_2D if dims == 2 else (*(0.0,) * len(self.strides), BOTTOM_DROPOUT_3D)
        self.encoder = nn.ModuleList(
            DoubleConv(dims, a, b, p) for a, b, p in zip((channels, *widths), widths, dropout, strict=False)
        )
        self.decoder = UNetDecoder(dims, classes, widths, up, self.strides)

    def encode(self, image: Tensor) -> list[Tensor]:
        """B x Cin x S -> one feature map an encoder level, finest first. Any S: padded to what the levels divide."""
        x = pad_to_multiple(image, self.multiple)
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else max_pool(x, self.strides[level - 1]))
            features.append(x)
        return features

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """B x Cin x S -> (logits B x C x S float32, one feature map an encoder level). Any S: padded, then cropped."""
        features = self.encode(image)
        return crop_to(self.decoder(features), tuple(image.shape[2:])), features
