"""What networks learn from images alone: to fill in hidden blocks (masked image modelling).

After nnssl's masked autoencoder for convolutional networks (Wald et al. 2024, arXiv:2410.23132), which hides blocks of
16 voxels, three quarters of the image. It is shaped like a method, so that the loop of training runs it.

    L = mean over hidden voxels of (f(x') - s(x))^2

x' is x with the image's mean in the hidden blocks, s(x) the image less its mean, over its deviation. So a network that
knows nothing has L = 1, in any normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ucseg import ranks
from ucseg.config import Strict
from ucseg.methods.base import SideBySide
from ucseg.networks import build_networks
from ucseg.networks.blocks import crop_to
from ucseg.randomness import on_device
from ucseg.types import Batch, Problem, Progress, StepOutput, Strength

NAME = "masked_images"
LEAST_BLOCKS = 4
"""Along an axis. Blocks of small patches are smaller."""


class MaskedImagesConfig(Strict):
    # those of uc_seg; each learns by itself
    networks: tuple[str, ...] = Field(("unet_strided", "unet_light"), min_length=1)
    hidden: float = Field(0.75, gt=0, lt=1)  # share of the blocks that is hidden; nnssl's
    block: int = Field(16, ge=1, le=1024)  # most voxels along the edge of a block; nnssl's

    @field_validator("networks")
    @classmethod
    def _each_once(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(networks)) < len(networks):
            raise ValueError("each network can be named once: what it learns goes to every network of its kind")
        return networks


class MaskedImages(SideBySide):
    """See the module's docstring. Each network has a map for each channel of the image, in place of the classes."""

    Config = MaskedImagesConfig
    config: MaskedImagesConfig
    views: Mapping[str, Strength] = {"image": "weak"}
    small_images = False  # not measured

    def __init__(self, config: MaskedImagesConfig, problem: Problem) -> None:
        super().__init__(config, replace(problem, classes=problem.channels, one_component=()))

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L of each network, on the unlabelled half alone."""
        image = batch.unlabelled["image"]
        axes = tuple(range(2, image.ndim))
        mean = image.mean(axes, keepdim=True)
        target = (image - mean) / image.std(axes, keepdim=True).clamp_min(1e-6)
        hidden = self.hide(image, progress)
        seen = torch.where(hidden, mean, image)
        where = hidden.expand_as(image).float()
        return StepOutput(
            {
                f"reconstruction_{name}": ((z - target).square() * where).sum() / where.sum()
                for name, z in self.logits(seen).items()
            }
        )

    def hide(self, image: Tensor, progress: Progress) -> Tensor:
        """B x 1 x S bool: the same number of blocks in each image, at other places in each."""
        shape, config = tuple(image.shape[2:]), self.config
        edges = [max(1, min(config.block, size // LEAST_BLOCKS)) for size in shape]
        grid = [-(-size // edge) for size, edge in zip(shape, edges, strict=True)]
        blocks = math.prod(grid)
        drawn = torch.rand((len(image) * ranks.size(), blocks), generator=progress.generator("hidden blocks"))
        places = ranks.own(drawn.argsort(dim=1) < max(1, round(config.hidden * blocks)))
        hidden = places.reshape(len(image), 1, *grid)
        for axis, edge in enumerate(edges, start=2):
            hidden = hidden.repeat_interleave(edge, dim=axis)
        return on_device(crop_to(hidden, shape), image.device)

    def learned(self) -> dict[str, Tensor]:
        """The networks' tensors by name of the network, without those whose shape depends on the classes: the heads."""
        other = replace(self.problem, classes=self.problem.classes + 1)
        shapes = {name: value.shape for name, value in build_networks(self.config.networks, other).state_dict().items()}
        own = self.networks.state_dict()
        return {name: value for name, value in own.items() if value.shape == shapes[name]}
