"""FixMatch (Sohn et al., NeurIPS 2020, arXiv:2001.07685), for segmentation as UniMatch's baseline (arXiv:2208.09910).

A sure prediction for the weak view of an unlabelled image is the label of its strong view:

    q = softmax(f(x_w)),  L = L_sup(f(x_l), y) + w(t) mean over voxels [max_c q_c >= tau] CE(f(x_s), argmax_c q_c)

CutMix pastes a box of another image into the strong view, and with it that image's q.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field

from ucseg.config import Strict
from ucseg.losses.consistency import PseudoLoss, pseudo_label_loss
from ucseg.losses.segmentation import normalised_probabilities, supervised_loss
from ucseg.method_parts.mixing import cutmix, sample_cutmix_boxes
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.types import Batch, Progress, StepOutput, Strength


class FixMatchConfig(Strict):
    network: str = "unet"
    threshold: float = Field(0.95, ge=0, le=1)  # tau; of both papers
    cutmix: float = Field(0.5, ge=0, le=1)  # probability of a box in an image; UniMatch's code
    loss: PseudoLoss = "ce"  # loss of the pseudo-label; "dice": as UniMatch's code for medical images
    pseudo_weight: float = Field(1.0, ge=0, le=1000)  # both papers'
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods. DEVIATION: the papers have none


class FixMatch(OneNetwork):
    Config = FixMatchConfig
    config: FixMatchConfig
    views: Mapping[str, Strength] = {"weak": "weak", "strong": "strong"}

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        weak, strong = batch.unlabelled["weak"], batch.unlabelled["strong"]
        z, _ = self.network(torch.cat([batch.labelled, weak]))
        confidence, label = normalised_probabilities(z[n:].detach(), binary).max(dim=1)
        # DEVIATION: the box is from the next image of the batch; UniMatch's code draws a second unlabelled batch.
        boxes = sample_cutmix_boxes(tuple(weak.shape[2:]), len(weak), progress.generator("cutmix"), config.cutmix)
        # A separate pass, as in UniMatch's code: batch norm sees strongly changed images apart from the others.
        z_s, _ = self.network(cutmix(strong, boxes))
        sure = cutmix((confidence >= config.threshold).float(), boxes)
        pseudo = pseudo_label_loss(z_s, cutmix(label, boxes), sure, binary, config.loss)
        weight = config.pseudo_weight * sigmoid_ramp(progress.fraction, config.ramp)
        return StepOutput(
            {"supervised": supervised_loss(z[:n], batch, binary), "pseudo": weight * pseudo},
            {"sure": sure.mean()},
        )
