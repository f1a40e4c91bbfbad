"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) in the widths of UC-Seg's first subnet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from ucseg.networks.blocks import CONV, StepUp, norm, up_sample
from ucseg.networks.cpu import Dropout, max_pool
from ucseg.networks.levels import Levels, concatenate, go_up, steps_of, widths_of
from ucseg.types import Norm, Problem

UpSampling = Literal["linear", "nearest", "transposed"]
DROPOUT_2D = (0.05, 0.1, 0.2, 0.3, 0.5)
BOTTOM_DROPOUT_3D = 0.3
HEAD_DROPOUT = {2: 0.0, 3: 0.3}


def encoder_dropout(problem: Problem) -> tuple[float, ...]:
    """The rate of each encoder level, finest first."""
    levels = len(widths_of(problem))
    if not problem.dropout:
        return (0.0,) * levels
    return DROPOUT_2D if problem.dims == 2 else (*(0.0,) * (levels - 1), BOTTOM_DROPOUT_3D)


class DoubleConv(nn.Module):
    """Two 3^n convolutions, each with norm and activation: leaky ReLU (2D) or ReLU (3D)."""

    def __init__(self, dims: int, inputs: int, outputs: int, dropout: float, kind: Norm) -> None:
        super().__init__()

        def norm_and_activation() -> list[nn.Module]:
            return [norm(dims, outputs, kind), nn.LeakyReLU(0.01, inplace=True) if dims == 2 else nn.ReLU(inplace=True)]

        # No bias: the norm would remove it.
        self.layers = nn.Sequential(
            CONV[dims](inputs, outputs, 3, padding=1, bias=False),
            *norm_and_activation(),
            Dropout(dropout),
            CONV[dims](outputs, outputs, 3, padding=1, bias=False),
            *norm_and_activation(),
        )

    @property
    def parts(self) -> Iterable[nn.Module]:
        """Its layers; see `levels.py`."""
        return self.layers.children()

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x S -> B x outputs x S."""
        out: Tensor = self.layers(x)
        return out


class UNetDecoder(nn.Module):
    """The way up: up-sampling, concatenation with the encoder's map, two convolutions; after the last level a head.

    Args:
        up: "linear" and "nearest" interpolate after a 1^n convolution, "transposed" is a convolution of the stride.
    """

    def __init__(self, problem: Problem, up: UpSampling = "linear") -> None:
        super().__init__()
        dims, steps = problem.dims, steps_of(problem)
        widths = widths_of(problem)
        self.up, self.widths = up, widths[-2::-1]
        pairs = zip(self.widths, widths[:0:-1], steps[::-1], strict=True)
        self.reduce = nn.ModuleList(
            StepUp(dims, b, a, step) if up == "transposed" else CONV[dims](b, a, 1) for a, b, step in pairs
        )
        self.blocks = nn.ModuleList(DoubleConv(dims, 2 * a, a, 0.0, problem.norm) for a in self.widths)
        self.head_dropout = Dropout(HEAD_DROPOUT[dims] if problem.dropout else 0.0)
        self.head = CONV[dims](widths[0], problem.classes, 1)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """What comes up from below, at the size of the encoder's map, and that map."""
        return concatenate(x if self.up == "transposed" else up_sample(x, skip.shape[2:], self.up), skip)

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """Encoder maps, finest first -> decoder maps, coarsest first, of `widths` channels."""
        return go_up(features, self.reduce, self.blocks, self.join)

    def logits(self, finest: Tensor) -> Tensor:
        """The last of the decoder maps -> logits of the padded image, B x C x S' float32."""
        logits: Tensor = self.head(self.head_dropout(finest))
        return logits.float()

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.logits([features[-1], *self.maps(features)][-1])


class UNet(Levels):
    """Max-pool down, up-sampling (`UNetDecoder`) and concatenation."""

    def __init__(self, problem: Problem, up: UpSampling = "linear") -> None:
        super().__init__(problem)
        dims, inputs = problem.dims, (problem.channels, *self.widths)
        pairs = zip(inputs, self.widths, encoder_dropout(problem), strict=False)
        self.encoder = nn.ModuleList(DoubleConv(dims, a, b, p, problem.norm) for a, b, p in pairs)
        self.decoder = UNetDecoder(problem, up)

    def step_down(self, x: Tensor, level: int) -> Tensor:
        return max_pool(x, self.strides[level - 1])

    def decode(self, features: list[Tensor]) -> Tensor:
        logits: Tensor = self.decoder(features)
        return logits


class ThinUNet(UNet):
    """U-Net with half of the channels of the problem: a quarter of the work. Not in the paper."""

    def __init__(self, problem: Problem, up: UpSampling = "linear") -> None:
        super().__init__(replace(problem, width=max(1, problem.width // 2)), up)
