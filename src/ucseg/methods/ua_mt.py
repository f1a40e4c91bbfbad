"""UA-MT, uncertainty-aware mean teacher (Yu et al., MICCAI 2019, arXiv:1907.07034).

A mean teacher; its targets count only where it is sure. Its uncertainty is the entropy of its mean prediction over K
passes with dropout and noise (MC dropout). The threshold rises over training:

    p^ = mean_k softmax(f'(x_u + e_k)),  U = -sum_c p^_c log p^_c,  H(t) = (3/4 + ramp_T(t)/4) log C
    L = L_sup(f(x_l), y) + w(t) sum [U < H] |sigma(f(x_u + e)) - sg sigma(f'(x_u + e'))|^2 / sum [U < H]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.consistency import masked_mean
from ucseg.losses.segmentation import class_probabilities, normalised_probabilities, supervised_loss
from ucseg.method_parts.perturbation import gaussian_noise
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.method_parts.uncertainty import entropy
from ucseg.methods.base import StudentAndTeacher
from ucseg.types import Batch, Problem, Progress, StepOutput, Strength

_Share = Annotated[float, Field(ge=0, le=10)]


class UAMTConfig(Strict):
    """Settings of UA-MT; defaults are the paper's unless a comment says otherwise."""

    network: str = "unet"
    decay: float = Field(0.99, ge=0, lt=1)
    noise: float = Field(0.1, ge=0, le=1000)  # standard deviation, in the units of normalised images
    passes: int = Field(8, ge=1, le=1024)  # K
    threshold: tuple[_Share, _Share] = (0.75, 1.0)  # at t = 0 and t = T, as parts of log C
    consistency_weight: float = Field(1.0, ge=0, le=1000)  # DEVIATION: published 0.2 in this unit, ramp over all
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here, for comparisons
    predict_with: Literal["teacher", "student"] = "student"


class UAMT(StudentAndTeacher):
    Config = UAMTConfig
    config: UAMTConfig
    views: Mapping[str, Strength] = {"student": "plan", "teacher": "plan"}

    def __init__(self, config: UAMTConfig, problem: Problem) -> None:
        super().__init__(config, replace(problem, dropout=True))  # its K passes differ by dropout

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        seen = gaussian_noise(batch.unlabelled["student"], config.noise, progress.generator("student noise"))
        z, _ = self.student(torch.cat([batch.labelled, seen]))
        target, uncertainty = self.teach(batch, progress)
        first, last = config.threshold
        threshold = (first + (last - first) * sigmoid_ramp(progress.fraction, 1.0)) * math.log(self.problem.classes)
        sure = uncertainty < threshold
        distance = (class_probabilities(z[n:], binary) - target).square().mean(dim=1, keepdim=True)
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {
                "supervised": supervised_loss(z[:n], batch, binary),
                "consistency": weight * masked_mean(distance, sure),
            },
            {"sure": sure.float().mean()},
        )

    @torch.no_grad()
    def teach(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """The teacher's target (its first pass), B_u x C x S, and U, B_u x 1 x S in nats."""
        noise, binary = progress.generator("teacher noise"), self.problem.binary
        passes = [
            self.teacher(gaussian_noise(batch.unlabelled["teacher"], self.config.noise, noise))[0]
            for _ in range(self.config.passes)
        ]
        mean = torch.stack([normalised_probabilities(z, binary) for z in passes]).mean(dim=0)
        return class_probabilities(passes[0], binary), entropy(mean)
