"""Cross teaching between CNN and transformer (Luo, Hu, Song, Wang & Zhang, MIDL 2022, arXiv:2112.04894).

Two networks of different kinds make different errors: a convolutional one sees what is near, a transformer sees far.
On the unlabelled images the hard prediction of each network is the label of the other:

    L = sum_k L_sup(z_k, y) + w(t) [ Dice(p_1, argmax z_2) + Dice(p_2, argmax z_1) ],  w(t) = weight * ramp(t)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.segmentation import class_probabilities, dice_loss, most_likely, supervised_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import SideBySide, mean_prediction
from ucseg.types import Batch, Prediction, Progress, StepOutput


class CrossTeachingConfig(Strict):
    networks: tuple[str, str] = ("unet", "swin_unet")  # the paper's, the second one much smaller than Swin-Unet
    # DEVIATION: the paper's 0.1, next to a supervised loss of half our size, reaches its height after 30,000 steps.
    cross_weight: float = Field(0.5, ge=0, le=1000)
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper's is 1
    predict_with: Literal["first", "mean"] = "first"  # the paper's: the convolutional network


class CrossTeaching(SideBySide):
    Config = CrossTeachingConfig
    config: CrossTeachingConfig

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z = list(self.logits(image).values())
        weight = config.cross_weight * sigmoid_ramp(progress.fraction, config.ramp)
        terms = {}
        for k in (0, 1):
            taught = most_likely(z[1 - k][n:].detach())
            terms[f"supervised_{k + 1}"] = supervised_loss(z[k][:n], batch, binary)
            terms[f"cross_{k + 1}"] = weight * dice_loss(class_probabilities(z[k][n:], binary), taught)
        return StepOutput(terms)

    def predict(self, image: Tensor) -> Prediction:
        """The first network, or the mean of both; both are members."""
        logits = self.logits(image)
        both = mean_prediction(logits, self.problem.binary)
        if self.config.predict_with == "mean":
            return both
        first = next(iter(logits.values()))
        return replace(mean_prediction({"first": first}, self.problem.binary), members=both.members)
