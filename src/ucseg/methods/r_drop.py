"""R-Drop, regularised dropout (Wu et al., NeurIPS 2021, arXiv:2106.14448), for semi-supervised segmentation.

Two passes of the same images through the same network differ by dropout alone, and should agree:

    L = 1/2 sum_k L_sup(z_k, y) + w(t) 1/2 [ KL(p_1 | p_2) + KL(p_2 | p_1) ],  w(t) = weight * ramp(t)

with the agreement on labelled and unlabelled images. The paper's is on labelled data, which it has in plenty.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.errors import UserError
from ucseg.losses.consistency import symmetric_divergence
from ucseg.losses.segmentation import segmentation_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import Method
from ucseg.methods.ensemble import mean_prediction
from ucseg.networks import build_network
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput


class RDropConfig(Strict):
    """Settings of R-Drop."""

    network: str = "unet"
    agreement_weight: float = Field(1.0, ge=0)  # alpha; the paper uses 1 to 5, and 0.6 for images
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper has none


class RDrop(Method):
    """See the module's docstring."""

    Config = RDropConfig
    config: RDropConfig

    def __init__(self, config: RDropConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.network = build_network(config.network, problem)
        if not any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.network.modules()):
            raise UserError(
                "todo",
                f"r_drop needs a network with dropout, and '{config.network}' has none; use network=unet.",
            )

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L_sup of both passes, which share a batch and so their batch statistics, and their agreement."""
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z_1, z_2 = self.network(torch.cat([image, image]))[0].chunk(2)
        weight = config.agreement_weight * sigmoid_ramp(progress.fraction, config.ramp)
        supervised = [segmentation_loss(z[:n], batch.label, binary) for z in (z_1, z_2)]
        return StepOutput(
            {
                "supervised": torch.stack(supervised).mean(),
                "agreement": weight * symmetric_divergence(z_1, z_2, binary),
            }
        )

    def predict(self, image: Tensor) -> Prediction:
        """What the network says, without dropout."""
        return mean_prediction({self.config.network: self.network(image)[0]}, self.problem.binary)
