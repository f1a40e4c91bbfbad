"""CPS, cross pseudo supervision (Chen, Yuan, Zeng & Wang, CVPR 2021, arXiv:2106.01226).

Two networks with different initial weights; each one's hard prediction is the other's label, on all images:

    L = sum_k L_sup(z_k, y) + w(t) [ CE(z_1, argmax z_2) + CE(z_2, argmax z_1) ],  w(t) = weight * ramp(t)
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.segmentation import cross_entropy, most_likely, segmentation_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import Method
from ucseg.methods.ensemble import mean_prediction
from ucseg.networks import build_networks
from ucseg.types import Batch, Prediction, Problem, Progress, StepOutput


class CPSConfig(Strict):
    """Settings of CPS."""

    networks: tuple[str, str] = ("unet", "unet")  # the paper's are two of a kind; any two can be named
    cross_weight: float = Field(1.5, ge=0)  # the paper's on PASCAL VOC without CutMix
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper has none


class CPS(Method):
    """See the module's docstring."""

    Config = CPSConfig
    config: CPSConfig

    def __init__(self, config: CPSConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.networks = build_networks(config.networks, problem)

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L_sup of each network, and each one's cross-entropy with the other's hard prediction."""
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z = [network(image)[0] for network in self.networks.values()]
        weight = config.cross_weight * sigmoid_ramp(progress.fraction, config.ramp)
        terms = {}
        for k in (0, 1):
            terms[f"supervised_{k + 1}"] = segmentation_loss(z[k][:n], batch.label, binary)
            terms[f"cross_{k + 1}"] = weight * cross_entropy(z[k], most_likely(z[1 - k].detach()), binary)
        return StepOutput(terms)

    def predict(self, image: Tensor) -> Prediction:
        """The mean of both networks. DEVIATION: the paper keeps the first one alone, which is a member here."""
        return mean_prediction({name: f(image)[0] for name, f in self.networks.items()}, self.problem.binary)
