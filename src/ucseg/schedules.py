"""How the weight of an unsupervised term, or a threshold, rises over training."""

from __future__ import annotations

import math


def sigmoid_ramp(fraction: float, share: float) -> float:
    """exp(-5 (1 - min(1, t / t_ramp))^2): from 0.0067 at the start to one (Laine & Aila 2017, arXiv:1610.02242).

    Args:
        fraction: t / T.
        share: t_ramp / T; zero: one from the first step on.
    """
    rise = min(1.0, fraction / share) if share else 1.0
    return math.exp(-5.0 * (1.0 - rise) ** 2)
