"""Cross-entropy and Dice, for sigmoid ("binary": one foreground class) and softmax outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ucseg import ranks
from ucseg.types import Batch


def class_probabilities(logits: Tensor, binary: bool) -> Tensor:
    """The sigma of UC-Seg: per-class sigmoid for one foreground class, softmax over the classes otherwise."""
    return logits.sigmoid() if binary else logits.softmax(dim=1)


def normalised_probabilities(logits: Tensor, binary: bool) -> Tensor:
    """Probabilities that sum to one over the classes: the per-class sigmoids are divided by their sum."""
    return log_normalised_probabilities(logits, binary).exp()


def log_normalised_probabilities(logits: Tensor, binary: bool) -> Tensor:
    """Logarithm of `normalised_probabilities`; finite, also for very sure logits."""
    logits = logits.float()
    # Dividing sigmoids by their sum is the softmax of their logarithms, which does not underflow.
    return (F.logsigmoid(logits) if binary else logits).log_softmax(dim=1)


def one_hot(label: Tensor, classes: int) -> Tensor:
    """B x S class indices -> B x C x S float32."""
    return torch.stack([label == c for c in range(classes)], dim=1).float()


def most_likely(logits: Tensor) -> Tensor:
    """The class of the largest of B x C x S logits, B x S; the first one if several are equal."""
    if logits.shape[1] == 2:
        return (logits[:, 1] > logits[:, 0]).long()  # quicker on a CPU
    return logits.max(dim=1).indices  # argmax takes ten times as long on a CPU


def cross_entropy(logits: Tensor, label: Tensor, binary: bool, weight: Tensor | None = None) -> Tensor:
    """Mean over voxels; per-class binary cross-entropy (mean over classes too) where `binary`, softmax otherwise.

    Args:
        logits: B x C x S.
        label: B x S class indices.
        weight: B x S, of each voxel; the mean is still over all voxels.
    """
    if binary:
        of_class = None if weight is None else weight.unsqueeze(1)
        return F.binary_cross_entropy_with_logits(logits, one_hot(label, logits.shape[1]), of_class)
    if weight is None:
        return F.cross_entropy(logits, label)
    return (F.cross_entropy(logits, label, reduction="none") * weight).mean()


def soft_cross_entropy(logits: Tensor, target: Tensor, binary: bool) -> Tensor:
    """H(q, p) = -sum_c q_c log p_c, mean over voxels, p being `normalised_probabilities` of the logits.

    Args:
        logits: B x C x S.
        target: q, B x C x S, summing to one over C.
    """
    logits = logits.float()
    return F.cross_entropy(F.logsigmoid(logits) if binary else logits, target)


def dice_loss(probabilities: Tensor, label: Tensor, smooth: float = 1e-5, weight: Tensor | None = None) -> Tensor:
    """1 - mean over classes of soft Dice, its sums taken over the batch and all spatial axes (Milletari et al. 2016).

    CORRECTION: all spatial axes; the published 3D code leaves one out.

    Args:
        probabilities: B x C x S, sigma of the logits.
        label: B x S class indices.
        smooth: with it, a class that is absent from target and prediction counts as right.
        weight: B x S, of each voxel in both sums. If it is zero everywhere, the loss is zero.
    """
    target = one_hot(label, probabilities.shape[1])
    axes = (0, *range(2, probabilities.ndim))
    if weight is not None:
        target = target * weight.unsqueeze(1)
    overlap = (probabilities * target).sum(dim=axes)
    if weight is not None:
        probabilities = probabilities * weight.unsqueeze(1)
    size = probabilities.sum(dim=axes) + target.sum(dim=axes)
    overlap, size = ranks.total(torch.stack([overlap, size])).unbind()
    return 1.0 - ((2.0 * overlap + smooth) / (size + smooth)).mean()


def segmentation_loss(logits: Tensor, label: Tensor, binary: bool, weight: Tensor | None = None) -> Tensor:
    """CE(z, y) + Dice(sigma(z), y); `weight` (B x S) weighs the voxels."""
    dice = dice_loss(class_probabilities(logits, binary), label, weight=weight)
    return cross_entropy(logits, label, binary, weight) + dice


def label_weight(batch: Batch) -> Tensor | None:
    """Of each voxel of the labelled images, B_l x S: zero where nothing was annotated, one on average; None: all one.

    With it the mean over all voxels is that over the annotated ones, those of all ranks together.
    """
    if batch.annotated is None:
        return None
    return batch.annotated / ranks.mean(batch.annotated.mean()).clamp_min(1e-6)


def supervised_loss(logits: Tensor, batch: Batch, binary: bool) -> Tensor:
    """`segmentation_loss` of the labelled images (logits B_l x C x S), over the voxels that were annotated."""
    return segmentation_loss(logits, batch.label, binary, label_weight(batch))


def completed_label(batch: Batch, predicted: Tensor) -> Tensor:
    """The label, B_l x S; where nothing was annotated what was `predicted` (B_l x S) there, as of unlabelled images."""
    if batch.annotated is None:
        return batch.label
    return torch.where(batch.annotated > 0, batch.label, predicted)


def hard_dice(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Dice of the argmax over the whole batch, mean over the foreground classes present in label or prediction.

    A scalar tensor; one if neither has foreground. No gradient. `weight` (B x S) weighs the voxels.
    """
    classes = logits.shape[1]
    predicted, target = one_hot(most_likely(logits), classes), one_hot(label, classes)
    if weight is not None:
        predicted, target = predicted * weight.unsqueeze(1), target * weight.unsqueeze(1)
    axes = (0, *range(2, logits.ndim))
    overlap, size = (predicted * target).sum(dim=axes), predicted.sum(dim=axes) + target.sum(dim=axes)
    overlap, size = ranks.total(torch.stack([overlap, size]))[:, 1:].unbind()
    present = size > 0
    dice = torch.where(present, 2.0 * overlap / size.clamp_min(1e-6), torch.zeros_like(size))
    return torch.where(present.any(), dice.sum() / present.sum().clamp_min(1), torch.ones_like(dice.sum()))
