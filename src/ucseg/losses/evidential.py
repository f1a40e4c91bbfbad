"""Accuracy-versus-uncertainty calibration of Dirichlet outputs (L_u of docs/methods/uc_seg.md)."""

from __future__ import annotations

import torch
from torch import Tensor

from ucseg.losses.segmentation import most_likely
from ucseg.method_parts.uncertainty import dirichlet

BETA_START = 0.01


def annealing(fraction: float, start: float = BETA_START) -> float:
    """beta_t = beta_0 ^ (1 - t/T): from `start` to one."""
    return float(start ** (1.0 - fraction))


def calibration_loss(
    logits: Tensor,
    label: Tensor,
    beta: float,
    epsilon: float = 1e-8,
    detach: bool = False,
    weight: Tensor | None = None,
) -> Tensor:
    """L_u, mean over voxels: certain where right, uncertain where wrong.

    right (argmax p = y):  beta       * ( -max_c p_c       * log(1 - u) )
    wrong:                (1 - beta)  * ( -(1 - max_c p_c) * log(u)     )

    Args:
        logits: B x C x S.
        label: B x S class indices.
        beta: beta_t of `annealing`.
        epsilon: keeps the logarithms finite where there is no evidence at all.
        detach: without the gradient of max_c p_c, which lowers the confidence of right voxels.
        weight: B x S, of each voxel; the mean is still over all voxels.
    """
    (alpha, inverse), predicted = dirichlet(logits), most_likely(logits.detach())
    inverse = inverse.squeeze(1)
    confidence = alpha.gather(1, predicted.unsqueeze(1)).squeeze(1) * inverse
    right = (predicted == label).to(inverse.dtype)
    wrong = 1.0 - right
    sign = right - wrong
    # Products with zero and one, because choices take longer on a CPU. They come before the logarithm, so that there is
    # only one logarithm to compute.
    share = torch.addcmul(wrong, sign, confidence.detach() if detach else confidence)
    certainty = torch.addcmul(right, sign, inverse, value=-logits.shape[1]).clamp_min(epsilon).log()
    loss = (beta * right + (1.0 - beta) * wrong) * share * certainty
    return -(loss if weight is None else loss * weight).mean()
