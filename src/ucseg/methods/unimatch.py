"""UniMatch (Yang, Qi, Feng, Zhang & Shi, CVPR 2023, arXiv:2208.09910).

FixMatch with two strong views of each unlabelled image, and a third stream with changed features instead of a changed
image. A sure prediction for the weak view is the label of all three:

    q = softmax(g(h(x_w))),  H(z) = mean over voxels [max_c q_c >= tau] CE(z, argmax_c q_c)
    L = L_sup(g(h(x_l)), y) + w(t) [ a H(g(h(x_s1))) + a H(g(h(x_s2))) + b H(g(P(h(x_w)))) ]

h, g: encoder and decoder; P: dropout of whole channels, at every level. Each strong view has its own CutMix boxes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from ucseg.config import Strict
from ucseg.losses.consistency import PseudoLoss, pseudo_label_loss
from ucseg.losses.segmentation import normalised_probabilities, supervised_loss
from ucseg.method_parts.mixing import cutmix, sample_cutmix_boxes
from ucseg.method_parts.perturbation import channel_dropout
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import OneNetwork
from ucseg.networks.blocks import crop_to
from ucseg.networks.unet import UNet
from ucseg.types import Batch, Progress, StepOutput, Strength

STRONG = ("strong_1", "strong_2")


class UniMatchConfig(Strict):
    """Settings of UniMatch; defaults are the paper's unless a comment says otherwise."""

    threshold: float = Field(0.95, ge=0, le=1)  # tau
    cutmix: float = Field(0.5, ge=0, le=1)  # probability of a box in an image
    dropout: float = Field(0.5, ge=0, lt=1)  # share of dropped channels, in P
    loss: PseudoLoss = "ce"  # loss of the pseudo-label, as in the paper; "dice": as the code for medical images
    strong_weight: float = Field(0.25, ge=0, le=1000)  # a
    feature_weight: float = Field(0.5, ge=0, le=1000)  # b
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps; that of most methods here. DEVIATION: the paper has none


class UniMatch(OneNetwork):
    """See the module's docstring. The network is a U-Net."""

    Config = UniMatchConfig
    config: UniMatchConfig
    network: UNet
    views: Mapping[str, Strength] = {"weak": "weak", "strong_1": "strong", "strong_2": "strong"}

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        z, z_changed = self.weak_stream(batch, progress)
        confidence, label = normalised_probabilities(z[n:].detach(), binary).max(dim=1)
        sure = (confidence >= config.threshold).float()
        shape, count = tuple(label.shape[1:]), len(label)
        # DEVIATION: boxes are from the next image of the batch; the code draws a second unlabelled batch.
        boxes = {
            view: sample_cutmix_boxes(shape, count, progress.generator(f"cutmix {view}"), config.cutmix)
            for view in STRONG
        }
        z_s, _ = self.network(torch.cat([cutmix(batch.unlabelled[view], boxes[view]) for view in STRONG]))
        weight = sigmoid_ramp(progress.fraction, config.ramp)
        terms = {"supervised": supervised_loss(z[:n], batch, binary)}
        for view, z_k in zip(STRONG, z_s.split(count), strict=True):
            target, mask = cutmix(label, boxes[view]), cutmix(sure, boxes[view])
            loss = pseudo_label_loss(z_k, target, mask, binary, config.loss)
            terms[view] = weight * config.strong_weight * loss
        loss = pseudo_label_loss(z_changed, label, sure, binary, config.loss)
        terms["feature"] = weight * config.feature_weight * loss
        return StepOutput(terms, {"sure": sure.mean()})

    def weak_stream(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """Logits of labelled images and weak views, and those of weak views with changed features; one decoder pass."""
        n, shape = len(batch.labelled), tuple(batch.labelled.shape[2:])
        features = self.network.encode(torch.cat([batch.labelled, batch.unlabelled["weak"]]))
        generator = progress.generator("channels")
        changed = [channel_dropout(level[n:], self.config.dropout, generator) for level in features]
        both = [torch.cat([level, other]) for level, other in zip(features, changed, strict=True)]
        z = crop_to(self.network.decoder(both), shape)
        return z[: len(features[0])], z[len(features[0]) :]
