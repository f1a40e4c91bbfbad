"""Supervised training on the labelled cases only: the baseline on the same footing, and with all labels the ceiling.

The networks, CE + Dice and the batches of labelled images are those of UC-Seg. Its L_u is off, as in all other methods:
`calibration_weight=1` turns it on. Two networks are trained side by side and do not see each other; the method predicts
their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.evidential import BETA_START, annealing, calibration_loss
from ucseg.losses.segmentation import label_weight, normalised_probabilities, supervised_loss
from ucseg.method_parts.uncertainty import vacuity
from ucseg.methods.base import SideBySide
from ucseg.types import Batch, Prediction, Progress, StepOutput, Strength


class SupervisedConfig(Strict):
    networks: tuple[str, ...] = Field(("unet",), min_length=1)  # e.g. ("unet", "vnet"): both, and their mean
    calibration_weight: float = Field(0.0, ge=0, le=1000)
    beta_start: float = Field(BETA_START, gt=0, le=1)

    @field_validator("networks")
    @classmethod
    def _each_once(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(networks)) < len(networks):
            raise ValueError("each network can be named once")
        return networks


class Supervised(SideBySide):
    """See the module's docstring. It uses no unlabelled images."""

    Config = SupervisedConfig
    config: SupervisedConfig
    views: Mapping[str, Strength] = {}

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """The loss of each network. They share no parameter, so the sum trains each of them alone."""
        config, terms = self.config, {}
        beta = annealing(progress.fraction, config.beta_start)
        for name, z in self.logits(batch.labelled).items():
            loss = supervised_loss(z, batch, self.problem.binary)
            if config.calibration_weight:
                loss = loss + config.calibration_weight * calibration_loss(
                    z, batch.label, beta, weight=label_weight(batch)
                )
            terms[f"supervised_{name}"] = loss
        return StepOutput(terms)

    def predict(self, image: Tensor) -> Prediction:
        logits = self.logits(image)
        members = {name: normalised_probabilities(z, self.problem.binary) for name, z in logits.items()}
        return Prediction(
            torch.stack(list(members.values())).mean(dim=0),
            torch.stack([vacuity(z) for z in logits.values()]).mean(dim=0),
            members,
        )
