"""Two networks that agree on unlabelled images and resist each other's adversarial ones."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from small_cases import LATE, make_batch, make_method, make_problem, step, terms_of

from ucseg.losses.consistency import jensen_shannon
from ucseg.losses.segmentation import cross_entropy, normalised_probabilities, soft_cross_entropy
from ucseg.methods.deep_co_training import DeepCoTraining


def make(dims: int = 2, classes: int = 3, **settings: object) -> DeepCoTraining:
    method = make_method("deep_co_training", make_problem(dims, classes), settings)
    assert isinstance(method, DeepCoTraining)
    return method


def test_jensen_shannon_is_its_equation_voxel_by_voxel() -> None:
    torch.manual_seed(0)
    p = torch.randn(2, 2, 3, 4, dtype=torch.float64).mul(2).softmax(dim=2)
    expected = 0.0
    for b in range(2):
        for i in range(4):
            first, second = p[0, b, :, i].tolist(), p[1, b, :, i].tolist()
            mean = [(x + y) / 2 for x, y in zip(first, second, strict=True)]
            for own in (first, second):
                expected += sum(x * math.log(x / m) for x, m in zip(own, mean, strict=True)) / 2 / 8
    assert float(jensen_shannon(p)) == pytest.approx(expected, rel=1e-9)
    assert float(jensen_shannon(p[:1].expand(2, -1, -1, -1))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("binary", [False, True])
def test_soft_cross_entropy_is_its_equation(binary: bool) -> None:
    torch.manual_seed(0)
    z, q = torch.randn(2, 2, 5), torch.randn(2, 2, 5).softmax(dim=1)
    p = z.sigmoid() / z.sigmoid().sum(dim=1, keepdim=True) if binary else z.softmax(dim=1)
    expected = -(q * p.log()).sum() / 10
    assert float(soft_cross_entropy(z, q, binary)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_is_the_papers_equation(classes: int) -> None:
    method, binary = make(classes=classes).eval(), classes == 2
    batch = make_batch(method, method.problem)
    found = terms_of(method, batch)
    image = torch.cat([batch.labelled, batch.unlabelled["image"]])
    p, adversarial = [], []
    for network in method.networks.values():
        seen = image.clone().requires_grad_()
        z = network(seen)[0]
        p.append(normalised_probabilities(z.detach(), binary))
        cross_entropy(z, torch.cat([batch.label, z[2:].argmax(dim=1)]), binary).backward()
        assert seen.grad is not None
        adversarial.append(image + 0.1 * seen.grad.sign())
    with torch.no_grad():
        for k, network in enumerate(method.networks.values()):
            misled = normalised_probabilities(network(adversarial[1 - k])[0], binary)
            expected = -(p[1 - k] * misled.log()).sum(dim=1).mean()
            assert found[f"diversity_{k + 1}"] == pytest.approx(0.5 * float(expected), rel=1e-3)
    assert found["agreement"] == pytest.approx(10 * float(jensen_shannon(torch.stack(p)[:, 2:])), rel=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_adversarial_image_misleads_its_network_and_differs_by_the_step_size(dims: int) -> None:
    method = make(dims).eval()
    batch = make_batch(method, method.problem, 1, 1)
    image = torch.cat([batch.labelled, batch.unlabelled["image"]])
    for network in method.networks.values():
        z, adversarial = method.attack(network, image, batch)
        target = torch.cat([batch.label, z[1:].argmax(dim=1)])
        with torch.no_grad():
            misled = cross_entropy(network(adversarial)[0], target, False)
        assert float(misled) > float(cross_entropy(z.detach(), target, False))
        change = (adversarial - image).abs()
        assert float(change.max()) == pytest.approx(0.1, rel=1e-4)
        assert float((change > 0.09).float().mean()) > 0.9
        assert not adversarial.requires_grad


@pytest.mark.parametrize("half", [False, True])
def test_the_attack_leaves_no_gradient_and_none_comes_through_it(half: bool) -> None:
    method = make()
    batch = make_batch(method, method.problem)
    with torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext():
        output = step(method, batch, LATE)
    assert all(p.grad is None for p in method.parameters())
    assert batch.labelled.grad is None and not batch.labelled.requires_grad
    for k in (0, 1):
        for j, network in enumerate(method.networks.values()):
            gradients = torch.autograd.grad(
                output.terms[f"diversity_{k + 1}"], list(network.parameters()), retain_graph=True, allow_unused=True
            )
            assert any(g is not None for g in gradients) == (j == k)
    output.loss.backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in method.parameters())
