"""Mean teacher (Tarvainen & Valpola, NeurIPS 2017, arXiv:1703.01780), for segmentation as in UA-MT's comparison.

The teacher is the running mean of the student's weights. The student learns from the labelled images and, on the
unlabelled ones, from the teacher's probabilities. Both see differently augmented views with different noise:

    L = L_sup(f(x_l), y) + w(t) mean |sigma(f(x_u + e)) - sg sigma(f'(x_u' + e'))|^2,  w(t) = weight * ramp(t)
    theta' = d theta' + (1 - d) theta
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.segmentation import class_probabilities, supervised_loss
from ucseg.method_parts.perturbation import gaussian_noise
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import StudentAndTeacher
from ucseg.types import Batch, Progress, StepOutput, Strength


class MeanTeacherConfig(Strict):
    network: str = "unet"
    decay: float = Field(0.99, ge=0, lt=1)  # UA-MT's code; the paper: 0.99 while ramping up, then 0.999
    noise: float = Field(0.1, ge=0, le=1000)  # standard deviation, in the units of normalised images; UA-MT's code
    consistency_weight: float = Field(1.0, ge=0, le=1000)  # DEVIATION: UA-MT's code 0.2 in this unit, ramp over all
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here, for comparisons
    predict_with: Literal["teacher", "student"] = "teacher"  # the paper's


class MeanTeacher(StudentAndTeacher):
    Config = MeanTeacherConfig
    config: MeanTeacherConfig
    views: Mapping[str, Strength] = {"student": "plan", "teacher": "plan"}

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        seen = gaussian_noise(batch.unlabelled["student"], config.noise, progress.generator("student noise"))
        z, _ = self.student(torch.cat([batch.labelled, seen]))
        target = self.teach(batch, progress)
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {
                "supervised": supervised_loss(z[:n], batch, binary),
                "consistency": weight * F.mse_loss(class_probabilities(z[n:], binary), target),
            }
        )

    @torch.no_grad()
    def teach(self, batch: Batch, progress: Progress) -> Tensor:
        """sigma(f'(x_u' + e')): the teacher has its own view, noise and dropout."""
        seen = gaussian_noise(batch.unlabelled["teacher"], self.config.noise, progress.generator("teacher noise"))
        return class_probabilities(self.teacher(seen)[0], self.problem.binary)
