"""CCP, cross-subnet consistency preservation: contrast of class prototypes (IFE) and of regions (IC); DyCON's FeCL.

CORRECTION: everything in a dot product is L2-normalised. Otherwise the gradients at the start are tens to
hundreds of times the supervised ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ucseg import ranks
from ucseg.losses.segmentation import one_hot
from ucseg.networks.blocks import ADAPTIVE_MEAN

TEMPERATURE = 0.3


def class_prototypes(features: Sequence[Tensor], label: Tensor, classes: int) -> list[tuple[Tensor, Tensor]]:
    """Mean feature of each class in each image, over the mask averaged to the feature grid.

    Args:
        features: B x K x S' of each level, finest first. The mask of a level is the average of the mask above.
        label: B x S class indices.

    Returns:
        For each level (prototypes B x C x K, L2-normalised; present B x C bool: whether the image has the class).
    """
    found = []
    mask = one_hot(label, classes)
    for level in features:
        # Area averaging keeps structures smaller than a feature voxel, with the right weight.
        mask = ADAPTIVE_MEAN[level.ndim - 2](mask, level.shape[2:])
        share = mask.flatten(2)
        weight = share.sum(dim=2)
        with torch.autocast(level.device.type, enabled=False):
            total = torch.einsum("bks,bcs->bck", level.flatten(2).float(), share)
        found.append((F.normalize(total / weight.clamp_min(1e-6)[..., None], dim=2), weight > 0))
    return found


class PrototypeMemory(nn.Module):
    """First-in-first-out memory of class prototypes, with a ring and a write pointer for each class.

    CORRECTION: with one shared pointer most of the memory would never be written. There is no random
    start: only written entries count.

    Args:
        classes: C.
        width: K, channels of a feature.
        entries: M, entries of each class.
    """

    values: Tensor
    written: Tensor

    def __init__(self, classes: int, width: int, entries: int) -> None:
        super().__init__()
        self.entries = entries
        # One spare slot takes what must not be stored. So no step must ask the device how many prototypes there are.
        self.register_buffer("values", torch.zeros(classes, entries + 1, width))
        self.register_buffer("written", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, prototypes: Tensor, keep: Tensor) -> None:
        """Store prototypes B x C x K where `keep` (B x C bool) is true, in batch order, from all ranks."""
        prototypes, keep = ranks.gather(prototypes), ranks.gather(keep)
        order = keep.long().cumsum(dim=0) - 1
        # If there are more than `entries` at once, the last ones stay.
        stays = keep & (keep.sum(dim=0) - order <= self.entries)
        slot = torch.where(stays, (self.written + order) % self.entries, self.entries)
        classes = torch.arange(len(self.written), device=slot.device).expand_as(slot)
        self.values[classes, slot] = prototypes.to(self.values.dtype)
        # The order of several writes to the spare slot is chance, and equal runs must have equal state.
        self.values[:, self.entries] = 0.0
        self.written += keep.sum(dim=0)

    @property
    def filled(self) -> Tensor:
        """C x M bool: entries that hold a prototype."""
        return torch.arange(self.entries, device=self.written.device) < self.written[:, None]

    def contrast(self, prototypes: Tensor, present: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        """IFE: InfoNCE of prototypes B x C x K, mean over those `present` (B x C bool) whose class has entries.

        Positive: the mean of the class's memory. Negatives: all entries of the other classes. Zero while no present
        class has both.
        """
        values, filled = self.values[:, : self.entries], self.filled
        count = filled.sum(dim=1)
        with torch.autocast(prototypes.device.type, enabled=False):
            all_similar = prototypes @ values.flatten(0, 1).T / temperature
        all_similar = all_similar.reshape(*prototypes.shape[:2], *filled.shape)
        # The product with the mean entry is the mean of the products; empty entries are zero.
        similar = all_similar.diagonal(dim1=1, dim2=2).sum(dim=1) / count.clamp_min(1)
        own = torch.eye(len(count), dtype=torch.bool, device=count.device)[None, :, :, None]
        others = all_similar.masked_fill(own | ~filled, float("-inf")).flatten(2)
        loss = torch.logsumexp(torch.cat([similar[..., None], others], dim=2), dim=2) - similar
        has_negative = (count.sum() - count) > 0
        valid = present & (count > 0) & has_negative
        loss = torch.where(valid, loss, torch.zeros_like(loss)).sum()
        whole, number = ranks.total(torch.stack([loss, valid.sum().to(loss.dtype)])).unbind()
        return whole / number.clamp_min(1)


class FeatureMemory(nn.ModuleList):
    """A subnet's memory: a `PrototypeMemory` of `entries` a class for each of its levels of `widths` channels."""

    def __init__(self, classes: int, widths: Sequence[int], entries: int) -> None:
        super().__init__(PrototypeMemory(classes, width, entries) for width in widths)
        self.classes = classes

    def levels(self) -> list[PrototypeMemory]:
        return cast(list[PrototypeMemory], list(self))

    def push(self, features: Sequence[Tensor], label: Tensor, allowed: Tensor) -> None:
        """Store the prototypes of B images (features of each level, label B x S) if `allowed` (a bool scalar)."""
        found = class_prototypes(features, label, self.classes)
        for memory, (prototypes, present) in zip(self.levels(), found, strict=True):
            memory.push(prototypes, present & allowed)

    def contrast(self, features: Sequence[Tensor], label: Tensor, temperature: float = TEMPERATURE) -> Tensor:
        """L_IFE: the mean over levels of `PrototypeMemory.contrast`."""
        found = class_prototypes(features, label, self.classes)
        losses = [memory.contrast(*level, temperature) for memory, level in zip(self.levels(), found, strict=True)]
        return torch.stack(losses).mean()


def region_consistency(
    features_1: Tensor, features_2: Tensor, regions: int = 3, temperature: float = TEMPERATURE
) -> Tensor:
    """IC: a region of one subnet against the same region of the other; the other's remaining regions are negatives.

    CORRECTION: normalised, and in both directions.

    Args:
        features_1, features_2: B x K x S', the same level of both subnets.
        regions: for each axis; both are average-pooled to them (fewer if the grid is smaller).
    """
    grid = [min(regions, size) for size in features_1.shape[2:]]
    # B x K x grid -> (B * regions) x K: negatives are taken over the whole batch.
    a, b = (
        F.normalize(ADAPTIVE_MEAN[f.ndim - 2](f.float(), grid).flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
        for f in (features_1, features_2)
    )
    with torch.autocast(a.device.type, enabled=False):
        a_to_b, b_to_a = a @ ranks.gather(b).T / temperature, b @ ranks.gather(a).T / temperature
    same = torch.arange(len(a), device=a.device) + ranks.rank() * len(a)
    return 0.5 * (F.cross_entropy(a_to_b, same) + F.cross_entropy(b_to_a, same))


def focal_contrast(
    features: Tensor, label: Tensor, unsure: Tensor, teacher: Tensor, temperature: float, gamma: float, hardest: int
) -> Tensor:
    """FeCL of DyCON (Assefa et al. 2025, arXiv:2504.04566): contrast of the locations of an image by their class.

    S is the cosine of two features, [S] its part in [0, 1], e = exp(S / temperature). P(i) are the other locations of
    the class of i, N(i) those of other classes. The loss of location i is

        mean over k in P(i) of  -F+ log p_ik,   p_ik = e_ik / (e_ik + sum over N(i) of F- e_iq + sum over T(i) of e_it)
        F+ = (1 - p_ik)^gamma exp(H_i),   F- = [S_iq]^gamma

    T(i): the `hardest` (most similar) of the teacher's features at N(i). Mean over the locations with a P(i).

    Args:
        features: B x N x K, L2-normalised; receive the gradient.
        label: B x N class indices.
        unsure: B x N, H; no gradient.
        teacher: B x N x K, L2-normalised, at the same locations; no gradient.
        gamma: zero or at least one.
    """
    with torch.autocast(features.device.type, enabled=False):
        similar = features.float() @ features.float().transpose(1, 2)
        to_teacher = features.float() @ teacher.detach().float().transpose(1, 2)
    same = label[:, :, None] == label[:, None, :]
    positive = same & ~torch.eye(label.shape[1], dtype=torch.bool, device=label.device)
    push = (similar.clamp(0.0, 1.0) ** gamma * (similar / temperature).exp() * ~same).sum(dim=2)
    hard = to_teacher.masked_fill(same, float("-inf")).topk(min(hardest, label.shape[1]), dim=2).values
    others = push + (hard / temperature).exp().sum(dim=2)
    odds = others[:, :, None] * (-similar / temperature).exp()  # (1 - p) / p
    pull = (odds / (1.0 + odds)) ** gamma * unsure.detach().exp()[:, :, None]
    loss = pull * torch.log1p(odds) * positive
    count = positive.sum(dim=2)
    loss = (loss.sum(dim=2) / count.clamp_min(1)).sum()
    whole, number = ranks.total(torch.stack([loss, (count > 0).sum().to(loss.dtype)])).unbind()
    return whole / number.clamp_min(1)
