"""A teacher: a copy of a student that follows it as the mean of its weights (Tarvainen & Valpola, arXiv:1703.01780)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def make_teacher(student: M) -> M:
    """A copy of the student that gets no gradient and shares no storage with it."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float, step: int) -> None:
    """theta' = d theta' + (1 - d) theta, d = min(decay, 1 - 1 / (step + 1)), `step` counted from 0.

    The shorter memory at the start keeps the random initial weights out: after the first update the teacher is the
    student. Running statistics of norms are averaged like weights. Passes of the teacher in training mode move them
    too, by a tenth each, which is more. Counters are copied.
    """
    decay = min(decay, 1.0 - 1.0 / (step + 1))
    own = teacher.state_dict()
    for name, value in student.state_dict().items():
        if value.is_floating_point():
            own[name].lerp_(value, 1.0 - decay)
        else:
            own[name].copy_(value)
