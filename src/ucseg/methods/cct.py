"""CCT, cross-consistency training (Ouali, Hudelot & Tami, CVPR 2020, arXiv:2003.09005).

Auxiliary decoders see perturbed features of the shared encoder. They should predict the same as the main decoder:

    L = L_sup(g(h(x_l)), y) + w(t) 1/K sum_k mean |sigma(g_k(pi_k(h(x_u)))) - sg sigma(g(h(x_u)))|^2

The perturbations pi_k are the paper's feature noise, random dropout of channels, and feature dropout.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ucseg.config import Strict
from ucseg.losses.segmentation import class_probabilities, supervised_loss
from ucseg.method_parts.perturbation import PERTURBATIONS
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.networks.blocks import crop_to
from ucseg.networks.unet import UNet, UNetDecoder
from ucseg.types import Batch, Problem, Progress, StepOutput

Name = Literal["feature_noise", "channel_dropout", "feature_dropout"]


class CCTConfig(Strict):
    perturbations: tuple[Name, ...] = Field(get_args(Name), min_length=1)  # an auxiliary decoder each
    consistency_weight: float = Field(1.0, ge=0, le=1000)  # DEVIATION: the paper's 30, with a longer ramp
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. The paper's: 0.1


class CCT(OneNetwork):
    """See the module's docstring. The network is a U-Net; its skips are perturbed like its lowest level."""

    Config = CCTConfig
    config: CCTConfig
    network: UNet

    def __init__(self, config: CCTConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.auxiliary = nn.ModuleDict({name: UNetDecoder(problem) for name in config.perturbations})

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z, features = self.network(image)
        target = class_probabilities(z[n:].detach(), binary)
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp) / len(self.auxiliary)
        terms = {"supervised": supervised_loss(z[:n], batch, binary)}
        for name, decoder in self.auxiliary.items():
            generator = progress.generator(name)
            perturbed = [PERTURBATIONS[name](level[n:], generator) for level in features]
            z_k = crop_to(decoder(perturbed), tuple(image.shape[2:]))
            terms[f"consistency_{name}"] = weight * F.mse_loss(class_probabilities(z_k, binary), target)
        return StepOutput(terms)
