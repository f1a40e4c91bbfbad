"""Uncertainty of a prediction: Dirichlet vacuity and entropy.

Subjective logic (Sensoy et al. 2018, arXiv:1806.01768): evidence e = softplus(z), alpha = e + 1, strength
S = sum alpha, expected probability p = alpha / S, vacuity u = C / S.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dirichlet(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits B x C x S -> (alpha B x C x S, 1 / S B x 1 x S): p is their product."""
    alpha = F.softplus(logits.float()) + 1.0
    return alpha, alpha.sum(dim=1, keepdim=True).reciprocal()


def vacuity(logits: Tensor) -> Tensor:
    """Logits B x C x S -> u = C / S, B x 1 x S in (0, 1]: one means no evidence for any class."""
    return logits.shape[1] * dirichlet(logits)[1]


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy of B x C x S probabilities in nats, B x 1 x S."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=1, keepdim=True)
