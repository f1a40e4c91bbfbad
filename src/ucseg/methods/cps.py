"""CPS, cross pseudo supervision (Chen, Yuan, Zeng & Wang, CVPR 2021, arXiv:2106.01226).

Two networks start from different weights. On all images the hard prediction of each is the label of the other:

    L = sum_k L_sup(z_k, y) + w(t) [ CE(z_1, argmax z_2) + CE(z_2, argmax z_1) ],  w(t) = weight * ramp(t)
"""

from __future__ import annotations

import torch
from pydantic import Field

from ucseg.config import Strict
from ucseg.losses.segmentation import cross_entropy, most_likely, supervised_loss
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import SideBySide
from ucseg.types import Batch, Progress, StepOutput


class CPSConfig(Strict):
    networks: tuple[str, str] = ("unet", "unet")  # the paper's are two of a kind; any two can be named
    cross_weight: float = Field(1.5, ge=0, le=1000)  # the paper's on PASCAL VOC without CutMix
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper has none


class CPS(SideBySide):
    """See the module's docstring. DEVIATION: the paper predicts with the first network, which is a member here."""

    Config = CPSConfig
    config: CPSConfig

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        z = list(self.logits(image).values())
        weight = config.cross_weight * sigmoid_ramp(progress.fraction, config.ramp)
        terms = {}
        for k in (0, 1):
            terms[f"supervised_{k + 1}"] = supervised_loss(z[k][:n], batch, binary)
            terms[f"cross_{k + 1}"] = weight * cross_entropy(z[k], most_likely(z[1 - k].detach()), binary)
        return StepOutput(terms)
