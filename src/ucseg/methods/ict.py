"""ICT, interpolation consistency training (Verma et al., IJCAI 2019, arXiv:1903.03825).

The student sees a mix of two unlabelled images; its prediction should be the mix of the teacher's two predictions:

    x_m = lambda x_i + (1 - lambda) x_j,  lambda ~ Beta(a, a)
    L = L_sup(f(x_l), y) + w(t) mean |sigma(f(x_m)) - sg [lambda sigma(f'(x_i)) + (1 - lambda) sigma(f'(x_j))]|^2
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from ucseg.config import Strict
from ucseg.losses.segmentation import class_probabilities, supervised_loss
from ucseg.method_parts.mixing import mixup
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import StudentAndTeacher
from ucseg.randomness import numpy_generator
from ucseg.types import Batch, Progress, StepOutput


class ICTConfig(Strict):
    network: str = "unet"
    alpha: float = Field(0.2, gt=0, le=1000)  # alpha of the Beta distribution; 0.1 to 1 differ little in the paper
    decay: float = Field(0.99, ge=0, lt=1)  # the paper's 0.999 is for hundreds of thousands of steps
    consistency_weight: float = Field(1.0, ge=0, le=1000)  # DEVIATION: the paper's 10 to 100, for classification
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here
    predict_with: Literal["teacher", "student"] = "teacher"  # the paper's


class ICT(StudentAndTeacher):
    Config = ICTConfig
    config: ICTConfig

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """L_sup, and the consistency of interpolations. Each image is mixed with the next one of the batch."""
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = batch.unlabelled["image"]
        with torch.no_grad():
            target = class_probabilities(self.teacher(image)[0], binary)
        draw = numpy_generator(progress.seed, "mixup", progress.step, 0, progress.part)
        share = float(draw.beta(config.alpha, config.alpha))
        z, _ = self.student(torch.cat([batch.labelled, mixup(image, share)]))
        weight = config.consistency_weight * sigmoid_ramp(progress.fraction, config.ramp)
        consistency = F.mse_loss(class_probabilities(z[n:], binary), mixup(target, share))
        return StepOutput({"supervised": supervised_loss(z[:n], batch, binary), "consistency": weight * consistency})
