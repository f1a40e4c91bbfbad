"""DyCON's two losses against their equations written as loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from test_losses import EVERY_PROBLEM, Voxel, column, hold_gradient, random_logits, sigma, voxels
from torch import Tensor

from ucseg.losses.consistency import uncertain_consistency
from ucseg.losses.contrastive import focal_contrast


def entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p)


def literal_uncl(z: Tensor, teacher: Tensor, beta: float) -> float:
    total, count = 0.0, 0
    for voxel in voxels((z.shape[0], *z.shape[2:])):
        p, q = ([v / sum(s) for v in s] for s in (sigma(column(z, voxel)), sigma(column(teacher, voxel))))
        divergence = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        weight = math.exp(beta * entropy(p)) + math.exp(beta * entropy(q))
        total, count = total + divergence / weight + beta * (entropy(p) + entropy(q)), count + 1
    return total / count


@EVERY_PROBLEM
@pytest.mark.parametrize("beta", [0.5, 5.0])
def test_uncl_divides_the_divergence_by_uncertainty_and_makes_uncertainty_cost(
    shape: Voxel, classes: int, beta: float
) -> None:
    z, teacher = random_logits(shape, classes, 0), random_logits(shape, classes, 1).requires_grad_()
    found = uncertain_consistency(z, teacher, beta, classes == 2)
    fixed = teacher.detach()
    assert float(found) == pytest.approx(literal_uncl(z, fixed, beta), rel=1e-4)
    hold_gradient(
        lambda v: uncertain_consistency(v, teacher, beta, classes == 2), lambda v: literal_uncl(v, fixed, beta), z
    )
    assert teacher.grad is None


@pytest.mark.parametrize("classes", [2, 3])
def test_uncl_is_finite_between_opposite_certainties(classes: int) -> None:
    z = torch.zeros(1, classes, 4)
    z[:, 0] = 200.0
    z = z.requires_grad_()
    value = uncertain_consistency(z, -z.detach(), 5.0, classes == 2)
    value.backward()
    assert torch.isfinite(value) and z.grad is not None and bool(torch.isfinite(z.grad).all())


def literal_fecl(
    f: Tensor, label: Tensor, unsure: Tensor, teacher: Tensor, temperature: float, gamma: float, hardest: int
) -> float:
    losses = []
    for b in range(len(f)):
        count = f.shape[1]
        for i in range(count):
            positives = [k for k in range(count) if k != i and label[b, k] == label[b, i]]
            negatives = [q for q in range(count) if label[b, q] != label[b, i]]
            if not positives:
                continue
            divisor = 0.0
            for q in negatives:
                s = float(f[b, i] @ f[b, q])
                divisor += min(max(s, 0.0), 1.0) ** gamma * math.exp(s / temperature)
            near = sorted((float(f[b, i] @ teacher[b, q]) for q in negatives), reverse=True)
            divisor += sum(math.exp(s / temperature) for s in near[:hardest])
            total = 0.0
            for k in positives:
                s = float(f[b, i] @ f[b, k])
                e = math.exp(s / temperature)
                p = e / (e + divisor)
                total -= (1 - p) ** gamma * math.exp(float(unsure[b, i])) * math.log(p)
            losses.append(total / len(positives))
    return sum(losses) / len(losses)


def case(classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    f, teacher = F.normalize(torch.randn(2, 2, 9, 4, generator=generator), dim=3)
    label = torch.randint(0, classes, (2, 9), generator=generator)
    label[1, :] = 0
    label[1, 3] = 1  # alone of its class: nothing is like it
    return f, label, torch.rand(2, 9, generator=generator), teacher


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("gamma", "hardest"), [(2.0, 3), (1.0, 50), (0.0, 1)])
def test_fecl_weighs_hard_pairs_and_unsure_locations(classes: int, gamma: float, hardest: int) -> None:
    f, label, unsure, teacher = case(classes)
    teacher.requires_grad_()
    found = focal_contrast(f, label, unsure, teacher, 0.6, gamma, hardest)
    assert float(found) == pytest.approx(
        literal_fecl(f, label, unsure, teacher.detach(), 0.6, gamma, hardest), rel=1e-4
    )
    hold_gradient(
        lambda v: focal_contrast(v, label, unsure, teacher, 0.6, gamma, hardest),
        lambda v: literal_fecl(v, label, unsure, teacher.detach().double(), 0.6, gamma, hardest),
        f,
    )
    assert teacher.grad is None


def test_fecl_pulls_hard_positives_more_and_is_zero_and_finite_where_there_is_nothing_to_contrast() -> None:
    f = F.normalize(torch.tensor([[[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [0.6, 0.6]]]), dim=2).requires_grad_()
    unsure, other = torch.zeros(1, 4), torch.tensor([[0, 0, 0, 1]])
    pairs = [focal_contrast(f, other, unsure, f.detach(), 0.6, gamma, 1).detach() for gamma in (1.0, 2.0, 4.0)]
    assert pairs[0] > pairs[1] > pairs[2], "easy positives count less"
    one_class = focal_contrast(f, torch.zeros(1, 4), unsure, f.detach(), 0.6, 2.0, 3)
    each_its_own = focal_contrast(f, torch.arange(4)[None], unsure, f.detach(), 0.6, 2.0, 3)
    assert float(one_class.detach()) == float(each_its_own.detach()) == 0.0
    (one_class + each_its_own).backward()
    assert f.grad is not None and bool(torch.isfinite(f.grad).all())
