"""Heads on every scale of the decoder, supervised alike, and drawn to their mean where they are near it already."""

from __future__ import annotations

import math

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of

from ucseg.losses.consistency import rectified_consistency
from ucseg.losses.segmentation import segmentation_loss
from ucseg.methods.urpc import URPC
from ucseg.types import Progress


def make(dims: int = 2, classes: int = 3, **settings: object) -> URPC:
    method = make_method("urpc", make_problem(dims, classes), settings)
    assert isinstance(method, URPC)
    return method


@pytest.mark.parametrize("classes", [2, 4])
def test_rectified_consistency_is_its_equation_voxel_by_voxel(classes: int) -> None:
    torch.manual_seed(0)
    p = torch.randn(3, 2, classes, 3, 2, dtype=torch.float64).mul(2).softmax(dim=2)
    expected = 0.0
    for s in range(3):
        squared = certain = apart = 0.0
        for b in range(2):
            for place in ((i, j) for i in range(3) for j in range(2)):
                own = [float(p[(s, b, c, *place)]) for c in range(classes)]
                mean = [sum(float(p[(k, b, c, *place)]) for k in range(3)) / 3 for c in range(classes)]
                distance = sum(a * math.log(a / m) for a, m in zip(own, mean, strict=True))
                squared += sum(math.exp(-distance) * (a - m) ** 2 for a, m in zip(own, mean, strict=True)) / classes
                certain += math.exp(-distance)
                apart += distance / 12
        expected += (squared / certain + apart) / 3
    assert float(rectified_consistency(p)) == pytest.approx(expected, rel=1e-9)


def test_scales_that_agree_cost_nothing_and_sure_ones_that_disagree_stay_finite() -> None:
    p = torch.rand(1, 2, 3, 4, 4).softmax(dim=2).expand(4, -1, -1, -1, -1)
    assert float(rectified_consistency(p)) == pytest.approx(0, abs=1e-6)
    sure = torch.eye(2).reshape(2, 1, 2, 1).expand(2, 1, 2, 5).clone().requires_grad_()
    loss = rectified_consistency(sure)
    loss.backward()
    # Half a bit of disagreement each: (1/2)^2 + log 2.
    assert float(loss.detach()) == pytest.approx(0.25 + math.log(2), rel=1e-5)
    assert sure.grad is not None and bool(torch.isfinite(sure.grad).all())


@pytest.mark.parametrize("dims", [2, 3])
def test_every_scale_has_a_head_of_its_own_at_the_images_size(dims: int) -> None:
    method = make(dims)
    shape = (37, 21) if dims == 2 else (17, 10, 21)
    widths: list[int] = []
    for head in method.heads:
        head.register_forward_hook(lambda _m, inputs, _o: widths.append(inputs[0].shape[2]))
    with torch.no_grad():
        z = method.pyramid(torch.randn(1, 1, *shape), LATE)
    assert [tuple(z_s.shape) for z_s in z] == [(1, 3, *shape)] * 4
    full = -(-shape[0] // 16) * 16
    assert widths == [full // 8, full // 4, full // 2]


def test_every_scale_is_supervised_and_consistency_sees_only_unlabelled_images() -> None:
    method = make(dropout=0.0, noise=0.0).eval()
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)
    with torch.no_grad():
        z = method.pyramid(batch.labelled, LATE)
        u = method.pyramid(batch.unlabelled["image"], LATE)
    expected = sum(float(segmentation_loss(z_s, batch.label, False)) for z_s in z) / 4
    assert found["supervised"] == pytest.approx(expected, rel=1e-5)
    p = torch.stack([z_s.softmax(dim=1) for z_s in u])
    # The published 0.1, beside half of this supervised loss; LATE is a hundredth before the end of the ramp.
    weight = 0.2 * math.exp(-5 * 0.01**2)
    assert found["consistency"] == pytest.approx(weight * float(rectified_consistency(p)), rel=1e-4)
    gradients = torch.autograd.grad(step(method, batch).terms["consistency"], list(method.heads.parameters()))
    assert all(bool(g.any()) for g in gradients)


def test_coarse_maps_are_perturbed_by_the_steps_own_draws_and_the_finest_is_not() -> None:
    method = make().eval()
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        first, again, later = (method.pyramid(image, Progress(at, 100)) for at in (99, 99, 98))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [torch.equal(a, b) for a, b in zip(first, later, strict=True)] == [False, False, False, True]


@pytest.mark.parametrize("scales", [2, 3])
def test_fewer_scales_are_the_finest_ones(scales: int) -> None:
    method = make(scales=scales)
    assert [head.in_channels for head in method.heads] == [32, 16][-(scales - 1) :]
    with torch.no_grad():
        assert len(method.pyramid(torch.randn(1, 1, 32, 32), LATE)) == scales
