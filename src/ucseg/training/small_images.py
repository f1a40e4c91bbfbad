"""Small images first: for a share of a run, its images have half the size. Not in the paper.

A step then costs about a quarter in 2D and an eighth in 3D, and where a structure lies is learned from small images
too. The rest of the run learns its outline.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ucseg.losses.segmentation import one_hot
from ucseg.networks.levels import steps_of
from ucseg.types import Batch, Problem


def can_be_small(problem: Problem) -> bool:
    """Whether the lowest level of the networks still has two voxels, which a norm needs."""
    first, *others = steps_of(problem)
    return (
        math.prod(
            -(-edge // (by * math.prod(step[axis] for step in others) * by))
            for axis, (edge, by) in enumerate(zip(problem.patch, first, strict=True))
        )
        > 1
    )


def small(batch: Batch, problem: Problem) -> Batch:
    """The batch with its images averaged over the windows of the networks' first step down.

    A voxel's class is the one that most of its window has; of classes as frequent the first.
    """
    step = steps_of(problem)[0]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, step) if x.ndim == 4 else F.avg_pool3d(x, step)

    label = mean(one_hot(batch.label, problem.classes)).argmax(dim=1) if len(batch.label) else batch.label
    views = {view: mean(image) for view, image in batch.unlabelled.items()}
    return Batch(mean(batch.labelled), label, views, batch.labelled_cases, batch.unlabelled_cases)
