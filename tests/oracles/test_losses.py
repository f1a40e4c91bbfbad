"""Every loss against its equation written out as loops over voxels, in float64 Python numbers.

Gradients are held against central differences of the same loops, which also tells what must not have a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from ucseg.losses.consistency import masked_mean, prediction_consistency, symmetric_divergence
from ucseg.losses.evidential import annealing, calibration_loss
from ucseg.losses.segmentation import (
    cross_entropy,
    dice_loss,
    hard_dice,
    most_likely,
    normalised_probabilities,
    one_hot,
    segmentation_loss,
)

Voxel = tuple[int, ...]
SHAPES = [(2, 3, 4), (2, 3, 2, 3)]  # B x S in 2D and in 3D, no two axes alike where it matters
PROBLEMS = [(shape, classes) for shape in SHAPES for classes in (2, 4)]
EVERY_PROBLEM = pytest.mark.parametrize(("shape", "classes"), PROBLEMS)


def random_logits(shape: Voxel, classes: int, seed: int, scale: float = 3.0) -> Tensor:
    """Values that float32 holds exactly, so that both sides see the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(shape[0], classes, *shape[1:], generator=generator)
    return (z * 64).round() / 64


def random_label(shape: Voxel, classes: int, seed: int) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def voxels(label_shape: Voxel) -> Iterator[Voxel]:
    return itertools.product(*(range(n) for n in label_shape))


def column(z: Tensor, voxel: Voxel) -> list[float]:
    """The values of all classes at (b, *site)."""
    return [float(z[(voxel[0], c, *voxel[1:])]) for c in range(z.shape[1])]


def sigma(column: list[float]) -> list[float]:
    """Per-class sigmoid for one foreground class, softmax otherwise."""
    if len(column) == 2:
        return [1 / (1 + math.exp(-v)) for v in column]
    total = sum(math.exp(v) for v in column)
    return [math.exp(v) / total for v in column]


def literal_cross_entropy(z: Tensor, y: Tensor) -> float:
    losses = []
    for voxel in voxels(tuple(y.shape)):
        p, true = sigma(column(z, voxel)), int(y[voxel])
        if len(p) == 2:
            losses += [-math.log(p[c]) if c == true else -math.log(1 - p[c]) for c in range(2)]
        else:
            losses.append(-math.log(p[true]))
    return sum(losses) / len(losses)


def literal_dice(z: Tensor, y: Tensor) -> float:
    """1 - 2 sum p y / (sum p + sum y), mean over classes; all axes are summed over."""
    scores = []
    for c in range(z.shape[1]):
        both = predicted = true = 0.0
        for voxel in voxels(tuple(y.shape)):
            p = sigma(column(z, voxel))[c]
            hit = 1.0 if int(y[voxel]) == c else 0.0
            both, predicted, true = both + p * hit, predicted + p, true + hit
        scores.append(2 * both / (predicted + true))
    return 1 - sum(scores) / len(scores)


def literal_consistency(z: Tensor, other: Tensor) -> float:
    losses = []
    for voxel in voxels((z.shape[0], *z.shape[2:])):
        for p, q in zip(sigma(column(z, voxel)), sigma(column(other, voxel)), strict=True):
            losses.append(-(q * math.log(p) + (1 - q) * math.log(1 - p)))
    return sum(losses) / len(losses)


def literal_calibration(z: Tensor, y: Tensor, t: int, total: int) -> float:
    beta = 0.01 ** (1 - t / total)
    losses = []
    for voxel in voxels(tuple(y.shape)):
        alpha = [math.log(1 + math.exp(v)) + 1 for v in column(z, voxel)]
        strength = sum(alpha)
        p = [a / strength for a in alpha]
        u = len(alpha) / strength
        if p.index(max(p)) == int(y[voxel]):
            losses.append(beta * (-max(p) * math.log(1 - u)))
        else:
            losses.append((1 - beta) * (-(1 - max(p)) * math.log(u)))
    return sum(losses) / len(losses)


def hold_gradient(loss: Callable[[Tensor], Tensor], literal: Callable[[Tensor], float], z: Tensor) -> None:
    """Autograd against central differences, at some coordinates."""
    leaf = z.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    flat = leaf.grad.flatten()
    for index in range(0, z.numel(), max(1, z.numel() // 7)):
        shifted = []
        for sign in (1, -1):
            moved = z.double().flatten()
            moved[index] += sign * 1e-5
            shifted.append(literal(moved.reshape(z.shape)))
        assert float(flat[index]) == pytest.approx((shifted[0] - shifted[1]) / 2e-5, rel=1e-3, abs=1e-7)


@EVERY_PROBLEM
def test_cross_entropy_is_per_class_for_binary_and_softmax_otherwise(shape: Voxel, classes: int) -> None:
    z, y = random_logits(shape, classes, 0), random_label(shape, classes, 1)
    assert float(cross_entropy(z, y, classes == 2)) == pytest.approx(literal_cross_entropy(z, y), rel=1e-5)
    hold_gradient(lambda v: cross_entropy(v, y, classes == 2), lambda v: literal_cross_entropy(v, y), z)


@EVERY_PROBLEM
def test_dice_sums_over_the_batch_and_all_spatial_axes(shape: Voxel, classes: int) -> None:
    z, y = random_logits(shape, classes, 2), random_label(shape, classes, 3)

    def loss(v: Tensor) -> Tensor:
        return dice_loss(v.sigmoid() if classes == 2 else v.softmax(1), y)

    assert float(loss(z)) == pytest.approx(literal_dice(z, y), rel=1e-5)
    hold_gradient(loss, lambda v: literal_dice(v, y), z)


@EVERY_PROBLEM
def test_segmentation_loss_is_cross_entropy_plus_dice(shape: Voxel, classes: int) -> None:
    z, y = random_logits(shape, classes, 4), random_label(shape, classes, 5)
    expected = literal_cross_entropy(z, y) + literal_dice(z, y)
    assert float(segmentation_loss(z, y, classes == 2)) == pytest.approx(expected, rel=1e-5)


def test_a_class_in_neither_target_nor_prediction_costs_nothing() -> None:
    y = torch.tensor([[0, 0, 1, 1]])
    assert float(dice_loss(one_hot(y, 3), y)) == pytest.approx(0.0, abs=1e-6)
    assert float(dice_loss(one_hot(torch.tensor([[0, 2, 1, 1]]), 3), y)) > 0.3


@EVERY_PROBLEM
def test_consistency_is_over_all_classes_with_gradient_in_the_first_only(shape: Voxel, classes: int) -> None:
    z, other = random_logits(shape, classes, 6), random_logits(shape, classes, 7).requires_grad_()
    value = prediction_consistency(z, other, classes == 2)
    assert float(value.detach()) == pytest.approx(literal_consistency(z, other.detach()), rel=1e-5)
    fixed = other.detach()
    hold_gradient(lambda v: prediction_consistency(v, other, classes == 2), lambda v: literal_consistency(v, fixed), z)
    assert other.grad is None


@pytest.mark.parametrize("classes", [2, 3])
def test_consistency_stays_finite_where_a_subnet_is_certain(classes: int) -> None:
    z = torch.zeros(1, classes, 4)
    z[:, 0] = 200.0
    z = z.requires_grad_()
    loss = prediction_consistency(z, -z, classes == 2)
    loss.backward()
    assert torch.isfinite(loss) and z.grad is not None and bool(torch.isfinite(z.grad).all())


@EVERY_PROBLEM
@pytest.mark.parametrize("t", [0, 30, 100])
def test_calibration_loss(shape: Voxel, classes: int, t: int) -> None:
    z, y = random_logits(shape, classes, 8), random_label(shape, classes, 9)
    assert float(calibration_loss(z, y, annealing(t / 100))) == pytest.approx(
        literal_calibration(z, y, t, 100), rel=1e-5
    )
    hold_gradient(lambda v: calibration_loss(v, y, annealing(t / 100)), lambda v: literal_calibration(v, y, t, 100), z)


def test_calibration_asks_for_certainty_where_right_and_doubt_where_wrong() -> None:
    certain, doubtful = (torch.tensor([[v, v - 0.1]]).reshape(1, 2, 1) for v in (4.0, -4.0))
    right, wrong = torch.tensor([[0]]), torch.tensor([[1]])
    assert float(calibration_loss(certain, right, 0.5)) < float(calibration_loss(doubtful, right, 0.5))
    assert float(calibration_loss(certain, wrong, 0.5)) > float(calibration_loss(doubtful, wrong, 0.5))


def test_calibration_is_finite_without_any_evidence_and_with_very_much() -> None:
    for value in (-300.0, 0.0, 1e6):
        z = torch.full((1, 2, 3), value).requires_grad_()
        loss = calibration_loss(z, torch.tensor([[0, 1, 0]]), 0.5)
        loss.backward()
        assert torch.isfinite(loss) and z.grad is not None and bool(torch.isfinite(z.grad).all())


def test_annealing_goes_from_one_hundredth_to_one() -> None:
    assert [annealing(f) for f in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.01, 0.01**0.75, 0.1, 1.0])
    assert annealing(0.0, 0.2) == pytest.approx(0.2)


@EVERY_PROBLEM
def test_hard_dice_is_the_mean_over_foreground_classes_that_occur(shape: Voxel, classes: int) -> None:
    z, y = random_logits(shape, classes, 10), random_label(shape, classes, 11)
    y[y == classes - 1] = 0  # the last class occurs in the prediction alone
    scores = []
    for c in range(1, classes):
        both = predicted = true = 0
        for voxel in voxels(shape):
            values = column(z, voxel)
            guess = values.index(max(values)) == c
            both, predicted, true = both + (guess and y[voxel] == c), predicted + guess, true + int(y[voxel] == c)
        if predicted + true:
            scores.append(2 * int(both) / (predicted + true))
    assert float(hard_dice(z, y)) == pytest.approx(sum(scores) / len(scores), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_most_likely_class_is_the_first_of_the_largest_logits(classes: int) -> None:
    z = torch.randn(2, classes, 5, 6, 7)
    assert torch.equal(most_likely(z), z.argmax(dim=1))
    assert not most_likely(torch.ones_like(z)).any()


def test_hard_dice_skips_a_class_that_does_not_occur() -> None:
    y = torch.tensor([[0, 0, 1, 1]])
    assert float(hard_dice(10 * one_hot(y, 4), y)) == 1.0
    assert float(hard_dice(10 * one_hot(torch.zeros_like(y), 4), torch.zeros_like(y))) == 1.0
    assert float(hard_dice(10 * one_hot(torch.zeros_like(y), 4), y)) == 0.0


@EVERY_PROBLEM
def test_normalised_probabilities_are_sigma_divided_by_its_sum(shape: Voxel, classes: int) -> None:
    z = random_logits(shape, classes, 12)
    found = normalised_probabilities(z, classes == 2)
    for voxel in voxels(shape):
        p = sigma(column(z, voxel))
        assert column(found, voxel) == pytest.approx([v / sum(p) for v in p], rel=1e-5)


def test_normalised_probabilities_sum_to_one_however_low_all_logits_are() -> None:
    z = torch.tensor([-120.0, -110.0]).reshape(1, 2, 1)
    found = normalised_probabilities(z, True)
    assert float(found.sum()) == pytest.approx(1.0)
    assert int(found.argmax(dim=1)) == 1


@EVERY_PROBLEM
def test_symmetric_divergence_is_the_mean_of_both_kullback_leibler_divergences(shape: Voxel, classes: int) -> None:
    a, b = random_logits(shape, classes, 1), random_logits(shape, classes, 2)
    total, count = 0.0, 0
    for voxel in voxels(shape):
        p, q = ([v / sum(s) for v in s] for s in (sigma(column(a, voxel)), sigma(column(b, voxel))))
        forth = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
        back = sum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
        total, count = total + (forth + back) / 2, count + 1
    assert float(symmetric_divergence(a, b, classes == 2)) == pytest.approx(total / count, rel=1e-4)
    assert float(symmetric_divergence(a, a, classes == 2)) == 0.0


def test_symmetric_divergence_is_finite_between_opposite_certainties() -> None:
    z = torch.tensor([300.0, -300.0]).reshape(1, 2, 1, 1).requires_grad_()
    value = symmetric_divergence(z, -z.detach(), True)
    value.backward()
    assert torch.isfinite(value) and z.grad is not None and torch.isfinite(z.grad).all()


def test_masked_mean_counts_what_is_inside_and_is_zero_without_any() -> None:
    values = torch.tensor([1.0, 2.0, 30.0])
    assert float(masked_mean(values, torch.tensor([True, True, False]))) == 1.5
    assert float(masked_mean(values, torch.zeros(3, dtype=torch.bool))) == 0.0
