"""Entropy minimisation (Grandvalet & Bengio, NeurIPS 2004; for segmentation Vu et al., CVPR 2019, arXiv:1811.12833).

The predictions of unlabelled images should be sure:

    L = L_sup(f(x_l), y) + w(t) mean [ -sum_c p_c log p_c / log C ],  p = softmax(f(x_u)),  w(t) = weight * ramp(t)
"""

from __future__ import annotations

import math

import torch
from pydantic import Field

from ucseg.config import Strict
from ucseg.losses.segmentation import normalised_probabilities, supervised_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.method_parts.uncertainty import entropy
from ucseg.methods.base import OneNetwork
from ucseg.types import Batch, Progress, StepOutput


class EntropyMinConfig(Strict):
    network: str = "unet"
    entropy_weight: float = Field(0.1, ge=0, le=1000)  # as in semi-supervised comparisons; for domains: 0.001
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here


class EntropyMin(OneNetwork):
    Config = EntropyMinConfig
    config: EntropyMinConfig

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        z, _ = self.network(torch.cat([batch.labelled, batch.unlabelled["image"]]))
        weight = config.entropy_weight * sigmoid_ramp(progress.fraction, config.ramp)
        unsure = entropy(normalised_probabilities(z[n:], binary)).mean() / math.log(z.shape[1])
        return StepOutput({"supervised": supervised_loss(z[:n], batch, binary), "entropy": weight * unsure})
