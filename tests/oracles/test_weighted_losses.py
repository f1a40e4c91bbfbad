"""Losses that weigh voxels, against their equations written as loops over voxels."""

from __future__ import annotations

import math

import pytest
import torch
from test_losses import EVERY_PROBLEM, Voxel, column, hold_gradient, random_label, random_logits, sigma, voxels
from torch import Tensor

from ucseg.losses.consistency import pseudo_label_loss
from ucseg.losses.segmentation import cross_entropy, dice_loss, segmentation_loss


def random_weight(shape: Voxel, seed: int) -> Tensor:
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)) / 2.0


def literal_cross_entropy(z: Tensor, y: Tensor, w: Tensor) -> float:
    """The mean is over all voxels, those of weight zero included."""
    losses = []
    for voxel in voxels(tuple(y.shape)):
        p, true = sigma(column(z, voxel)), int(y[voxel])
        if len(p) == 2:
            losses.append(sum(-math.log(p[c] if c == true else 1 - p[c]) for c in range(2)) / 2 * float(w[voxel]))
        else:
            losses.append(-math.log(p[true]) * float(w[voxel]))
    return sum(losses) / len(losses)


def literal_dice(z: Tensor, y: Tensor, w: Tensor) -> float:
    scores = []
    for c in range(z.shape[1]):
        both = size = 0.0
        for voxel in voxels(tuple(y.shape)):
            p, hit, weight = sigma(column(z, voxel))[c], float(int(y[voxel]) == c), float(w[voxel])
            both, size = both + weight * p * hit, size + weight * (p + hit)
        scores.append(2 * both / size)
    return 1 - sum(scores) / len(scores)


@EVERY_PROBLEM
def test_each_voxel_has_its_weight_in_cross_entropy_and_dice(shape: Voxel, classes: int) -> None:
    z, y, w = random_logits(shape, classes, 0), random_label(shape, classes, 1), random_weight(shape, 2)
    binary = classes == 2
    ce, dice = literal_cross_entropy(z, y, w), literal_dice(z, y, w)
    assert float(pseudo_label_loss(z, y, w, binary, "ce")) == pytest.approx(ce, rel=1e-5)
    assert float(pseudo_label_loss(z, y, w, binary, "dice")) == pytest.approx(dice, rel=1e-5)
    assert float(segmentation_loss(z, y, binary, w)) == pytest.approx(ce + dice, rel=1e-5)
    hold_gradient(lambda v: cross_entropy(v, y, binary, w), lambda v: literal_cross_entropy(v, y, w), z)
    hold_gradient(lambda v: pseudo_label_loss(v, y, w, binary, "dice"), lambda v: literal_dice(v, y, w), z)


@pytest.mark.parametrize("classes", [2, 3])
def test_weights_of_one_change_nothing_and_of_zero_leave_nothing(classes: int) -> None:
    z, y = random_logits((2, 3, 4), classes, 0), random_label((2, 3, 4), classes, 1)
    one, zero = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    torch.testing.assert_close(segmentation_loss(z, y, classes == 2, one), segmentation_loss(z, y, classes == 2))
    assert float(segmentation_loss(z, y, classes == 2, zero)) == 0.0
    # Weights are relative in Dice.
    torch.testing.assert_close(dice_loss(z.sigmoid(), y, 0.0, 5 * one), dice_loss(z.sigmoid(), y, 0.0))
