"""SS-Net: smoothness and class separation (Wu et al., MICCAI 2022, arXiv:2203.01324).

On all images the prediction should resist the small change that would alter it most (virtual adversarial training,
Miyato et al. 2018, arXiv:1704.03976). Projected voxel features are drawn to the memory of their class:

    r = rho * argmax_|d|=1 D(sigma(f(x + xi d)), sigma(f(x))),   L_smooth = Dice(sigma(f(x + r)), argmax f(x))
    L_class = mean over voxels v of foreground class c of  1 - cos(q(g(v)), m),  m in memory of class c
    L = L_sup + w(t) (L_smooth + 0.2 L_class)

g, q: projection and prediction heads. Memory: g of labelled voxels with a right prediction, the surest first. The
background has no memory: it is many different things.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ucseg import ranks
from ucseg.config import Strict
from ucseg.losses.contrastive import PrototypeMemory
from ucseg.losses.segmentation import (
    class_probabilities,
    completed_label,
    dice_loss,
    most_likely,
    normalised_probabilities,
    supervised_loss,
)
from ucseg.method_parts.perturbation import adversarial_change, kept_statistics
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.networks.blocks import crop_to
from ucseg.networks.unet import UNet
from ucseg.randomness import on_device
from ucseg.types import Batch, Problem, Progress, StepOutput


class SSNetConfig(Strict):
    # rho, root mean square a voxel; null: 0.02 in 2D, 0.01 in 3D. Published: norm 6 of 256^2 pixels, 0.023, and
    # 10 of 112 x 112 x 80 voxels, 0.010.
    radius: float | None = Field(None, gt=0, le=1000)
    smooth_weight: float | None = Field(None, ge=0, le=1000)  # null: 0.1 in 2D, 1 in 3D, as in the code
    class_weight: float = Field(0.2, ge=0, le=1000)  # the code's: 0.1 of labelled and 0.1 of unlabelled voxels, over C
    width: int = Field(32, ge=1, le=1024)  # width of the projected features
    entries: int = Field(256, ge=1, le=65536)  # entries of the memory for each class
    voxels: int = Field(32, ge=1, le=65536)  # voxels of a class that enter the memory in a step
    samples: int = Field(256, ge=1, le=8192)  # voxels of a class drawn to the memory in a step: all would fill a GPU
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here


class SSNet(OneNetwork):
    """See the module's docstring. The network is a U-Net; voxel features are the last map of its decoder."""

    Config = SSNetConfig
    config: SSNetConfig
    network: UNet

    def __init__(self, config: SSNetConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        width = config.width
        self.project = nn.Sequential(nn.Linear(problem.width, width), nn.ReLU(), nn.Linear(width, width))
        self.match = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        flat = problem.dims == 2
        self.radius = config.radius or (0.02 if flat else 0.01)
        self.smooth_weight = (0.1 if flat else 1.0) if config.smooth_weight is None else config.smooth_weight
        self.memory = PrototypeMemory(problem.classes - 1, config.width, config.entries)  # of foreground classes

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits B x C x S and voxel features B x K x S."""
        decoder, shape = self.network.decoder, tuple(image.shape[2:])
        features = decoder.maps(self.network.encode(image))[-1]
        return crop_to(decoder.logits(features), shape), crop_to(features, shape)

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z, features = self(image)
        predicted = most_likely(z.detach())
        weight = sigmoid_ramp(progress.fraction, config.ramp)
        terms = {"supervised": supervised_loss(z[:n], batch, binary)}
        if self.smooth_weight:

            def probabilities(x: Tensor) -> Tensor:
                return class_probabilities(self(x)[0], binary)

            with kept_statistics(self.network):
                change = adversarial_change(probabilities, image, self.radius, progress.generator("direction"))
                moved = probabilities(image + change)
            terms["smooth"] = weight * self.smooth_weight * dice_loss(moved, predicted)
        if config.class_weight:
            label = torch.cat([completed_label(batch, predicted[:n]), predicted[n:]])
            terms["class"] = weight * config.class_weight * self.separation(features, label, progress)
            self.remember(z[:n].detach(), features[:n].detach(), batch.label, batch.annotated)
        return StepOutput(terms)

    def separation(self, features: Tensor, label: Tensor, progress: Progress) -> Tensor:
        """L_class of random voxels of each foreground class (features B x K x S, label B x S).

        Zero while the memory is empty.
        """
        flat, of = features.movedim(1, -1).flatten(0, -2), label.flatten()
        # The voxels of the class come first, in random order. Others may follow; they are weighed with zero, because a
        # lookup of their number would stall a GPU.
        draw = on_device(torch.rand(len(of), generator=progress.generator("voxels")), of.device)
        losses, counts = [], []
        for c in range(self.problem.classes - 1):
            rank = torch.where(of == c + 1, draw, 2.0)
            score, chosen = rank.topk(min(self.config.samples, len(of)), largest=False)
            q = F.normalize(self.match(self.project(flat[chosen])).float(), dim=1)
            filled = self.memory.filled[c].float()
            near = (q @ self.memory.values[c, :-1].T.clone() * filled).sum(dim=1) / filled.sum().clamp_min(1)
            valid = (score < 2.0) & (filled.sum() > 0)
            losses.append(torch.where(valid, 1.0 - near, torch.zeros_like(near)).sum())
            counts.append(valid.sum())
        loss, count = torch.stack(losses).sum(), torch.stack(counts).sum()
        loss, count = ranks.total(torch.stack([loss, count.to(loss.dtype)])).unbind()
        return loss / count.clamp_min(1)

    @torch.no_grad()
    def remember(self, z: Tensor, features: Tensor, label: Tensor, annotated: Tensor | None = None) -> None:
        """Put projections of labelled foreground voxels into the memory: the surest right predictions of each class."""
        flat, of = features.movedim(1, -1).flatten(0, -2), label.flatten()
        confidence, predicted = normalised_probabilities(z, self.problem.binary).max(dim=1)
        entries, keep = [], []
        for c in range(1, self.problem.classes):
            right = (of == c) & (predicted.flatten() == c)
            if annotated is not None:
                right &= annotated.flatten() > 0
            score, chosen = torch.where(right, confidence.flatten(), -1.0).topk(min(self.config.voxels, len(of)))
            entries.append(F.normalize(self.project(flat[chosen]).float(), dim=1))
            keep.append(score > 0)
        self.memory.push(torch.stack(entries, dim=1), torch.stack(keep, dim=1))
