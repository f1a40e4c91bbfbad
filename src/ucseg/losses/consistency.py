"""Prediction consistency between two subnets (method.md, "Losses")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg.losses.segmentation import class_probabilities


def prediction_consistency(logits: Tensor, other: Tensor, binary: bool) -> Tensor:
    """L_cons = BCE(sigma(z), sg sigma(z_other)), mean over voxels and all classes.

    CORRECTION (method.md): over all classes and with a gradient; the published code takes the last class, detached.

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
