"""How a weight or a threshold changes over training, and how two networks take turns."""

from __future__ import annotations

import math

import torch

from ucseg.randomness import torch_generator
from ucseg.types import Progress


def sigmoid_ramp(fraction: float, share: float) -> float:
    """exp(-5 (1 - min(1, t / t_ramp))^2): from 0.0067 at the start to one (Laine & Aila 2017, arXiv:1610.02242).

    Args:
        fraction: t / T.
        share: t_ramp / T; zero: one from the first step on.
    """
    rise = min(1.0, fraction / share) if share else 1.0
    return math.exp(-5.0 * (1.0 - rise) ** 2)


def alternation(progress: Progress, longest: int, purpose: str) -> tuple[int, int]:
    """Two take turns of random length, from 1 to `longest` steps: (the one of this step, 0 or 1; its steps before).

    The lengths depend on the seed alone: all ranks agree, and nothing about them has to be saved.
    """
    generator = torch_generator(progress.seed, purpose)
    ends = torch.randint(1, longest + 1, (max(progress.total, progress.step + 1),), generator=generator).cumsum(dim=0)
    turns = torch.searchsorted(ends, torch.arange(progress.step + 1), right=True) % 2
    return int(turns[-1]), int((turns[:-1] == turns[-1]).sum())
