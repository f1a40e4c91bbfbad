"""MC-Net+, mutual consistency (Wu et al., MICCAI 2021, arXiv:2103.02911; MedIA 81:102530, 2022, arXiv:2109.09960).

One encoder has K decoders, which differ only in how they up-sample. Where their predictions differ, the image is hard.
On all images each decoder is drawn to the sharpened predictions of the others:

    L = sum_k L_sup(z_k, y) + w(t) sum_{k != j} mean |p_k - sg s(p_j)|^2,  w(t) = weight * ramp(t)
    s(p) = p^(1/T) / (p^(1/T) + (1 - p)^(1/T))
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.losses.consistency import sharpen
from ucseg.losses.segmentation import class_probabilities, supervised_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import Method, mean_prediction
from ucseg.networks import build_network, member_names
from ucseg.networks.blocks import crop_to
from ucseg.networks.unet import UNet, UNetDecoder, UpSampling
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput


class MCNetConfig(Strict):
    decoders: tuple[UpSampling, ...] = Field(("transposed", "linear", "nearest"), min_length=2)  # MC-Net: the first two
    temperature: float = Field(0.1, gt=0, le=1)
    consistency_weight: float = Field(1.0, ge=0, le=1000)
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the code 0.4


class MCNet(Method):
    Config = MCNetConfig
    config: MCNetConfig

    def __init__(self, config: MCNetConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        first, *others = config.decoders
        self.network = cast(UNet, build_network("unet", problem))
        self.network.decoder = UNetDecoder(problem, first)
        self.others = nn.ModuleList(UNetDecoder(problem, up) for up in others)

    def decode(self, image: Tensor) -> list[Tensor]:
        """Logits of each decoder, from the same features of the encoder."""
        features = self.network.encode(image)
        return [crop_to(decoder(features), tuple(image.shape[2:])) for decoder in (self.network.decoder, *self.others)]

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        z = self.decode(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        p = [class_probabilities(z_k, binary) for z_k in z]
        # DEVIATION: the published code lets the gradient through the target too; the paper calls it a pseudo-label.
        target = [sharpen(p_k.detach(), config.temperature) for p_k in p]
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp)
        terms = {}
        for k in range(len(z)):
            apart = [F.mse_loss(p[k], target[j]) for j in range(len(z)) if j != k]
            terms[f"supervised_{k + 1}"] = supervised_loss(z[k][:n], batch, binary)
            terms[f"consistency_{k + 1}"] = weight * torch.stack(apart).sum()
        return StepOutput(terms)

    def predict(self, image: Tensor) -> Prediction:
        """The mean of the decoders, which are members. The published tests report the first one and the mean."""
        names = member_names(self.config.decoders)
        return mean_prediction(dict(zip(names, self.decode(image), strict=True)), self.problem.binary)
