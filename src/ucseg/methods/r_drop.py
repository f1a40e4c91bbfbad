"""R-Drop, regularised dropout (Wu et al., NeurIPS 2021, arXiv:2106.14448), for semi-supervised segmentation.

Two passes of the same images through the same network differ by dropout alone, and should agree:

    L = 1/2 sum_k L_sup(z_k, y) + w(t) 1/2 [ KL(p_1 | p_2) + KL(p_2 | p_1) ],  w(t) = weight * ramp(t)

Labelled and unlabelled images count in the agreement. The paper has many labels, and uses labelled images alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from ucseg.config import Strict
from ucseg.errors import UserError
from ucseg.losses.consistency import symmetric_divergence
from ucseg.losses.segmentation import supervised_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.types import Batch, Problem, Progress, StepOutput


class RDropConfig(Strict):
    network: str = "unet"
    agreement_weight: float = Field(1.0, ge=0, le=1000)  # alpha; the paper uses 1 to 5, and 0.6 for images
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper has none


class RDrop(OneNetwork):
    Config = RDropConfig
    config: RDropConfig

    def __init__(self, config: RDropConfig, problem: Problem) -> None:
        super().__init__(config, replace(problem, dropout=True))
        if not any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.network.modules()):
            raise UserError(
                "network-without-dropout",
                f"method r_drop: network '{config.network}' has no dropout; set method.network=unet.",
            )

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L_sup of both passes, and their agreement. Both are in one batch, and so have the same batch statistics."""
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z_1, z_2 = self.network(torch.cat([image, image]))[0].chunk(2)
        weight = config.agreement_weight * sigmoid_ramp(progress.fraction, config.ramp)
        supervised = [supervised_loss(z[:n], batch, binary) for z in (z_1, z_2)]
        agreement = weight * symmetric_divergence(z_1, z_2, binary)
        return StepOutput({"supervised": torch.stack(supervised).mean(), "agreement": agreement})
