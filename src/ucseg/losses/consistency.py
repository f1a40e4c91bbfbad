"""Agreement between several predictions of the same images: of two subnets, of scales, of decoders."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg import ranks
from ucseg.losses.segmentation import class_probabilities, cross_entropy, dice_loss, log_normalised_probabilities
from ucseg.method_parts.uncertainty import entropy

PseudoLoss = Literal["ce", "dice"]


def prediction_consistency(logits: Tensor, other: Tensor, binary: bool) -> Tensor:
    """L_cons = BCE(sigma(z), sg sigma(z_other)), mean over voxels and all classes.

    CORRECTION: over all classes and with a gradient; the published code takes the last class, detached.

    Args:
        logits: B x C x S, receives the gradient.
        other: B x C x S, the target; no gradient.
    """
    target = class_probabilities(other.detach(), binary)
    if binary:
        return F.binary_cross_entropy_with_logits(logits, target)
    log_p = logits.log_softmax(dim=1)
    # log(1 - p): one minus a float32 softmax can be exactly zero.
    log_q = torch.log1p(-log_p.exp().clamp_max(1.0 - 1e-6))
    return -(target * log_p + (1.0 - target) * log_q).mean()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (same shape, bool) is true; zero if it is true nowhere in the batch."""
    mask = mask.to(values.dtype)
    inside, count = ranks.total(torch.stack([(values * mask).sum(), mask.sum()])).unbind()
    return inside / count.clamp_min(1.0)


def symmetric_divergence(logits_1: Tensor, logits_2: Tensor, binary: bool) -> Tensor:
    """1/2 [KL(p_1 | p_2) + KL(p_2 | p_1)] of B x C x S logits, mean over voxels; both receive the gradient."""
    log_1, log_2 = (log_normalised_probabilities(z, binary) for z in (logits_1, logits_2))
    return 0.5 * ((log_1.exp() - log_2.exp()) * (log_1 - log_2)).sum(dim=1).mean()


def rectified_consistency(probabilities: Tensor) -> Tensor:
    """Several predictions against their mean, rectified by uncertainty (URPC, Luo et al. 2021, arXiv:2012.07042).

    mean over s of  mean(exp(-D_s) (p_s - p_c)^2) / mean(exp(-D_s)) + mean(D_s),  D_s = KL(p_s || p_c), p_c the mean.

    Args:
        probabilities: S x B x C x (spatial) of S predictions, summing to one over C.
    """
    mean = probabilities.mean(dim=0, keepdim=True)
    log_ratio = probabilities.clamp_min(1e-8).log() - mean.clamp_min(1e-8).log()
    distance = (probabilities * log_ratio).sum(dim=2, keepdim=True)
    certain = (-distance).exp()
    each = tuple(range(1, probabilities.ndim))
    weighted = certain * (probabilities - mean) ** 2
    squared, weight = ranks.mean(torch.stack([weighted.mean(dim=each), certain.mean(dim=each)])).unbind()
    return (squared / weight + distance.mean(dim=each)).mean()


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T) / (p^(1/T) + (1-p)^(1/T)) for each class alone, towards zero and one (MC-Net, arXiv:2103.02911)."""
    power = 1.0 / temperature
    yes, no = probabilities**power, (1.0 - probabilities) ** power
    return yes / (yes + no)


def jensen_shannon(probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence, mean over voxels: H(mean_s p_s) - mean_s H(p_s).

    Args:
        probabilities: S x B x C x (spatial) of S predictions, summing to one over C.
    """
    return entropy(probabilities.mean(dim=0)).mean() - torch.stack([entropy(p) for p in probabilities]).mean()


def pseudo_label_loss(logits: Tensor, label: Tensor, weight: Tensor, binary: bool, kind: PseudoLoss) -> Tensor:
    """Cross-entropy or Dice with a pseudo-label.

    Args:
        logits: B x C x S, receives the gradient.
        label: B x S class indices.
        weight: B x S, of each voxel: usually one where the label is sure and zero elsewhere. Cross-entropy is the mean
            over all voxels, also those of weight zero, as in the code of UniMatch (Yang et al. 2023,
            arXiv:2208.09910). Dice counts weighted voxels only.
        kind: "ce" or "dice".
    """
    if kind == "ce":
        return cross_entropy(logits, label, binary, weight)
    return dice_loss(class_probabilities(logits, binary), label, weight=weight)


def uncertain_consistency(logits: Tensor, teacher_logits: Tensor, beta: float, binary: bool) -> Tensor:
    """UnCL of DyCON (Assefa et al. 2025, arXiv:2504.04566), mean over voxels:

    KL(p_t | p_s) / (exp(beta H_s) + exp(beta H_t)) + beta (H_s + H_t), H: entropy in nats.

    Args:
        logits: B x C x S, of the student; receives the gradient, also through the divisor, as in the paper's code.
        teacher_logits: B x C x S; no gradient.
        beta: how much less unsure voxels count, and how much unsureness costs.
    """
    log_s, log_t = (log_normalised_probabilities(z, binary) for z in (logits, teacher_logits.detach()))
    unsure_s, unsure_t = (entropy(log_p.exp()).squeeze(1) for log_p in (log_s, log_t))
    divergence = (log_t.exp() * (log_t - log_s)).sum(dim=1)
    weight = (beta * unsure_s).exp() + (beta * unsure_t).exp()
    return (divergence / weight + beta * (unsure_s + unsure_t)).mean()
