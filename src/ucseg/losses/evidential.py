"""Accuracy-versus-uncertainty calibration of Dirichlet outputs (method.md, "Uncertainty")."""

from __future__ import annotations

import torch
from torch import Tensor

from ucseg.uncertainty import dirichlet

BETA_START = 0.01


def annealing(fraction: float, start: float = BETA_START) -> float:
    """beta_t = beta_0 ^ (1 - t/T): from `start` to one."""
    return float(start ** (1.0 - fraction))


def calibration_loss(logits: Tensor, label: Tensor, beta: float, epsilon: float = 1e-8) -> Tensor:
    """L_u, mean over voxels: certain where right, uncertain where wrong.

    right (argmax p = y):  beta       * ( -max_c p_c       * log(1 - u) )
    wrong:                (1 - beta)  * ( -(1 - max_c p_c) * log(u)     )

    Args:
        logits: B x C x S.
        label: B x S class indices.
        beta: beta_t of `annealing`.
        epsilon: keeps the logarithms finite where there is no evidence at all.
    """
    probabilities, u = dirichlet(logits)
    u = u.squeeze(1)
    confidence, predicted = probabilities.max(dim=1)
    right = predicted == label
    # Chosen before the logarithm, so that there is one to compute and to go back through.
    share = torch.where(right, confidence, 1.0 - confidence)
    certainty = torch.where(right, 1.0 - u, u).clamp_min(epsilon).log()
    return -(torch.where(right, beta, 1.0 - beta) * share * certainty).mean()
