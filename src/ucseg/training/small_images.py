"""Small images first: for a share of a run, its images have half the size. Not in the paper.

They have a quarter of the pixels in 2D and an eighth of the voxels in 3D, so their steps are quicker. Where a structure
lies is learned from them too; the rest of the run learns its outline.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ucseg.losses.segmentation import most_likely, one_hot
from ucseg.networks.levels import steps_of
from ucseg.types import LEAST_ANNOTATED, Batch, Problem

LEAST_EDGE = 32
LEAST_EDGE_OF_ENCODER = 96
"""Encoders know images of 224 pixels: on ones of 48 they learned less (benchmarks/choices.py, kvasir)."""


def can_be_small(problem: Problem, encoder: bool) -> bool:
    """Whether a small image still has 32 pixels an edge, or a small volume two voxels on the lowest level.

    Encoders step down to one of 32, and a norm over one voxel would pass nothing on. Where a network has an encoder
    for photographs, a small image has 96 pixels an edge.
    """
    steps = steps_of(problem)
    edges = [-(-edge // step) for edge, step in zip(problem.patch, steps[0], strict=True)]
    if problem.dims == 2:
        return min(edges) >= (LEAST_EDGE_OF_ENCODER if encoder else LEAST_EDGE)
    return math.prod(-(-edge // math.prod(step[axis] for step in steps)) for axis, edge in enumerate(edges)) > 1


def small(batch: Batch, problem: Problem) -> Batch:
    """The batch with its images averaged over the windows of the networks' first step down.

    A voxel's class is the one that most of its window has; of classes as frequent the first. It is annotated where more
    than a quarter of its window is.
    """
    step = steps_of(problem)[0]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, step) if x.ndim == 4 else F.avg_pool3d(x, step)

    label, annotated = batch.label, batch.annotated
    if len(label):
        classes = one_hot(label, problem.classes)
        if annotated is not None:
            classes = classes * annotated.unsqueeze(1)
            annotated = (mean(annotated.unsqueeze(1)).squeeze(1) > LEAST_ANNOTATED).float()
        label = most_likely(mean(classes))
    views = {view: mean(image) for view, image in batch.unlabelled.items()}
    return replace(batch, labelled=mean(batch.labelled), label=label, unlabelled=views, annotated=annotated)
