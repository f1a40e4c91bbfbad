"""Deep co-training (Qiao et al., ECCV 2018, arXiv:1803.05984; for segmentation Peng et al. 2020, arXiv:1903.11233).

Two networks should agree on the unlabelled images (Jensen-Shannon divergence), but not become the same network. So each
must resist what misleads the other: g_k(x) = x + e sign(grad_x CE(z_k(x), y)). y is the label, or where there is none
the hard prediction of network k.

    L = sum_k L_sup(z_k, y) + w_a(t) [ H((p_1 + p_2)/2) - (H(p_1) + H(p_2))/2 ]        on unlabelled images
        + w_d(t) [ H(sg p_1(x), p_2(g_1(x))) + H(sg p_2(x), p_1(g_2(x))) ]              on all images
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ucseg.config import Strict
from ucseg.losses.consistency import jensen_shannon
from ucseg.losses.segmentation import (
    completed_label,
    cross_entropy,
    most_likely,
    normalised_probabilities,
    soft_cross_entropy,
    supervised_loss,
)
from ucseg.method_parts.schedules import sigmoid_ramp
from ucseg.methods.base import SideBySide
from ucseg.types import Batch, Progress, StepOutput


class DeepCoTrainingConfig(Strict):
    networks: tuple[str, str] = ("unet", "unet")  # the papers' are two of a kind; any two can be named
    agreement_weight: float = Field(10.0, ge=0, le=1000)  # Qiao et al.; the divergence is at most log 2, or far less
    diversity_weight: float = Field(0.5, ge=0, le=1000)  # Qiao et al.
    # e, in the units of normalised images. DEVIATION: Qiao et al. 0.02, of images in [0, 1] with deviations near 0.2.
    step_size: float = Field(0.1, gt=0, le=1000)
    ramp: float = Field(0.2, ge=0, le=1)  # share of the steps, of both weights; that of most methods here


class DeepCoTraining(SideBySide):
    Config = DeepCoTrainingConfig
    config: DeepCoTrainingConfig

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        config, binary, n = self.config, self.problem.binary, len(batch.labelled)
        image = torch.cat([batch.labelled, batch.unlabelled["image"]])
        outputs = [self.attack(network, image, batch) for network in self.networks.values()]
        z, adversarial = zip(*outputs, strict=True)
        p = [normalised_probabilities(z_k, binary) for z_k in z]
        ramp = sigmoid_ramp(progress.fraction, config.ramp)
        terms = {}
        for k, network in enumerate(self.networks.values()):
            misled = network(adversarial[1 - k])[0]
            terms[f"supervised_{k + 1}"] = supervised_loss(z[k][:n], batch, binary)
            terms[f"diversity_{k + 1}"] = (
                config.diversity_weight * ramp * soft_cross_entropy(misled, p[1 - k].detach(), binary)
            )
        agreement = jensen_shannon(torch.stack([p_k[n:] for p_k in p]))
        return StepOutput({**terms, "agreement": config.agreement_weight * ramp * agreement})

    def attack(self, network: nn.Module, image: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The logits of a network for all images, and the images g_k(x) that mislead it.

        Args:
            network: its parameters get no gradient here.
            image: B x Cin x S, the labelled ones first.
            batch: its labels are those of the first images.
        """
        image = image.detach()
        with torch.enable_grad():
            seen = image.clone().requires_grad_()
            z = network(seen)[0]
            predicted, n = most_likely(z.detach()), len(batch.label)
            target = torch.cat([completed_label(batch, predicted[:n]), predicted[n:]])
            # Only the sign counts; the sum over voxels instead of their mean keeps half precision from underflowing.
            loss = cross_entropy(z, target, self.problem.binary) * target.numel()
            # The losses use the same logits, so the graph stays.
            (gradient,) = torch.autograd.grad(loss, seen, retain_graph=True)
        return z, image + self.config.step_size * gradient.sign()
