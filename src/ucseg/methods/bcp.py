"""BCP, bidirectional copy-paste (Bai, Chen, Li, Shen & Wang, CVPR 2023, arXiv:2305.00673).

Labelled and unlabelled images are pasted into each other, in both directions, so that labels reach both.
M is one inside a random box. y' is the prediction of the EMA teacher for x_u, of some classes the largest component.
It stands for y too where that is not annotated:

    x_in = M x_l + (1 - M) x_u,   x_out = M x_u + (1 - M) x_l,   R(z, y; A): CE + Dice of the voxels of A
    L = 1/2 [R(f(x_in), y; M) + R(f(x_out), y; 1 - M)] + a/2 [R(f(x_in), y'; 1 - M) + R(f(x_out), y'; M)]

Pre-training replaces the ramp of other methods: in the first share of the steps labelled images are pasted into each
other, and the teacher is the student.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ucseg import ranks
from ucseg.config import Strict
from ucseg.losses.segmentation import completed_label, most_likely, segmentation_loss
from ucseg.method_parts.components import keep_largest
from ucseg.method_parts.mixing import paste, sample_box
from ucseg.method_parts.teacher import follow
from ucseg.methods.base import StudentAndTeacher
from ucseg.types import Batch, Progress, StepOutput


class BCPConfig(Strict):
    """Settings of BCP; defaults are those of the paper's code unless a comment says otherwise."""

    network: str = "unet"
    # Share of the steps. DEVIATION: 0.25 on ACDC, 0.12 on the left atrium; this is every other method's ramp.
    pretraining: float = Field(0.2, ge=0, le=1)
    box: float = Field(2 / 3, gt=0, lt=1)  # part of each side that the box takes
    unlabelled_weight: float = Field(0.5, ge=0, le=1000)  # a
    component_filter: bool = True  # largest component of pseudo-labels, for the plan's one_component classes
    decay: float = Field(0.99, ge=0, lt=1)
    predict_with: Literal["teacher", "student"] = "student"


class BCP(StudentAndTeacher):
    Config = BCPConfig
    config: BCPConfig

    def pretrains(self, progress: Progress) -> bool:
        """Whether labelled images are still pasted into each other: the first share of the steps."""
        return progress.fraction < self.config.pretraining

    @property
    def steady_from(self) -> float:
        return self.config.pretraining

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        x_l, y_l, known = batch.labelled, batch.label, batch.annotated
        box = sample_box(tuple(y_l.shape[1:]), self.config.box, progress.generator("box"))
        inside = torch.zeros(y_l.shape[1:], device=y_l.device)
        inside[box] = 1.0
        if self.pretrains(progress):
            # DEVIATION: each image gets a box of the next one; the code pastes half of the images into the other half.
            z, _ = self.student(paste(x_l, ranks.neighbours(x_l), box))
            y = paste(y_l, ranks.neighbours(y_l), box)
            regions = [inside, 1.0 - inside]
            if known is not None:
                regions = [region * paste(known, ranks.neighbours(known), box) for region in regions]
            both = torch.stack([self.region_loss(z, y, region) for region in regions]).sum()
            return StepOutput({"supervised": 0.5 * both, "copy_paste": z.new_zeros(())})

        x_u = batch.unlabelled["image"]
        labelled_later = self.pseudo_label(x_u)
        own_later = None if known is None else self.pseudo_label(x_l)
        # Every image is in a pair, also with halves of different size. Every second pair is pasted the other way round,
        # so there are at least two pairs. Halves of equal size are split as in the code.
        count = max(2, len(x_l), len(x_u))
        # Counted on the device: a list of numbers would be copied there, for which Python waits.
        inner, outer = (torch.arange(first, count, 2, device=y_l.device) for first in (0, 1))
        l_in, l_out, u_in, u_out = inner % len(x_l), outer % len(x_l), inner % len(x_u), outer % len(x_u)
        x_in, x_out = paste(x_u[u_in], x_l[l_in], box), paste(x_l[l_out], x_u[u_out], box)
        z_in, z_out = self.student(torch.cat([x_in, x_out]))[0].split([len(x_in), len(x_out)])
        y_u = labelled_later()
        own_in, own_out = inside, 1.0 - inside  # where the labels are those of the experts
        if own_later is not None and known is not None:
            y_l = completed_label(batch, own_later())
            own_in, own_out = own_in * known[l_in], own_out * known[l_out]
        y_in, y_out = paste(y_u[u_in], y_l[l_in], box), paste(y_l[l_out], y_u[u_out], box)
        labelled = self.region_loss(z_in, y_in, own_in) + self.region_loss(z_out, y_out, own_out)
        pseudo = self.region_loss(z_in, y_in, 1.0 - own_in) + self.region_loss(z_out, y_out, 1.0 - own_out)
        return StepOutput({"supervised": 0.5 * labelled, "copy_paste": 0.5 * self.config.unlabelled_weight * pseudo})

    def region_loss(self, z: Tensor, y: Tensor, region: Tensor) -> Tensor:
        """R: CE + Dice of the voxels of a region (S, or one for each image B x S; one inside and zero outside)."""
        share = region.mean() if region.ndim < y.ndim else ranks.mean(region.mean())
        weight = region / share.clamp_min(1e-6)  # cross-entropy becomes the mean over the region
        return segmentation_loss(z, y, self.problem.binary, weight.expand_as(y))

    @torch.no_grad()
    def pseudo_label(self, image: Tensor) -> Callable[[], Tensor]:
        """y', B_u x S, when it is called for."""
        label = most_likely(self.teacher(image)[0])
        return keep_largest(label, self.problem.one_component if self.config.component_filter else ())

    def after_update(self, progress: Progress) -> None:
        """Move the teacher. In pre-training it is the student, so it is a copy of it when pre-training ends."""
        follow(self.teacher, self.student, 0.0 if self.pretrains(progress) else self.config.decay, progress.step)
